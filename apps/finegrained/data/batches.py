"""Training and evaluation photos: reading, augmenting, batching, mixing.

Every random choice is a function of the seed and of epoch and item (`SampleKey.rng`) or step (`Mix.random`).

Letters in shapes: B batch, H W height and width, K classes.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apps.common.data.augment import changed, import_albumentations
from apps.common.data.eval_set import EvalSet
from apps.common.images import read_image, resize, stack_images
from apps.common.training.sampling import SampleKey
from apps.finegrained.choices import Augment
from apps.finegrained.data.load import Photo

if TYPE_CHECKING:
    import albumentations as A

MIN_AREA = {"light": 0.5, "full": 0.25}  # of a random crop, over the photo's area
ASPECT_RATIO = 4 / 3  # a crop is at most so much longer than wide, or wider than long
CROP_TRIES = 10


class TrainingSet(Dataset):
    """Augmented photos (resolution, resolution, 3) and labels; indexed by `SampleKey`.

    Args:
        crop: of the central square, for the photos of `augment` "none" and "mirror".
        augment: "none"; "mirror", half of the photos; "light", a random crop of at least half the photo, mirrored half
            of the time, in slightly other colours; "full", a crop of at least a quarter, mirrored, and two random
            changes more (as RandAugment's: rotation, shear, contrast, sharpness, blur, an erased patch, ...).
    """

    def __init__(self, photos: Sequence[Photo], *, resolution: int, crop: float, augment: Augment) -> None:
        self.photos = photos
        self.resolution = resolution
        self.crop = crop
        self.augment = augment
        self.changes = make_changes(augment)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: SampleKey) -> tuple[np.ndarray, int]:
        path, label = self.photos[key.item]
        image = read_image(path)
        rng = key.rng()
        if self.augment in MIN_AREA:
            image = random_crop(image, rng, self.resolution, min_area=MIN_AREA[self.augment])
        else:
            image = to_square(image, self.resolution, self.crop)
        if self.augment != "none" and rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        if self.augment not in MIN_AREA:
            return image, label
        return changed(image, self.changes, rng), label


def make_eval_set(photos: Sequence[Photo], *, resolution: int, crop: float) -> EvalSet[Photo]:
    """The central square of each photo: what evaluation, prediction and demos see."""
    return EvalSet(photos, functools.partial(_read_square, resolution=resolution, crop=crop))


def _read_square(photo: Photo, resolution: int, crop: float) -> np.ndarray:
    return to_square(read_image(photo.path), resolution, crop)


def make_changes(augment: Augment) -> "A.Compose":
    """The changes that leave a photo's size and what it shows alone."""
    A = import_albumentations()
    if augment != "full":
        return A.Compose([A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=0)])
    border = {"border_mode": 4, "p": 1.0}  # cv2.BORDER_REFLECT_101
    changes = [
        A.Affine(rotate=(-20, 20), **border),
        A.Affine(shear=(-12, 12), **border),
        A.ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.5, 1.5), hue=(-0.03, 0.03), p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
        A.RandomGamma(gamma_limit=(60, 160), p=1.0),
        A.Posterize(num_bits=(4, 6), p=1.0),
        A.Sharpen(p=1.0),
        A.GaussianBlur(sigma_limit=(0.3, 1.2), p=1.0),
        A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=(0.15, 0.4), hole_width_range=(0.15, 0.4), p=1.0),
        A.NoOp(p=1.0),
    ]
    return A.Compose([A.SomeOf(changes, n=2, replace=False, p=1.0)])


def random_crop(image: np.ndarray, rng: np.random.Generator, resolution: int, *, min_area: float) -> np.ndarray:
    """A random part of an image (H, W, 3), between `min_area` and all of its area, as a square of `resolution`."""
    height, width = image.shape[:2]
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(min_area, 1)
        ratio = math.exp(rng.uniform(-1, 1) * math.log(ASPECT_RATIO))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return resize(image[y : y + h, x : x + w], resolution, resolution)
    return to_square(image, resolution, 1.0)


def to_square(image: np.ndarray, resolution: int, crop: float) -> np.ndarray:
    """The central square of (H, W, 3), its side `crop` of the short side, at `resolution`: the one eval transform."""
    height, width = image.shape[:2]
    side = max(1, round(crop * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[top : top + side, left : left + side], resolution, resolution)


def balanced(photos: Sequence[Photo]) -> list[Photo]:
    """Photos repeated in turn, so that every class has as many as the largest."""
    by_class: dict[int, list[Photo]] = {}
    for photo in photos:
        by_class.setdefault(photo.label, []).append(photo)
    most = max(len(group) for group in by_class.values())
    return [group[i % len(group)] for _, group in sorted(by_class.items()) for i in range(most)]


def class_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """(K,) weights in inverse proportion to how often a class occurs; their mean over the photos is 1.

    Classes without photos have weight 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = np.count_nonzero(counts)
    return torch.from_numpy(np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 0)).float()


def collate(samples: list[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    """Photos of one size and labels to (B, 3, H, W) uint8, channels last, and (B,) int64."""
    images, labels = zip(*samples, strict=True)
    return stack_images(list(images)), torch.tensor(labels)
