"""Data sets known by name: those that torchvision downloads, and two that are recognised as their authors pack them.

oxford-iiit-pet, flowers102, fgvc-aircraft, food101    downloaded on first use, then kept
stanford-cars                                          no longer offered for download; read from its folder
CUB-200-2011                                           a folder with images.txt, classes.txt, ...
Stanford Dogs                                          a folder with Images/nXXXXXXXX-breed/, and its lists if any
"""

import importlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.data.problems import Problem
from apps.common.data.tables import read_lines
from apps.finegrained.data.layouts import (
    CLASS_FOLDER_STYLES,
    class_names_of,
    folders_in,
    list_class_folders,
    normal_name,
)
from apps.finegrained.data.listing import Listing, add_entry
from backbone.text import reason_of


class Named(NamedTuple):
    """How torchvision has a data set.

    Attributes:
        class_name: in torchvision.datasets.
        folder: that it makes in the download folder.
        splits: ours -> torchvision's; "trainval" is train, from which val is taken.
        files_of: the files and label numbers of one of its objects.
    """

    class_name: str
    folder: str
    splits: dict[str, str]
    files_of: Callable[[Any], Sequence[tuple[Any, int]]]


def _zipped(files: str) -> Callable[[Any], Sequence[tuple[Any, int]]]:
    return lambda dataset: list(zip(getattr(dataset, files), dataset._labels, strict=True))


_TWO, _THREE = {"train": "train", "test": "test"}, {"train": "train", "val": "val", "test": "test"}
NAMED = {
    "oxford-iiit-pet": Named("OxfordIIITPet", "oxford-iiit-pet", {**_TWO, "train": "trainval"}, _zipped("_images")),
    "flowers102": Named("Flowers102", "flowers-102", _THREE, _zipped("_image_files")),
    "fgvc-aircraft": Named("FGVCAircraft", "fgvc-aircraft-2013b", _THREE, _zipped("_image_files")),
    "stanford-cars": Named("StanfordCars", "stanford_cars", _TWO, lambda dataset: dataset._samples),
    "food101": Named("Food101", "food-101", _TWO, _zipped("_image_files")),
}


def list_named(name: str, download_dir: Path) -> Listing:
    """A data set of `NAMED`, downloaded into `download_dir` unless it is there.

    Raises:
        ValueError: the name is unknown, or it can neither be found nor downloaded; the message says what to do.
    """
    if name not in NAMED:
        raise ValueError(f"unknown data set {name!r}; allowed are {', '.join(NAMED)}")
    named = NAMED[name]
    listing = Listing(source=download_dir / named.folder, layout=name, entries=[], problems=[], skipped=[])
    for split, theirs in named.splits.items():
        dataset = _open(name, theirs, download_dir)
        classes = [normal_name(class_name) for class_name in dataset.classes]
        for file, label in named.files_of(dataset):
            path = Path(file)
            add_entry(listing, path, classes[label], split, exists=os.path.isfile(path))
    return listing


def _open(name: str, split: str, download_dir: Path) -> Any:
    """torchvision's object for a split (theirs)."""
    from torchvision import datasets

    named, folder = NAMED[name], download_dir / NAMED[name].folder
    if name == "stanford-cars" and not (folder / "devkit").is_dir():
        raise ValueError(
            f"{name} is no longer offered for download at its home: put devkit/, cars_train/, cars_test/ and "
            f"cars_test_annos_withlabels.mat into {folder} yourself"
        )
    try:
        download_dir.mkdir(parents=True, exist_ok=True)
        download = name != "stanford-cars"  # torchvision's class raises if asked to
        return getattr(datasets, named.class_name)(download_dir, split=split, download=download)
    except ImportError:
        raise ValueError(f"reading {name} needs scipy: python -m pip install scipy") from None
    except (OSError, RuntimeError, ValueError, KeyError) as error:  # no network, a broken archive, missing lists
        raise ValueError(
            f"{name} cannot be downloaded or read ({reason_of(error)}); if {folder} is half there, delete it and try "
            f"again, or unpack the data set's own archive there"
        ) from None


def list_packed(source: Path) -> Listing | None:
    """CUB-200-2011 or Stanford Dogs in the folder their archive makes; None if `source` is neither.

    Raises:
        ValueError: it is one of them but a list is missing or damaged; the message names it.
    """
    if (source / "images.txt").is_file() and (source / "image_class_labels.txt").is_file():
        return _list_cub(source)
    for images in (source / "Images", source / "images"):
        classes = folders_in(images) if images.is_dir() else []
        if classes and all(re.fullmatch(CLASS_FOLDER_STYLES[0], folder.name) for folder in classes):
            return _list_dogs(source, classes)
    return None


def _list_cub(source: Path) -> Listing:
    """CUB-200-2011: its README.txt describes the four lists; 1 in train_test_split.txt is training."""
    files = _table(source / "images.txt")
    labels, uses = (_table(source / name) for name in ("image_class_labels.txt", "train_test_split.txt"))
    classes = _table(source / "classes.txt")
    names = class_names_of(classes.values())
    listing = Listing(source=source, layout="CUB-200-2011", entries=[], problems=[], skipped=[])
    for image_id, file in files.items():
        if image_id not in uses or labels.get(image_id) not in classes:
            raise ValueError(f"{source}: image {image_id!r} of images.txt has no split or no class in the other lists")
        path, split = source / "images" / file, "train" if uses[image_id] == "1" else "test"
        exists, name = os.path.isfile(path), names[classes[labels[image_id]]]
        add_entry(listing, path, name, split, exists=exists, where=f"{source}: ")
    return listing


def _list_dogs(source: Path, folders: Sequence[Path]) -> Listing:
    """Stanford Dogs: with its lists official splits, without them class/image."""
    lists = {split: _dogs_list(source, split) for split in ("train", "test")}
    if None in lists.values():
        return list_class_folders(source, "Stanford Dogs, without its lists", [(None, folder) for folder in folders])
    names = class_names_of(folder.name for folder in folders)
    images = folders[0].parent
    listing = Listing(source=source, layout="Stanford Dogs", entries=[], problems=[], skipped=[])
    for split, files in lists.items():
        for file in files or ():
            path = images / file
            if path.parent.name not in names:
                listing.problems.append(Problem(f"{path} does not exist", split))
            else:
                add_entry(listing, path, names[path.parent.name], split, exists=os.path.isfile(path))
    return listing


def _dogs_list(source: Path, split: str) -> list[str] | None:
    """The files of a split, "nXXXXXXXX-breed/file.jpg"; None if there is no list of it."""
    for folder in (source, source / "lists"):
        if (path := folder / f"{split}_list.txt").is_file():
            return [line.strip() for line in read_lines(path) if line.strip()]
        if (path := folder / f"{split}_list.mat").is_file():
            try:
                loadmat = importlib.import_module("scipy.io").loadmat
            except ImportError:
                raise ValueError(f"reading {path} needs scipy: python -m pip install scipy") from None
            try:
                return [str(name.item()) for name in loadmat(path)["file_list"].ravel()]
            except Exception as error:  # scipy raises many kinds for a damaged file
                raise ValueError(f"{path} is damaged: {error}") from None
    return None


def _table(path: Path) -> dict[str, str]:
    """CUB's lists: a number, a blank, a value."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: unpack CUB-200-2011 again")
    pairs = [line.split(maxsplit=1) for line in read_lines(path) if line.strip()]
    try:
        return {key: value.strip() for key, value in pairs}
    except ValueError:
        raise ValueError(f"{path} is damaged: its lines must be a number, a blank and a value") from None
