"""The training photos of a student: labelled photos, with some of their labels withheld, and unlabelled photos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apps.common.choices import BadData
from apps.common.data.data_record import Content
from apps.common.training.sampling import Purpose, make_rng
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.data.load import AttributeSplit, find_unlabelled, measuring_splits, readable, without_known


def contents(paths: Sequence[Path], labels: np.ndarray, val: AttributeSplit) -> dict[str, Content]:
    """The content that must be unchanged when a run is resumed: the training photos, and val.

    Raises:
        ValueError: nothing can be measured on val.
    """
    if not ((val.labels == 1).any(axis=0) & (val.labels == 0).any(axis=0)).any():
        raise ValueError(f"{val.name}: no attribute is known to be both present and absent, nothing can be measured")
    return {"train": Content(paths, [labels]), "val": Content(val.paths, [val.labels])}


def learning_photos(
    split: AttributeSplit,
    folders: Sequence[Path],
    *,
    data: Sequence[str | Path],
    withhold: float,
    seed: int,
    bad_data: BadData,
    group_by: str | None = None,
) -> tuple[list[Path], np.ndarray]:
    """The training photos and their labels (N, A); missing labels are unknown.

    Args:
        split: of labelled photos.
        folders: of photos without labels; those that are in val or test of `data` are skipped.
        withhold: share of the labelled photos whose labels are made unknown.
        seed: of their choice.
        bad_data: whether photos without labels that cannot be read are refused or skipped.
        group_by: as for `load_splits`.
    """
    unlabelled, note = list[Path](), ""
    if folders:
        measuring = measuring_splits(data, group_by)
        unlabelled, note = without_known(readable(find_unlabelled(folders), bad_data), measuring)
    if note:
        print(note)
    known = withheld(split.labels, withhold, seed)
    unknown = np.full((len(unlabelled), known.shape[1]), UNKNOWN, dtype=known.dtype)
    if folders or withhold:
        print(f"{len(unlabelled):,} photos without labels; the labels of {withhold:.0%} of the others are withheld")
    return [*split.paths, *unlabelled], np.concatenate((known, unknown))


def withheld(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A copy of labels (N, A) in which a seeded `share` of the rows is unknown."""
    labels = labels.copy()
    chosen = make_rng(Purpose.WITHHOLD, seed).permutation(len(labels))[: round(share * len(labels))]
    labels[chosen] = UNKNOWN
    return labels
