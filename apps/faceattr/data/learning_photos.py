"""The training photos of a student: labelled photos, with some of their labels withheld, and unlabelled photos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apps.common.choices import BadData
from apps.common.data.data_record import Content
from apps.common.data.problems import refuse_problems, skipped_words
from apps.common.training.distributed import Processes
from apps.common.training.sampling import Purpose, make_rng
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.data.load import AttributeSplit, find_unlabelled, measuring_splits, readable, without_known
from apps.faceattr.data.shards import ShardSet, content_hash, part_shards


def contents(
    paths: Sequence[Path], labels: np.ndarray, shards: ShardSet | None, val: AttributeSplit
) -> dict[str, Content]:
    """The content that must be unchanged when a run is resumed: the training photos, and val.

    Raises:
        ValueError: nothing can be measured on val.
    """
    if not ((val.labels == 1).any(axis=0) & (val.labels == 0).any(axis=0)).any():
        raise ValueError(f"{val.name}: no attribute is known to be both present and absent, nothing can be measured")
    streamed = {"shards": Content(shards.shards, [])} if shards else {}
    return {"train": Content(paths, [labels]), "val": Content(val.paths, [val.labels]), **streamed}


def learning_photos(
    split: AttributeSplit,
    folders: Sequence[Path],
    *,
    data: Sequence[str | Path],
    withhold: float,
    seed: int,
    bad_data: BadData,
    group_by: str | None = None,
    processes: Processes = Processes(),  # noqa: B008
) -> tuple[list[Path], np.ndarray, ShardSet | None]:
    """The training photos and their labels (N, A), missing ones are unknown; and further photos, in tar shards.

    Args:
        split: of labelled photos.
        folders: of photos without labels, or of tar shards of them; photos in val or test of `data` are skipped.
        withhold: share of the labelled photos whose labels are made unknown.
        seed: of their choice.
        bad_data: whether photos without labels that cannot be read are refused or skipped.
        group_by: as for `load_splits`.
    """
    unlabelled, notes, shards = list[Path](), [""], None
    if folders:
        measuring = measuring_splits(data, group_by)
        folders, tars = part_shards([Path(folder) for folder in folders])
        unlabelled, notes[0] = without_known(readable(find_unlabelled(folders), bad_data), measuring)
        if tars:
            seen = {content_hash(path.read_bytes()) for one in measuring if one.name != "train" for path in one.paths}
            shards = ShardSet(tars, processes, known=seen)
            refuse_problems(shards.problems, bad_data)
            lost = f", {shards.num_known:,} are left out: they are in val or test" if shards.num_known else ""
            bad = skipped_words(shards.problems) if shards.problems else ""
            notes.append(f"{len(shards):,} photos without labels in {len(tars):,} tar shards{lost}{bad}")
            if not len(shards):
                raise ValueError(f"{tars[0]}: no photo in it can be learnt from")
    for note in filter(None, notes):
        print(note)
    known = withheld(split.labels, withhold, seed)
    unknown = np.full((len(unlabelled), known.shape[1]), UNKNOWN, dtype=known.dtype)
    if unlabelled or withhold:
        print(f"{len(unlabelled):,} photos without labels; the labels of {withhold:.0%} of the others are withheld")
    return [*split.paths, *unlabelled], np.concatenate((known, unknown)), shards


def withheld(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A copy of labels (N, A) in which a seeded `share` of the rows is unknown."""
    labels = labels.copy()
    chosen = make_rng(Purpose.WITHHOLD, seed).permutation(len(labels))[: round(share * len(labels))]
    labels[chosen] = UNKNOWN
    return labels
