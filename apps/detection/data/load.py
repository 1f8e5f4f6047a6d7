"""Load annotated photos for training and evaluation; the layout is detected from the folder's content.

    COCO json          see coco_files.py
    Pascal VOC XML     see voc_files.py
    YOLO txt           see yolo_files.py

If the data has no val split, val is split off train (see splits.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps.common.choices import BadData
from apps.common.data.groups import refuse_unused
from apps.common.data.problems import did_you_mean, names_beside
from apps.common.data.splits import say_shared
from apps.common.data.tables import SPLIT_OF_NAME
from apps.detection.choices import VAL_FRACTION
from apps.detection.data.checks import check_split
from apps.detection.data.coco_files import find_coco, split_of
from apps.detection.data.coco_split import CocoSplit
from apps.detection.data.listing import Layout, Part
from apps.detection.data.splits import carve_val
from apps.detection.data.voc_files import find_voc
from apps.detection.data.yolo_files import find_yolo, find_yolo_without_yaml


def load_split(root: Path, split: str, **options: Any) -> CocoSplit:
    """Read and check one split; arguments and errors are those of `load_splits`."""
    return load_splits(root, [split], **options)[0]


def load_splits(
    root: Path,
    splits: Sequence[str],
    *,
    bad_data: BadData = "refuse",
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    group_by: str | None = None,
) -> list[CocoSplit]:
    """Read and check splits, with one list of classes.

    Args:
        root: a folder, a COCO json file or YOLO's data.yaml.
        splits: train, val, test, or the name of a COCO file.
        bad_data: "refuse" raises an error with the number of problems; "skip" leaves out the images and objects with
            problems, and lists them in `skipped`.
        val_fraction: share of train that becomes val if the data has none; 0 to below 1.
        seed: of that split.
        group_by: keeps groups of photos together in it, see `groups.find_groups`.

    Raises:
        ValueError: no such data or split, or it has problems and `bad_data` is "refuse"; the message names the file
            and the object.
    """
    parts = read_parts(find_data(Path(root)), splits, val_fraction=val_fraction, seed=seed, group_by=group_by)
    class_names = joined_class_names(parts)
    return say_shared([check_split(part, class_names, bad_data=bad_data) for part in parts])


def joined_class_names(parts: Sequence[Part]) -> list[str]:
    """All classes of the parts, in the order of the first one's ids."""
    return list(dict.fromkeys(str(category["name"]).strip() for part in parts for category in part.categories))


def find_data(source: Path) -> Layout:
    """The layout of a folder or file.

    Raises:
        ValueError: it does not exist, or has no known layout.
    """
    if not source.exists():
        hint = did_you_mean(source.name, names_beside(source), shown=source.parent.joinpath)
        raise ValueError(f"--data {source}: there is no such folder or file{hint}")
    if layout := _find(source):
        return layout
    inner = [path for path in sorted(source.iterdir()) if path.is_dir()][:100] if source.is_dir() else []
    deeper = next((path for path in inner if path.name[0] != "." and _holds_data(path)), None)
    hint = f"; did you mean --data {deeper}?" if deeper else ""
    raise ValueError(
        f"--data {source} holds no annotated photos: wanted is COCO's annotations/instances_train.json, Pascal VOC's "
        f"Annotations/*.xml or YOLO's data.yaml (or classes.txt){hint}"
    )


def _holds_data(folder: Path) -> bool:
    try:
        return _find(folder) is not None
    except ValueError:
        return False


def _find(source: Path) -> Layout | None:
    if source.is_dir():
        others = (find_yolo, find_voc, find_yolo_without_yaml)
        sure = find_coco(source, sure=True) or next((layout for find in others if (layout := find(source))), None)
        return sure or find_coco(source)
    if source.suffix.lower() in (".yaml", ".yml"):
        return find_yolo(source)
    return find_coco(source) if source.suffix.lower() == ".json" else None


def read_parts(
    layout: Layout,
    splits: Sequence[str] | None = None,
    *,
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    group_by: str | None = None,
) -> list[Part]:
    """The parts of these splits, by default of all; only their files are read.

    Raises:
        ValueError: there is no such split, or all of it is damaged.
    """
    there = [split for split in layout.splits if split is not None]
    divided = not there or ("train" in there and "val" not in there)
    refuse_unused(group_by, there)
    if divided and val_fraction:
        there = list(dict.fromkeys(["train", "val", *there]))
    elif not there:
        there = ["train"]
    names = there if splits is None else [_name_of(split, layout, there) for split in splits]
    parts: dict[str | None, Part] = {}
    if divided and {"train", "val"} & set(names):
        (whole,) = layout.read(["train" if "train" in layout.splits else None])
        parts = {part.split: part for part in carve_val(whole, val_fraction, seed, group_by=group_by)}
    if rest := [name for name in dict.fromkeys(names) if name not in parts and name in layout.splits]:
        parts |= dict(zip(rest, layout.read(rest), strict=True))
    if splits is None:
        names = [name for name in names if name in parts]
    elif missing := [name for name in names if name not in parts]:
        if problems := [problem for part in parts.values() for problem in part.problems]:
            raise ValueError(problems[0].sentence)
        raise ValueError(f"{layout.source}: one photo cannot be divided into train and val; wanted is {missing[0]}")
    for part in parts.values():
        if not part.categories:
            raise ValueError(f"{part.source}: {part.problems[0].sentence if part.problems else 'no object is in it'}")
    return [parts[name] for name in names]


def _name_of(split: str, layout: Layout, there: Sequence[str]) -> str:
    """A split by its name, a synonym ("valid"), or the name of its COCO file ("val2017")."""
    for name in (split, SPLIT_OF_NAME.get(split.lower()), split_of(split)):
        if name in there and (
            name != split_of(split) or split in (name, *SPLIT_OF_NAME) or split in layout.splits[name]
        ):
            return str(name)
    same = [name for name in there if name.startswith(split)]
    why = f"has several splits that begin with {split!r}" if len(same) > 1 else f"has no split {split!r}"
    known = [f"{name} ({layout.splits[name]})" if name in layout.splits else name for name in there]
    raise ValueError(f"--data {layout.source} {why}; there are {', '.join(known)} ({layout.name})")
