"""Training and evaluation images: reading, augmenting, batching.

Every random choice comes from `SampleKey.rng()`, a function of seed, epoch and index. The geometry is the SSD paper's
(section 2.2, "Data augmentation"): a window into or around the image, warped to the network's square at once; the
colours are albumentations'.

Letters in shapes: B batch, H W height and width, N boxes of an image.
"""

import functools
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apps.common.data.augment import changed, import_albumentations
from apps.common.data.eval_set import EvalSet
from apps.common.images import read_image, resize, stack_images
from apps.common.training.sampling import SampleKey, repeat_factors
from apps.detection.choices import Augment
from apps.detection.data.coco_split import CocoSplit, ImageRecord, other_size


class Targets(NamedTuple):
    """The padded objects of a batch; made by `collate`.

    Attributes:
        boxes_xyxy: (B, N, 4) float32, in image sides, 0 to 1; padding is 0.
        labels: (B, N) int64, 1 to K; 0 is padding.
        is_crowd: (B, N) bool, boxes around a crowd: neither positive nor background.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    is_crowd: Tensor

    def to(self, device: torch.device) -> "Targets":
        return Targets(*(tensor.to(device, non_blocking=True) for tensor in self))


if TYPE_CHECKING:
    import albumentations as A

MIN_COVERAGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # of a box, by the crop made for it
KEEP_WHOLE = 0.4  # share of training images that are not cropped
ZOOM_OUT = 0.15  # share of images that are zoomed out, onto a plain background
MAX_ZOOM_OUT = 2.0  # side of the ground in image sides
CROP_TRIES = 32
GROUND = (127, 127, 127)  # the area outside of an image
WHOLE = np.array([0.0, 0.0, 1.0, 1.0])  # the window that is the image itself


class Sample(NamedTuple):
    """One image (H, W, 3) uint8 with its boxes (N, 4) in image sides, labels (N,) and crowd flags (N,)."""

    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray


def make_colours() -> "A.Compose":
    """The colour augmentation."""
    A = import_albumentations()
    jitter = A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.6, 1.4), hue=(-0.03, 0.03), p=0.8)
    return A.Compose([jitter])


class TrainingSet(Dataset):
    """Augmented samples at the network's resolution; indexed by `SampleKey`.

    Args:
        augment: "none"; "mirror": half of the images; "full": also a random window and colours.
    """

    def __init__(self, split: CocoSplit, *, resolution: int, augment: Augment = "full") -> None:
        self.records = split.records
        self.resolution = resolution
        self.augment = augment
        self.colours = make_colours()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> Sample:
        sample = read_sample(self.records[key.item])
        rng = key.rng()
        window = random_window(sample, rng) if self.augment == "full" else WHOLE
        sample = warp(sample, window, self.resolution)
        if self.augment != "none" and rng.random() < 0.5:
            sample = mirror(sample)
        if self.augment != "full":
            return sample
        return sample._replace(image=changed(sample.image, self.colours, rng))


def image_repeats(dataset: TrainingSet, threshold: float, *, name: str) -> np.ndarray | None:
    """How often each image is shown in an epoch, see `repeat_factors`; None for once (threshold 0).

    Raises:
        ValueError: no image has an object.
    """
    labels = [record.labels[~record.is_crowd] for record in dataset.records]
    if not any(map(len, labels)):
        raise ValueError(f"--data {name}: no photo of train has an object to learn")
    if not threshold:
        return None
    repeats = repeat_factors(labels, threshold)
    print(f"{(repeats > 1).mean():.0%} of the images are repeated, at most {repeats.max():.1f} times")
    return repeats


def make_eval_set(split: CocoSplit, *, resolution: int) -> EvalSet[ImageRecord]:
    """Whole images warped to the network's square, for evaluation, prediction and demos."""
    return EvalSet(split.records, functools.partial(_read_square, resolution=resolution))


def _read_square(record: ImageRecord, resolution: int) -> np.ndarray:
    return to_square(read_sample(record).image, resolution)


def to_square(image: np.ndarray, resolution: int) -> np.ndarray:
    """(H, W, 3) to (resolution, resolution, 3), ignoring the aspect ratio, as the reference: the eval transform."""
    return resize(image, resolution, resolution)


def read_sample(record: ImageRecord) -> Sample:
    """Read an image and convert its boxes to image sides.

    Raises:
        ValueError: the image is unreadable, or of another size than its annotation says; the message names it.
    """
    image = read_image(record.path)
    if image.shape[:2] != (record.height, record.width):
        image = read_image(record.path, orient=False)  # annotated as stored, not as rotated by its EXIF tag
        if image.shape[:2] != (record.height, record.width):
            raise ValueError(other_size(record, image.shape[1], image.shape[0]))
    scale = np.array([record.width, record.height] * 2, dtype=np.float32)
    return Sample(image, record.boxes_xyxy_px / scale, record.labels, record.is_crowd)


