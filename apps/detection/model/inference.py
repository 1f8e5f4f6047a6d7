"""Run a detector over a split."""

from typing import Any

from tqdm import tqdm

from apps.common.data.problems import some_of
from apps.common.device import make_loader
from apps.common.images import stack_images
from apps.common.training.distributed import Processes
from apps.detection.data.batches import make_eval_set
from apps.detection.data.coco_classes import match_names
from apps.detection.data.coco_split import CocoSplit
from apps.detection.model.detector import Detector


def predict_split(
    detector: Detector,
    split: CocoSplit,
    *,
    batch_size: int,
    num_workers: int,
    progress: bool = True,
    processes: Processes = Processes(),  # noqa: B008
) -> list[dict[str, Any]]:
    """Detections of all images of a split, in COCO's results format: boxes xywh in pixels, the file's own ids.

    Each of the `processes` runs its share of the images, and all get all detections, in the order of the images.
    """
    total = len(split.records)
    split = split.take(processes.share(range(total)))
    dataset = make_eval_set(split, resolution=detector.resolution)
    loader = make_loader(dataset, batch_size=batch_size, collate_fn=stack_images, num_workers=num_workers)
    category_ids = _ids_by_name(detector, split)
    records = iter(split.records)
    by_image: list[list[dict[str, Any]]] = []
    shown = progress and processes.is_first
    for images in tqdm(loader, desc=f"evaluating {split.name}", leave=False, disable=None if shown else True):
        for detections in detector(images):
            record = next(records)
            boxes = detections.boxes_xyxy.cpu().numpy().astype(float) * ([record.width, record.height] * 2)
            boxes[:, 2:] -= boxes[:, :2]
            found = zip(boxes.round(2).tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
            by_image.append(
                [
                    {"image_id": record.image_id, "category_id": category_ids[k], "bbox": box, "score": round(score, 5)}
                    for box, score, k in found
                    if k in category_ids
                ]
            )
    return [result for results in processes.gather(by_image, total) for result in results]


def _ids_by_name(detector: Detector, split: CocoSplit) -> dict[int, int]:
    """The split's category id of each of the detector's labels, joined by class name (see `match_names`).

    Raises:
        ValueError: they have no class in common.
    """
    matched = match_names(detector.class_names, split.class_names)
    joined = {label: split.category_ids[i] for label, i in enumerate(matched, start=1) if i is not None}
    if not joined:
        known, there = (some_of(names, most=5) for names in (detector.class_names, split.class_names))
        raise ValueError(f"the checkpoint knows {known}, the data has {there}: no class in common")
    return joined
