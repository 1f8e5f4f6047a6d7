"""Find and read COCO's annotation files, without checking them.

PATH/annotations/instances_train.json        or instances_train2017.json, or train.json, also in PATH itself
PATH/train/ or train2017/ or images/         the split's images
PATH/train/_annotations.coco.json            beside the images, in train/, valid/ and test/ (Roboflow)
PATH/annotations/instances.json              one file for all, or PATH itself is a JSON file; images may say "split"
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from apps.common.checkpoint import load_json
from apps.common.data.names import FIRST, PhotoRoot, files_with, find_root
from apps.common.data.problems import Problem
from apps.common.data.tables import SPLIT_OF_NAME, normal_name
from apps.detection.data.coco_entries import find_files, mend_entries
from apps.detection.data.listing import DAMAGED_FILE, Layout, Part, id_in

ONE_FILE = (
    *("instances.json", "annotations.json", "coco.json", "instances_default.json", "instances_all.json"),
    *("_annotations.coco.json", "annotations.coco.json", "result.json"),
)
LARGEST_SETTINGS = 10_000_000  # bytes
CLEAN = "-clean"  # behind the names of what check.py writes
# Words before or after a split, as in instances_train.json.
SUBJECTS = ("instances", "annotations", "coco", "default", "all", "lvis", "v1")


def find_coco(source: Path, *, sure: bool = False) -> Layout | None:
    """The annotation files of a folder, or the one that `source` is; None if there are none.

    Args:
        sure: in a folder, accept only files in annotations/ or with the word "images", which settings and logs lack.

    Raises:
        ValueError: several files are for one split.
    """
    if source.is_file():
        return _one_file(data_folder(source), source)
    rooms = [folder for folder in (source / "annotations", source) if folder.is_dir()]
    jsons = (path for room in rooms for path in files_with(room, ".json"))
    files = _files_by_split(path for path in jsons if not sure or _names_images(path))
    if not files:
        beside = [source / name for name in sorted(SPLIT_OF_NAME) if (source / name).is_dir()]
        beside = [folder / name for folder in beside for name in ONE_FILE if (folder / name).is_file()]
        files = {SPLIT_OF_NAME[path.parent.name]: path for path in beside}
        if len(files) < len(beside):
            raise ValueError(f"{source} has several annotation files for one split: {_names(beside, full=True)}")
    if files:
        shown: dict[str | None, str] = {split: path.relative_to(source).as_posix() for split, path in files.items()}
        return Layout("COCO json", source, shown, partial(_read_files, source, files))
    found = [room / name for room in rooms for name in ONE_FILE if (room / name).is_file()]
    found = [path for path in found if not sure or _names_images(path)]
    return _one_file(source, found[0]) if found else None


def _names_images(path: Path) -> bool:
    try:
        if path.parent.name == "annotations" or path.stat().st_size > LARGEST_SETTINGS:
            return True
        return b'"images"' in path.read_bytes().replace(b"\0", b"")  # which UTF-16 has
    except OSError:
        return False


def data_folder(source: Path) -> Path:
    """The folder of the data, for a folder or an annotation file."""
    if source.is_dir():
        return source
    return source.parent.parent if source.parent.name == "annotations" else source.parent


def _one_file(root: Path, file: Path) -> Layout:
    """One file with all images, which have splits if any image has one."""
    whole = _read(root, file, None)
    words = [_word(image) for image in whole.images]
    split_of_word = _splits_of(dict.fromkeys(word for word in words if word))
    groups: dict[str | None, list[Any]] = {split: [] for split in split_of_word.values()} or {None: []}
    lost: list[Problem] = []
    for image, word in zip(whole.images, words, strict=True):
        if word or not split_of_word:
            groups[split_of_word.get(word)].append(image)
        else:
            lost.append(Problem(f"{file}: {_image_words(image)} says no split, as others do", kind=DAMAGED_FILE))
    return Layout("COCO json", file, {split: file.name for split in groups}, partial(_divide, whole, groups, lost))


def _divide(
    whole: Part, groups: Mapping[str | None, list[Any]], lost: Sequence[Problem], splits: Sequence[str | None]
) -> list[Part]:
    """The parts of these splits from one file; `lost`, the images without a split, are problems of the first."""
    shared = _shared_ids(whole.images)
    parts = []
    for split in splits:
        mine = {id_in(image, "id") for image in groups[split]}
        others = {id_in(image, "id") for image in whole.images} - mine - {None}
        annotations = [one for one in whole.annotations if id_in(one, "image_id") not in others]
        problems = list(lost) if split == splits[0] else []
        part = replace(whole, split=split, images=groups[split], annotations=annotations, problems=problems)
        parts.append(_without_shared_ids(part, shared))
    return parts


def _word(image: Any) -> str:
    """An image's "split", "" if it has none; synonyms of train, val and test are replaced."""
    word = image.get("split") if isinstance(image, dict) else None
    if not isinstance(word, str) or word.strip().lower() in SUBJECTS:
        return ""
    return SPLIT_OF_NAME.get(word.strip().lower(), word.strip())


def _image_words(image: Any) -> str:
    return f"image {image.get('file_name')!r} (id {image.get('id')})" if isinstance(image, dict) else str(image)[:80]