def random_window(sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """A window (4,) xyxy in image sides: the whole image, a larger ground around it, or a crop.

    Crops have 0.1 to 1 of the image's area and an aspect ratio of 1/2 to 2 (relative to the image's), contain the
    centre of a box, and at least a randomly drawn minimum of it.
    """
    kind = rng.random()
    if kind < KEEP_WHOLE:
        return WHOLE
    if kind < KEEP_WHOLE + ZOOM_OUT:
        side = rng.uniform(1.0, MAX_ZOOM_OUT)
        corner = -rng.uniform(0.0, side - 1.0, 2)
        return np.concatenate((corner, corner + side))
    sides = np.sqrt(rng.uniform(0.1, 1.0, CROP_TRIES))
    ratios = np.exp(rng.uniform(-np.log(2) / 2, np.log(2) / 2, CROP_TRIES))
    size = np.minimum(np.stack((sides * ratios, sides / ratios), axis=1), 1.0)
    corner = rng.random((CROP_TRIES, 2)) * (1.0 - size)
    windows = np.concatenate((corner, corner + size), axis=1)
    boxes = sample.boxes_xyxy[~sample.is_crowd]
    if not len(boxes):
        return windows[0]
    low = np.maximum(windows[:, None, :2], boxes[None, :, :2])
    high = np.minimum(windows[:, None, 2:], boxes[None, :, 2:])
    covered = (high - low).clip(0).prod(axis=2) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    good = (covered >= rng.choice(MIN_COVERAGES)) & _holds_centre(windows[:, None], boxes[None])
    found = np.flatnonzero(good.any(axis=1))
    return windows[found[0]] if len(found) else WHOLE


def warp(sample: Sample, window_xyxy: np.ndarray, resolution: int) -> Sample:
    """Resize a window, in image sides, to a square of `resolution` pixels.

    Pixels outside the image have a plain colour. Boxes whose centre is in the window are kept, clipped to it.
    """
    height, width = sample.image.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in window_xyxy * [width, height, width, height])
    x0, y0 = min(x0, width - 1), min(y0, height - 1)  # of a crop, in a photo of two pixels
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    from_x, to_x, from_y, to_y = max(x0, 0), min(x1, width), max(y0, 0), min(y1, height)
    inside = sample.image[from_y:to_y, from_x:to_x]
    # The photo's position in the square, in whole pixels: boxes follow it, not the window, which has fractions.
    left, right = (round((x - x0) / (x1 - x0) * resolution) for x in (from_x, to_x))
    top, bottom = (round((y - y0) / (y1 - y0) * resolution) for y in (from_y, to_y))
    if inside.shape[:2] == (y1 - y0, x1 - x0):
        image = resize(inside, resolution, resolution)
    else:
        image = np.full((resolution, resolution, 3), GROUND, dtype=np.uint8)
        image[top:bottom, left:right] = resize(inside, right - left, bottom - top)

    window = np.array([x0 / width, y0 / height, x1 / width, y1 / height])
    zoom = np.array([(right - left) / (to_x - from_x), (bottom - top) / (to_y - from_y)] * 2)
    origin, photo_sides = np.array([from_x, from_y] * 2), np.array([width, height] * 2)
    keep = _holds_centre(window, sample.boxes_xyxy) | (sample.is_crowd & _touches(window, sample.boxes_xyxy))
    boxes_px = (sample.boxes_xyxy[keep] * photo_sides - origin) * zoom + np.array([left, top] * 2)
    boxes = (boxes_px / resolution).clip(0, 1).astype(np.float32)
    return Sample(image, boxes, sample.labels[keep], sample.is_crowd[keep])


def mirror(sample: Sample) -> Sample:
    """Flip left and right."""
    x0, y0, x1, y1 = sample.boxes_xyxy.T
    return sample._replace(image=cv2.flip(sample.image, 1), boxes_xyxy=np.stack((1 - x1, y0, 1 - x0, y1), axis=1))


def _holds_centre(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    return np.all((centre > windows[..., :2]) & (centre < windows[..., 2:]), axis=-1)


def _touches(window: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return np.all((boxes[..., :2] < window[2:]) & (boxes[..., 2:] > window[:2]), axis=-1)


def collate(samples: list[Sample]) -> tuple[Tensor, Targets]:
    """Samples of one size to images (B, 3, H, W) uint8, channels last, and padded targets."""
    most = max(len(sample.labels) for sample in samples)
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.zeros(len(samples), most, dtype=torch.int64)
    is_crowd = torch.zeros(len(samples), most, dtype=torch.bool)
    for i, sample in enumerate(samples):
        n = len(sample.labels)
        boxes[i, :n] = torch.from_numpy(sample.boxes_xyxy)
        labels[i, :n] = torch.from_numpy(sample.labels)
        is_crowd[i, :n] = torch.from_numpy(sample.is_crowd)
    return stack_images([sample.image for sample in samples]), Targets(boxes, labels, is_crowd)
