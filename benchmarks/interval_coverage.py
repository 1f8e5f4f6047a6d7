"""How often the 95 % interval of AP holds the mean over sets of as many photos: drawn from VOC2007, made detections.

    python benchmarks/interval_coverage.py ../shared/data/detection/voc2007 [person]

With a class name, of that class alone. It takes two minutes. Printed figures are in docs/own_photos.md.
"""

import sys
from pathlib import Path

import numpy as np

from apps.common.evaluation import intervals
from apps.detection.data.coco_split import CocoSplit
from apps.detection.data.load import load_split
from apps.detection.evaluation.metrics import run_cocoeval
from apps.detection.evaluation.resampling import ap_measure

SETS, DRAWS = 300, 600


def made_detections(split: CocoSplit, rng: np.random.Generator) -> list[dict]:
    """Most objects, shifted, some of another class; better on some photos than on others. And some of nothing."""
    quality = {record.image_id: rng.random() for record in split.records}
    found = []
    for one in split.ground_truth["annotations"]:
        (x, y, w, h), good = one["bbox"], quality[one["image_id"]]
        if rng.random() < 0.6 + 0.35 * good:
            spread = 0.12 - 0.1 * good
            k = one["category_id"] if rng.random() < 0.93 else int(rng.choice(split.category_ids))
            moved = [x + rng.normal() * w * spread, y + rng.normal() * h * spread]
            sides = [w * np.exp(rng.normal() * spread), h * np.exp(rng.normal() * spread)]
            score = float(rng.beta(4, 2))
            found.append({"image_id": one["image_id"], "category_id": k, "bbox": moved + sides, "score": score})
    for record in split.records:
        for _ in range(rng.poisson(1.5)):
            w, h = record.width * rng.random() * 0.5 + 5, record.height * rng.random() * 0.5 + 5
            k = int(rng.choice(split.category_ids))
            box = [rng.random() * (record.width - w), rng.random() * (record.height - h), w, h]
            found.append({"image_id": record.image_id, "category_id": k, "bbox": box, "score": float(rng.beta(2, 4))})
    return found


def main(data: Path, name: str | None) -> None:
    split, rng = load_split(data, "train"), np.random.default_rng(0)
    found = made_detections(split, rng)
    if name:
        k = split.category_ids[split.class_names.index(name)]
        found = [one for one in found if one["category_id"] == k]
        truth = split.ground_truth
        truth["annotations"] = [one for one in truth["annotations"] if one["category_id"] == k]
    measure, total = ap_measure(run_cocoeval(split, found)), len(split.records)
    print(f"{total:,} photos: AP {measure(np.ones((1, total)))['AP'][0]:.3f}")
    for number in (60, 200):
        held = []
        for _ in range(SETS):
            drawn = rng.integers(total, size=number)

            def of_set(times: np.ndarray, drawn: np.ndarray = drawn) -> dict[str, np.ndarray]:
                of_all = np.zeros((len(times), total))
                np.add.at(of_all.T, drawn, times.T)
                return dict(measure(of_all))

            with np.errstate(invalid="ignore"):
                of_figures = intervals.Figures.of(of_set, number).intervals()
            held += [of_figures["AP"]] if "AP" in of_figures else []  # else none of the photos has an object
        draws = [np.bincount(rng.integers(total, size=number), minlength=total) for _ in range(DRAWS)]
        mean = np.nanmean(measure(np.stack(draws).astype(float))["AP"])
        share = np.mean([one.low <= mean <= one.high for one in held])
        print(f"{number} photos: AP {mean:.3f} on average; {share:.0%} of {len(held)} intervals hold it")


if __name__ == "__main__":
    intervals.NUM_RESAMPLES = 200
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
