"""Training and evaluation faces: reading, augmenting, batching.

Every random choice comes from `SampleKey.rng()`, a function of seed, epoch and index. Face crops are jittered as the
boxes of a face detector are, so no landmarks are needed (AFFACT, arXiv 1611.06158).

Letters in shapes: B batch, H W height and width, A attributes.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apps.common.data.augment import changed, import_albumentations
from apps.common.data.eval_set import EvalSet
from apps.common.images import read_image, resize, stack_images
from apps.common.training.sampling import SampleKey
from apps.faceattr.choices import Augment
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.data.shards import ShardSet

if TYPE_CHECKING:
    import albumentations as A

# Standard deviations of a crop's shift (in image sides), scale (relative) and rotation (degrees).
JITTER = {"light": (0.02, 0.03, 3.0), "full": (0.06, 0.12, 10.0)}


class Sample(NamedTuple):
    """A crop (H, W, 3) uint8, its labels (A,) int8 and a teacher's logits (A,) float16, or (0,) without a teacher."""

    image: np.ndarray
    labels: np.ndarray
    taught: np.ndarray


class TrainingSet(Dataset):
    """Augmented face crops (resolution, resolution, 3), labels (A,) and teacher logits (A,); indexed by `SampleKey`.

    Args:
        paths, labels: N photos and (N, A) int8 of 1, 0 or -1 for unknown; unlabelled photos have -1 alone.
        shards: S further photos without labels, which come after the others; or None.
        taught: (N + S, A) float16, a teacher's logits; None gives rows without a number.
        augment: "none"; "light": crops slightly shifted, scaled and rotated, mirrored half of the time, with slight
            colour jitter; "full": stronger, and some gray, blurred or compressed.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: np.ndarray,
        shards: ShardSet | None = None,
        *,
        resolution: int,
        augment: Augment,
        taught: np.ndarray | None = None,
    ) -> None:
        self.paths = paths
        self.labels = labels
        self.shards = shards
        self.taught = taught
        self.nothing = np.empty(0, np.float16), np.full(labels.shape[1:], UNKNOWN, labels.dtype)
        assert len(paths) == len(labels) and (taught is None or len(self) == len(taught))
        self.resolution = resolution
        self.augment = augment
        self.changes = make_changes(augment)

    def __len__(self) -> int:
        return len(self.paths) + len(self.shards or ())

    @property
    def shard_numbers(self) -> np.ndarray | None:
        """(N + S,) of each photo its shard, -1 for none; None without shards."""
        if self.shards is None:
            return None
        return np.concatenate((np.full(len(self.paths), -1), self.shards.photos["shard"]))

    def photo(self, item: int) -> Path:
        """Where a photo is, for messages."""
        if item < len(self.paths) or self.shards is None:
            return self.paths[item]
        return self.shards.name(item - len(self.paths))

    def __getitem__(self, key: SampleKey) -> Sample:
        taught = self.nothing[0] if self.taught is None else np.array(self.taught[key.item])
        if key.item < len(self.paths) or self.shards is None:
            image, labels = read_image(self.paths[key.item]), self.labels[key.item]
        else:
            image, labels = self.shards.read(key.item - len(self.paths)), self.nothing[1]
        if self.augment == "none":
            return Sample(to_square(image, self.resolution), labels, taught)
        rng = key.rng()
        image = jittered(image, rng, self.resolution, JITTER[self.augment])
        return Sample(changed(image, self.changes, rng), labels, taught)


def make_eval_set(paths: Sequence[Path], *, resolution: int) -> EvalSet[Path]:
    """The central square of each face crop, for evaluation, prediction and demos."""
    return EvalSet(paths, functools.partial(_read_square, resolution=resolution))


def _read_square(path: Path, resolution: int) -> np.ndarray:
    return to_square(read_image(path), resolution)


def make_changes(augment: Augment) -> "A.Compose":
    """The changes of colour and sharpness."""
    A = import_albumentations()
    if augment != "full":
        return A.Compose([A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=0)])
    return A.Compose(
        [
            A.ColorJitter(brightness=(0.6, 1.4), contrast=(0.7, 1.3), saturation=(0.6, 1.4), hue=(-0.02, 0.02), p=0.8),
            A.ToGray(p=0.1),
            A.GaussianBlur(sigma_limit=(0.3, 1.2), p=0.15),
            A.ImageCompression(quality_range=(40, 90), p=0.15),
        ]
    )


def jittered(
    image: np.ndarray, rng: np.random.Generator, resolution: int, jitter: tuple[float, float, float]
) -> np.ndarray:
    """The central square of an image (H, W, 3), shifted, scaled, rotated, and mirrored half of the time.

    The area beyond the image repeats its edge, as in crops of faces at the border of a photo.
    """
    shift, scale, turn = jitter
    height, width = image.shape[:2]
    side = min(height, width) * float(np.exp(rng.normal(0, scale)))
    centre = np.array([width, height]) / 2 + rng.normal(0, shift, 2) * min(height, width)
    angle = np.deg2rad(rng.normal(0, turn))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    zoom = side / resolution  # image pixels per output pixel
    rotation = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rotation[:, 0] *= mirror
    offset = centre - 0.5 - rotation @ np.full(2, (resolution - 1) / 2)
    if zoom > 1.5:  # linear interpolation would skip pixels
        image = cv2.blur(image, (round(zoom), round(zoom)))
    return cv2.warpAffine(
        image,
        np.column_stack((rotation, offset)),
        (resolution, resolution),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def to_square(image: np.ndarray, resolution: int) -> np.ndarray:
    """The central square of a face crop (H, W, 3) at `resolution`: the one eval transform."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[top : top + side, left : left + side], resolution, resolution)


def collate(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of one size to (B, 3, H, W) uint8, channels last, (B, A) int8, and (B, A) or (B, 0) float32."""
    images, labels, taught = zip(*samples, strict=True)
    return stack_images(list(images)), torch.from_numpy(np.stack(labels)), torch.from_numpy(np.stack(taught)).float()
