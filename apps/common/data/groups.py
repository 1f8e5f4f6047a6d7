"""--group-by: groups of photos (a video, a day, a shop, a person) that a split does not divide.

    folder            the photos of a folder; folder:1 is the first level below the data, folder:2 the second, ...
    name:PATTERN      a regular expression on the file name: its first group, or the whole match
    FILE.csv:COLUMN   a column of a CSV file that also has the photos' names, in a column "file"

Letters in shapes: G groups, K classes.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps.common.checkpoint import CONFIG, DESCRIPTION, load_object, model_folder
from apps.common.data.copies import grouped, linked
from apps.common.data.near import find_look_alikes
from apps.common.data.problems import did_you_mean, some_of
from apps.common.data.splits import check_val_fraction, name_hash
from apps.common.data.tables import FILE_COLUMNS, find_column, normal_name, read_table

FORMS = "folder, folder:LEVEL, name:PATTERN or FILE.csv:COLUMN"


def grouping(config: Any) -> str | None:
    """--group-by of a script that evaluates a --checkpoint, so that val has the same photos as in the run.

    Raises:
        ValueError: the run was trained with the flag, and here it is not given.
    """
    file = config.checkpoint
    with contextlib.suppress(ValueError):  # an exported file is in its run's export/
        file = file and model_folder(file) / DESCRIPTION
    if config.group_by is None and file and (run := file.parent.parent / CONFIG).is_file():
        settings = load_object(run).get("config")
        if isinstance(settings, dict) and (trained := settings.get("group_by")):
            was = f"--checkpoint {config.checkpoint} was trained with --group-by {str(trained)[:200]!r}"
            raise ValueError(f"{was}: give it here, too, so that val is the same, or --group-by none")
    return config.group_by


def find_groups(paths: Sequence[Path], root: Path, group_by: str | None) -> list[list[int]]:
    """Indices of photos that must be on the same side of a split, in groups of two or more.

    Near-duplicates are always grouped. A photo for which `group_by` gives no group is on its own.

    Args:
        root: the folder of the data, where levels start.
        group_by: as --group-by; None for none.

    Raises:
        ValueError: `group_by` has an unknown form, or gives no group for any photo.
    """
    groups = find_look_alikes(paths)
    if group_by in (None, "none"):
        return groups
    keys = list(map(_key_of(group_by, root), paths))
    if not any(keys):
        raise ValueError(f"--group-by {group_by} fits none of {len(paths):,} photos, such as {paths[0]}")
    together = linked(len(paths), [*groups, *grouped(range(len(paths)), keys)])
    return [group for group in together if len(group) > 1]


def _key_of(group_by: str, root: Path) -> Callable[[Path], str | None]:
    """A function from a photo to its group; "" and None mean no group."""
    kind, _, rest = group_by.partition(":")
    if group_by == "folder":
        return lambda path: str(path.parent)
    if kind == "folder" and rest.isdecimal() and int(rest):
        return lambda path: "/".join(_below(path, root).parts[:-1][: int(rest)])
    if kind == "name" and rest:
        try:
            pattern = re.compile(rest)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"--group-by {group_by}: {rest!r} is no regular expression: {error}") from None
        return lambda path: (found := pattern.search(path.name)) and found[1 if pattern.groups else 0]
    file, _, column = group_by.rpartition(":")
    if file.lower().endswith(".csv") and column:
        return _column(Path(file), column)
    raise ValueError(f"--group-by must be {FORMS}; got {group_by!r}")


def _column(file: Path, column: str) -> Callable[[Path], str | None]:
    header, rows = read_table(file)
    names, values = find_column(header, FILE_COLUMNS), find_column(header, [column.lower()])
    if names is None:
        there = f", but {some_of(header)}" if any(header) else ": its first line is empty"
        raise ValueError(f"--group-by {file}: it has no column file{there}")
    if values is None:
        raise ValueError(f"--group-by {file}: it has no column {column!r}{did_you_mean(column, header, shown=repr)}")
    of_name: dict[str, list[tuple[str, str]]] = {}
    for _, row in rows:
        if len(row) == len(header):
            name = normal_name(row[names]).replace("\\", "/").removeprefix("./")
            of_name.setdefault(name.rpartition("/")[2], []).append((name, row[values].strip()))

    def key(path: Path) -> str | None:
        whole = normal_name(path.as_posix())
        return next((value for name, value in of_name.get(normal_name(path.name), ()) if _ends(whole, name)), None)

    return key


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith("/" + name)


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def choose_stratified(
    names: Sequence[str], labels: np.ndarray, groups: Sequence[Sequence[int]], fraction: float, seed: int
) -> set[int]:
    """Indices of photos for val: whole groups, so that each class gets about its share, as far as groups allow.

    Groups are tried in the order of the hashes of their names. A group is taken if it moves the object counts of all
    classes, in total, closer to their shares, and if each of its classes keeps a group in train.

    Args:
        names: of N photos, N 2 or more.
        labels: (N, K) numbers of objects of each class, or 1 for a photo's class.

    Raises:
        ValueError: `fraction` is not from 0 to below 1, or each group has all photos of a class.
    """
    check_val_fraction(fraction)
    if not fraction:
        return set()
    whole = _with_single(len(names), groups)
    if len(whole) == 1:
        raise ValueError(f"--group-by puts all {len(names):,} photos into one group: no val can be taken out of it")
    whole.sort(key=lambda group: min(name_hash(seed, names[i]) for i in group))
    counts = np.stack([labels[group].sum(0) for group in whole]).astype(float)  # (G, K)
    wanted, left = fraction * counts.sum(0), counts.sum(0)
    free = [g for g, count in enumerate(counts) if (left - count)[count > 0].min(initial=1) > 0]
    if not free:
        raise ValueError(
            f"--group-by makes {len(whole):,} groups, each with all photos of a class: no val can be taken out that "
            "leaves every class in train; choose smaller groups, or leave the flag out"
        )
    taken: list[int] = []
    for g, count in enumerate(counts):
        nearer = np.abs(wanted).sum() - np.abs(wanted - count).sum()
        if nearer > 0 and (left - count)[count > 0].min(initial=1) > 0:
            taken.append(g)
            wanted, left = wanted - count, left - count
    if not taken:  # each has more than its share: the smallest
        taken = [min(free, key=lambda g: len(whole[g]))]
    return {i for g in taken for i in whole[g]}


def _with_single(count: int, groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """The groups, and a group of one for each other photo."""
    inside = {i for group in groups for i in group}
    return [*map(list, groups), *([i] for i in range(count) if i not in inside)]


def missing_in_val(class_names: Sequence[str], labels: np.ndarray, chosen: set[int]) -> str:
    """A clause about the classes missing in val because their photos are one group; "" if none is missing."""
    inside = labels[sorted(chosen)].sum(0) if chosen else np.zeros(len(class_names))
    missing = [name for name, all_, val in zip(class_names, labels.sum(0), inside, strict=True) if all_ and not val]
    return f"; no group of {some_of(missing)} could be taken" if missing and chosen else ""


def groups_note(paths: Sequence[Path], root: Path, group_by: str | None) -> str:
    """How groups were made, for the note about a split."""
    if group_by in (None, "none"):
        return "together"
    alone = sum(not key for key in map(_key_of(group_by, root), paths))
    return f"and groups by {group_by} together" + f" ({alone:,} of {len(paths):,} photos have no group)" * bool(alone)


def refuse_unused(group_by: str | None, splits: Iterable[str | None]) -> None:
    """Raise ValueError for a flag without effect, because the data has its own val split."""
    if group_by not in (None, "none") and "val" in splits:
        raise ValueError(
            f"--group-by {group_by} is for a val that is taken out of train, and this data has a val of its own: leave "
            "it out, or give --group-by none"
        )
