"""Read lists of labelled faces in common layouts.

    attributes.csv      columns file, any number of attributes, perhaps split and identity; photos in images/ beside it,
                        or beside it (any CSV file of that kind, given by its path)
    CelebA              list_attr_celeba.txt or .csv, img_align_celeba/, perhaps list_eval_partition and
                        identity_CelebA, all in one folder or, as published, in Anno/, Eval/ and Img/

Only names and labels are read here: `load.py` makes splits of them, `check.py` opens the photos.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from apps.common.data.names import Files, PhotoRoot, files_with, root_of_table, several
from apps.common.data.photos import is_photo_name
from apps.common.data.tables import (
    FILE_COLUMNS,
    SPLITS,
    find_column,
    find_splits,
    normal_name,
    read_header,
    read_lines,
    read_table,
)
from apps.faceattr.data.listing import FaceListing, RowReader, attribute_key

ATTRIBUTES_FILE = "attributes.csv"
IDENTITY_COLUMNS = ("identity", "identity_id", "person", "person_id", "subject", "subject_id")
CELEBA_ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
CELEBA_PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
CELEBA_IDENTITY = ("identity_CelebA.txt", "identity_CelebA.csv")
CELEBA_FOLDERS = ("", "Anno", "Eval")
CELEBA_PHOTOS = (
    *("img_align_celeba", "img_align_celeba/img_align_celeba", "Img/img_align_celeba"),
    *("img_align_celeba_png", "Img/img_align_celeba_png", "img_celeba", "Img/img_celeba"),
)
PARTITIONS = dict(zip("012", SPLITS, strict=True))


def list_faces(source: Path) -> FaceListing:
    """Read a folder or a list of labels in one of the layouts above.

    Raises:
        ValueError: it is not there, has none of the layouts, or its list is damaged; the message names the file.
    """
    if source.is_file():
        if source.name in CELEBA_ATTRIBUTES:
            return _list_celeba(source.parent.parent if source.parent.name == "Anno" else source.parent, source)
        return _list_csv(source)
    if not source.is_dir():
        raise ValueError(f"--data {source}: there is no such folder or CSV file")
    if table := _find(source, CELEBA_ATTRIBUTES):
        return _list_celeba(source, table)
    if (source / ATTRIBUTES_FILE).is_file():
        return _list_csv(source / ATTRIBUTES_FILE)
    tables = [path for path in files_with(source, ".csv") if _has_files(path)]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables[:5])
        raise ValueError(f"{source} has several lists of labels: {names}; give those that are meant as --data")
    if tables:
        return _list_csv(tables[0])
    wanted = (*CELEBA_ATTRIBUTES, ATTRIBUTES_FILE)
    deeper = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and _find(folder, wanted)]
    hint = f"; did you mean --data {' '.join(map(str, deeper[:3]))}?" if deeper else ""
    raise ValueError(
        f"{source} holds no labelled faces: wanted is {ATTRIBUTES_FILE} (columns file and one for each attribute) with "
        f"the photos in images/, or CelebA's {CELEBA_ATTRIBUTES[0]} with img_align_celeba/{hint}"
    )


def _list_csv(path: Path) -> FaceListing:
    header, rows = read_table(path)
    file, identity = (find_column(header, names) for names in (FILE_COLUMNS, IDENTITY_COLUMNS))
    splits = find_splits(header)
    columns = (file, splits.position, identity)
    used = [i for i, name in enumerate(header) if i not in columns and name and not name.startswith("Unnamed: ")]
    if file is None or not used:
        what = "a column file" if file is None else "a column for each attribute beside it"
        raise ValueError(f"{path}: its first line must name {what}; it is {','.join(header)[:200]!r}")
    first = list(itertools.islice(rows, 100))
    photo_root = root_of_table(path.parent, [cells[file] for _, cells in first if len(cells) == len(header)])
    reader = RowReader(source=path, layout="CSV", attributes=_attributes(path, [header[i] for i in used]))
    for line, cells in itertools.chain(first, rows):
        if len(cells) != len(header):
            reader.fault(line, f" has {len(cells)} columns, its header {len(header)}")
            continue
        if not (name := cells[file].strip()):
            reader.fault(line, " has no file")
            continue
        try:
            split = splits.of(cells)
        except ValueError as error:
            reader.fault(line, f": {error}")
            continue
        who = None if identity is None else normal_name(cells[identity])
        _add(reader, line, photo_root, name, [cells[i] for i in used], split, who or None)
    _say_unlisted(reader, photo_root.folder)
    return reader.finish()


def _list_celeba(root: Path, table: Path) -> FaceListing:
    photos = next((root / name for name in CELEBA_PHOTOS if _has_photos(root / name)), None)
    if photos is None:
        packed = [str(p) for name in CELEBA_PHOTOS for p in (root / name).parent.glob("img_*celeba*.[z7]*")]
        hint = f"; unpack {packed[0]}" if packed else ""
        raise ValueError(f"{root}: no photos of {table.name} in {CELEBA_PHOTOS[0]}/ or Img/{CELEBA_PHOTOS[0]}/{hint}")
    declared, names, rows = _celeba_rows(table)
    partition, identity = (_read_pairs(_find(root, names)) for names in (CELEBA_PARTITION, CELEBA_IDENTITY))
    reader = RowReader(source=table, layout="CelebA", attributes=_attributes(table, names))
    photo_root = PhotoRoot(photos, 0, Files())
    suffix = ".png" if photos.name.endswith("png") else ""
    num_rows = 0
    for line, cells in rows:
        num_rows += 1
        if len(cells) != len(names) + 1:
            reader.fault(line, f" has {len(cells)} columns, its header makes {len(names) + 1}")
            continue
        file = cells[0].strip()
        split = None if partition is None else PARTITIONS.get(partition.get(file, ""))
        if partition is not None and split is None:
            reader.fault(line, f": {file} is in no split of {CELEBA_PARTITION[0]} (0, 1 or 2)")
            continue
        name_on_disk = Path(file).with_suffix(suffix).name if suffix else file
        _add(reader, line, photo_root, name_on_disk, cells[1:], split, (identity or {}).get(file))
    if declared is not None and declared != num_rows:
        reader.notes.append(f"{table} says that it has {declared:,} photos, it has {num_rows:,}")
    _say_unlisted(reader, photos)
    return reader.finish()


def _celeba_rows(table: Path) -> tuple[int | None, list[str], Iterator[tuple[int, list[str]]]]:
    """The number of photos that the list claims, its attributes, and its rows with their numbers."""
    if table.suffix == ".csv":
        header, rows = read_table(table)
        return None, header[1:], rows
    lines = read_lines(table)
    claimed = lines[0].strip() if lines else ""
    skip = int(claimed.isdecimal() and len(claimed) <= 12)
    names = lines[skip].split() if len(lines) > skip else []
    first = lines[skip + 1].split() if len(lines) > skip + 1 else []
    if not names or len(first) != len(names) + 1:
        raise ValueError(f"{table} is not CelebA's list of attributes: it begins with {' '.join(lines[:3])[:80]!r}")
    rows = ((n, line.split()) for n, line in enumerate(lines[skip + 1 :], skip + 2) if line.strip())
    return int(claimed) if skip else None, names, rows


def _read_pairs(path: Path | None) -> dict[str, str] | None:
    """A list of file names with one value each."""
    if path is None:
        return None
    if path.suffix == ".csv":
        rows = read_table(path).rows
    else:
        rows = ((n, line.split()) for n, line in enumerate(read_lines(path), 1) if line.strip())
    pairs = {}
    for line, cells in rows:
        if len(cells) != 2:
            raise ValueError(f"{path} line {line} must hold a file name and one value, it has {len(cells)} columns")
        pairs[cells[0].strip()] = cells[1].strip()
    return pairs


def _add(
    reader: RowReader,
    line: int,
    photo_root: PhotoRoot,
    name: str,
    cells: Sequence[str],
    split: str | None,
    who: str | None,
) -> None:
    found = photo_root.photos(name)
    path = found[0] if found else photo_root.folder / name
    if len(found) != 1:
        reader.fault(line, f": {several(name, found)}" if found else f": {path} does not exist", split=split)
    elif not is_photo_name(path.name):
        reader.fault(line, f": {path} is not a photo by its name", split=split)
    else:
        reader.add(line, path, cells, split=split, identity=who)


def _attributes(table: Path, names: Sequence[str]) -> list[str]:
    """The names, of which no two may be spellings of one."""
    seen: dict[str, str] = {}
    for name in map(normal_name, names):
        key = attribute_key(name)
        if key in seen:
            raise ValueError(f"{table}: the columns {seen[key]!r} and {name!r} are the same attribute; remove one")
        seen[key] = name
    return list(seen.values())


def _say_unlisted(reader: RowReader, folder: Path) -> None:
    with os.scandir(folder) as entries:
        there = {entry.name for entry in entries if is_photo_name(entry.name)}
    unlisted = len(there - {path.name for path in reader.paths})
    if unlisted:
        reader.notes.append(f"{unlisted:,} photos in {folder} are not used by {reader.source.name}")


def _find(root: Path, names: Sequence[str]) -> Path | None:
    paths = (root / folder / name for folder in CELEBA_FOLDERS for name in names)
    return next((path for path in paths if path.is_file()), None)


def _has_files(path: Path) -> bool:
    return path.is_file() and find_column(read_header(path), FILE_COLUMNS) is not None


def _has_photos(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(is_photo_name(entry.name) for entry in entries)
