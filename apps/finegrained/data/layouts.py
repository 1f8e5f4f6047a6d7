"""What a data set on disk holds, read off its folder: one reader for each layout that people have.

    split/class/image     train/, val/ (or valid/, validation/) and test/, in each a folder for each class
    class/image           a folder for each class
    CSV                   columns file, label and perhaps split; paths as seen from the CSV's folder

Only names are read here. `known_sets.py` reads data sets as their authors pack them, `load.py` makes splits of both,
`check.py` opens the photos.
"""

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from apps.common.data.names import PhotoRoot, files_with, root_of_table, several
from apps.common.data.photos import UNREAD_SUFFIXES, is_photo_name
from apps.common.data.problems import Problem, some_of
from apps.common.data.tables import (
    FILE_COLUMNS,
    SPLIT_OF_NAME,
    SPLITS,
    SplitColumn,
    find_column,
    find_splits,
    normal_name,
    read_header,
    read_table,
)
from apps.finegrained.data.listing import Listing, add_entry

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "species", "category", "breed")
CLASS_FOLDER_STYLES = (r"n\d{8}-(.+)", r"\d{3}\.(.+)")  # ImageNet's (Stanford Dogs), CUB's


def list_photos(source: Path) -> Listing:
    """Read a folder or a CSV file in whichever of the layouts above it has.

    Raises:
        ValueError: it has none of them, or one of its lists is damaged; the message names the file.
    """
    if not source.is_dir():
        return _list_csv(source)
    folders = folders_in(source)
    splits = [folder for folder in folders if folder.name.lower() in SPLIT_OF_NAME and folders_in(folder)]
    if splits:
        return _list_split_folders(source, splits, [folder for folder in folders if folder not in splits])
    found = files_with(source, ".csv")
    tables = [path for path in found if _is_label_table(path)]
    if len(tables) > 1:
        raise ValueError(f"{source} has several CSV files of labels: {_names(tables)}; give one of them as --data")
    if tables:
        return _list_csv(tables[0])
    if not folders or all(folder.name.lower() in SPLIT_OF_NAME for folder in folders):
        there = f"only {_names(folders)} without folders in it" if folders else "no folder in it"
        has = f"; {found[0].name} has the columns {', '.join(read_header(found[0]))[:80]!r}" if found else ""
        raise ValueError(
            f"{source}: {there}; wanted are train/CLASS/photo.jpg and val/CLASS/photo.jpg, or CLASS/photo.jpg, or a "
            f"CSV file with the columns file and label{has}"
        )
    listing = list_class_folders(source, "class/image", [(None, folder) for folder in folders])
    if not listing.entries:
        deeper = _refuse_two_levels(source, folders)
        hint = f"; did you mean --data {deeper[0]}?" if deeper else ""
        raise ValueError(f"{source}: no photo in its {len(folders)} folders ({_names(folders)}){hint}")
    listing.problems.extend(_strays(source, None))
    return listing


def _list_split_folders(source: Path, splits: Sequence[Path], others: Sequence[Path]) -> Listing:
    by_split: dict[str, Path] = {}
    for folder in splits:
        split = SPLIT_OF_NAME[folder.name.lower()]
        if split in by_split:
            raise ValueError(f"{source} has both {by_split[split].name}/ and {folder.name}/: which is {split}?")
        by_split[split] = folder
    pairs = [(split, folder) for split in SPLITS if split in by_split for folder in folders_in(by_split[split])]
    listing = list_class_folders(source, "split/class/image", pairs)
    if not listing.entries:
        _refuse_two_levels(source, [folder for _, folder in pairs])
    for split, folder in by_split.items():
        listing.problems.extend(_strays(folder, split))
    listing.skipped.extend(_strays(source, None))
    listing.skipped.extend(Problem(f"{folder} is not a split with class folders") for folder in others)
    return listing


def _refuse_two_levels(source: Path, folders: Sequence[Path]) -> list[Path]:
    """The folders that hold folders, of which there may be one: several are classes with classes in them."""
    deeper = [folder for folder in folders if folders_in(folder)]
    if len(deeper) > 1:
        inner = folders_in(deeper[0])[0].relative_to(source)
        raise ValueError(
            f"{source}: the photos are in folders within the class folders, such as {inner}; wanted is CLASS/photo.jpg "
            f"(move the photos up, or the inner folders), or a CSV file with the columns file and label"
        )
    return deeper


def _strays(folder: Path, split: str | None) -> list[Problem]:
    """Photos that lie beside class folders, without a class."""
    names = [entry.name for entry in _entries(folder) if is_photo_name(entry.name) and _is_file(entry)]
    return [Problem(f"{folder / name} is outside of a class folder", split) for name in names]