def _shared_ids(images: Sequence[Any]) -> dict[int, list[str]]:
    """Ids of more than one image, with the images' names."""
    names: dict[int, list[str]] = {}
    for image in images:
        image_id = id_in(image, "id")
        if image_id is not None:
            names.setdefault(image_id, []).append(str(image.get("file_name")))
    return {image_id: some for image_id, some in names.items() if len(some) > 1}


def _without_shared_ids(part: Part, shared: Mapping[int, Sequence[str]]) -> Part:
    """The part without images of equal ids, and without their objects, which cannot be attributed.

    An image that is listed twice under the same name is kept once.
    """
    images, problems = [], []
    seen: set[int] = set()
    for image in part.images:
        image_id = id_in(image, "id")
        names = shared.get(image_id, ()) if image_id is not None else ()
        if not names or (len(set(names)) == 1 and image_id not in seen):
            images.append(image)
        else:
            sentence = f"{part.source}: image id {image_id} twice: {names[0]!r} and {names[1]!r}"
            problems.append(Problem(sentence, kind=DAMAGED_FILE))
        if image_id is not None:
            seen.add(image_id)
    gone = shared.keys() - {id_in(image, "id") for image in images}
    annotations = [one for one in part.annotations if id_in(one, "image_id") not in gone]
    return replace(part, images=images, annotations=annotations, problems=[*part.problems, *problems])


def _files_by_split(paths: Iterable[Path]) -> dict[str, Path]:
    """Annotation files by split: instances_*.json if there are any, else all. Ambiguous names are used as they are."""
    of_tail: dict[str, Path] = {}
    named = [path for path in paths if not path.stem.endswith(CLEAN)]
    instances = [path for path in named if path.name.startswith("instances_")]
    for path in instances or named:
        tail = "_".join(word for word in re.split(r"[_.]", path.stem) if word.lower() not in SUBJECTS)
        if tail and (path in instances or tail.lower() in SPLIT_OF_NAME or split_of(tail) != tail):
            of_tail.setdefault(tail, path)
    return {split: of_tail[tail] for tail, split in _splits_of(of_tail).items()}


def _splits_of(names: Iterable[str]) -> dict[str, str]:
    """The split of each name, as `split_of`; names that would have the same one keep themselves."""
    splits = {name: split_of(name) for name in names}
    known = Counter(splits.values())
    return {name: split if known[split] == 1 else name for name, split in splits.items()}


def split_of(name: str) -> str:
    """The split that a name begins with: "val2017", "valid" are val; other names are their own splits."""
    word = re.match(r"[a-z]*", name.lower())
    return SPLIT_OF_NAME.get(word.group() if word else "", name)


def _read_files(root: Path, files: Mapping[str, Path], splits: Sequence[str | None]) -> list[Part]:
    """The parts of these splits, each from its own file."""
    parts = [_read(root, files[split or ""], split) for split in splits]
    return [_without_shared_ids(part, _shared_ids(part.images)) for part in parts]


def _read(root: Path, file: Path, split: str | None) -> Part:
    """One file.

    Raises:
        ValueError: it is not COCO's, or none of its images is found.
    """
    content = load_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{file} is not a COCO annotation file: it has no list {key!r}")
    if not content["images"]:
        raise ValueError(f"{file} lists no images")
    if not content["categories"]:
        raise ValueError(f"{file} declares no categories")
    mend_entries(content)
    for category in content["categories"]:
        name = category.get("name") if isinstance(category, dict) else None
        named = isinstance(name, str | int | float) and not isinstance(name, bool) and str(name).strip()
        if not named or not isinstance(category.get("id"), int):
            raise ValueError(f"{file}: a category needs a whole-number id and a name, got {category!r:.80}")
        category["name"] = normal_name(str(name))
    categories = sorted(content["categories"], key=lambda category: category["id"])
    for one, two in itertools.pairwise(categories):
        if one["id"] == two["id"]:
            raise ValueError(f"{file}: category id {one['id']} is both {one['name']!r} and {two['name']!r}")
    photo_root = _find_photos(root, file, content["images"])
    part = Part(split, file, photo_root.folder, content["images"], content["annotations"], categories)
    find_files(part, photo_root)
    return part


def _find_photos(root: Path, annotation_file: Path, images: list[Any]) -> PhotoRoot:
    """The first of root/<split>, root/images/<split>, root/images, root and the file's folder with a first image."""
    tail = annotation_file.stem.removeprefix("instances_")
    named = [root / tail, root / "images" / tail]
    if split_of(tail) != tail:
        named += [root / split_of(tail), root / "images" / split_of(tail)]
    folders = dict.fromkeys([*named, root / "images", root, annotation_file.parent, annotation_file.parent / "images"])
    names = [image.get("file_name") for image in images[:FIRST] if isinstance(image, dict)]
    first = [name for name in names if isinstance(name, str) and name.strip()]
    if not first:
        raise ValueError(f"{annotation_file}: its images have no file_name, so nobody knows which photos are meant")
    if photo_root := find_root(folders, first):
        return photo_root
    where = _names(folders, full=True)
    raise ValueError(f"{annotation_file}: none of its images was found in {where}; the first is {first[0][:80]!r}")


def _names(paths: Iterable[Path], *, full: bool = False) -> str:
    return ", ".join(str(path) if full else path.name for path in paths)