def list_class_folders(source: Path, layout: str, folders: Sequence[tuple[str | None, Path]]) -> Listing:
    """Photos of class folders, each given with its split."""
    names = class_names_of(folder.name for _, folder in folders)
    listing = Listing(source=source, layout=layout, entries=[], problems=[], skipped=[])
    for split, folder in folders:
        for entry in _entries(folder):
            path = folder / entry.name
            if _is_hidden(entry.name):
                continue
            if _is_folder(entry):
                listing.problems.append(
                    Problem(f"{path} is a folder inside a class folder, which holds photos only", split)
                )
            elif is_photo_name(entry.name):
                add_entry(listing, path, names[folder.name], split, exists=_is_file(entry))
            elif path.suffix.lower() in UNREAD_SUFFIXES:
                listing.problems.append(Problem(f"{path}: {path.suffix} is not read; convert it to JPEG or PNG", split))
            else:
                listing.skipped.append(Problem(f"{path} is not a photo by its name", split))
    used = {entry.class_name for entry in listing.entries}
    for name in sorted({*names.values()} - used):
        empty = [folder for _, folder in folders if names[folder.name] == name]
        listing.problems.append(Problem(f"class folder {empty[0]} holds no photos"))
    return listing


def _list_csv(path: Path) -> Listing:
    """A table with a header; the kind of its separator (comma, semicolon, tab) is read off it."""
    header, rows = read_table(path)
    file, label = (find_column(header, names) for names in (FILE_COLUMNS, LABEL_COLUMNS))
    splits = find_splits(header)
    if file is None or label is None:
        raise ValueError(
            f"{path}: its first line must name the columns file and label (and split), it is {','.join(header)!r}"
        )
    layout = f"CSV with the columns {', '.join(header[i] for i in (file, label, splits.position) if i is not None)}"
    listing = Listing(source=path, layout=layout, entries=[], problems=[], skipped=[])
    first = list(itertools.islice(rows, 100))
    photo_root = root_of_table(path.parent, [row[file] for _, row in first if len(row) == len(header)])
    for line_number, row in itertools.chain(first, rows):
        where = f"{path} line {line_number}"
        if len(row) != len(header):
            listing.problems.append(Problem(f"{where} has {len(row)} columns, its header {len(header)}"))
        else:
            _add_row(listing, photo_root, where, row[file].strip(), normal_name(row[label]), splits, row)
    _refuse_two_labels(listing)
    return listing


def _add_row(
    listing: Listing, photo_root: PhotoRoot, where: str, name: str, label: str, splits: SplitColumn, row: Sequence[str]
) -> None:
    if not name or not label:
        listing.problems.append(Problem(f"{where} has no {'label' if name else 'file'}"))
        return
    try:
        split = splits.of(row)
    except ValueError as error:
        listing.problems.append(Problem(f"{where}: {error}"))
        return
    found = photo_root.photos(name)
    if len(found) > 1:
        listing.problems.append(Problem(f"{where}: {several(name, found)}", split))
    else:
        path = found[0] if found else photo_root.folder / name
        add_entry(listing, path, label, split, exists=bool(found), where=f"{where}: ")


def _refuse_two_labels(listing: Listing) -> None:
    """Rows that name a file twice: the second is left out, as a problem; with two labels, both are."""
    labels: dict[Path, set[str]] = {}
    for entry in listing.entries:
        labels.setdefault(entry.path, set()).add(entry.class_name)
    if len(labels) == len(listing.entries):
        return
    seen: set[Path] = set()
    kept = []
    differ = {
        path: some_of(list(map(repr, sorted(names))), " and ") for path, names in labels.items() if len(names) > 1
    }
    for entry in listing.entries:
        if both := differ.get(entry.path):
            listing.problems.append(Problem(f"{listing.source}: {entry.path} is labelled {both}", entry.split))
        elif entry.path in seen:
            listing.problems.append(Problem(f"{listing.source}: {entry.path} is listed twice", entry.split))
        else:
            kept.append(entry)
        seen.add(entry.path)
    listing.entries[:] = kept


def class_names_of(folders: Iterable[str]) -> dict[str, str]:
    """Class names of class folders: "n02085620-Chihuahua" is "Chihuahua", "001.Black_footed_Albatross" "Black footed
    Albatross" if all are written so and stay apart; other names stay as they are.
    """
    found = sorted(set(folders))
    for style in CLASS_FOLDER_STYLES:
        matches = [re.fullmatch(style, folder) for folder in found]
        names = [normal_name(match[1].replace("_", " ")) for match in matches if match]
        if len(set(names)) == len(found):
            return dict(zip(found, names, strict=True))
    return {folder: normal_name(folder) or folder for folder in found}


def folders_in(folder: Path) -> list[Path]:
    """Its folders in the order of their names, without hidden ones."""
    return [folder / entry.name for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and not _is_hidden(entry.name)
    except OSError:  # links in a circle
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name.lower() in ("thumbs.db", "desktop.ini", "icon\r")


def _is_label_table(path: Path) -> bool:
    """Whether a CSV file's first line names a file and a label column."""
    header = read_header(path)
    return find_column(header, FILE_COLUMNS) is not None and find_column(header, LABEL_COLUMNS) is not None


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:5]) + ", ..." * (len(paths) > 5)
