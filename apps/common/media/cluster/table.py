"""The parts of a table of results: Parquet files, each complete or absent, and a description of their origin."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.checkpoint import load_object, save_json
from apps.common.training.run_lock import RunLock, lock_run
from backbone.files import written_whole

ABOUT, LOCK = "_parts.json", "_parts.lock"  # readers of folders of Parquet files skip names with this prefix


class Columns(NamedTuple):
    """An app's columns.

    Attributes:
        fields: gives their names and Arrow's types.
        row: their values for a photo's result.
    """

    fields: Callable[[], list[tuple[str, Any]]]
    row: Callable[[Any], dict[str, Any]]


def file_of(out: Path, number: int) -> Path:
    """The file of a part."""
    return out / f"part-{number:07d}.parquet"


def begin(out: Path, about: Mapping[str, Any], *, num_parts: int) -> tuple[list[int], RunLock]:
    """Prepare a folder for a table, and return which parts are missing, and the folder's lock.

    Args:
        about: of what the results are: the model, the settings, the input; plain types.

    Raises:
        ValueError: there are parts in it that are of something else, or another process writes to it.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = lock_run(out, flag="--out", name=LOCK, what="writes to")
    path, there = out / ABOUT, {one.name for one in out.glob("*.parquet")}
    if there and path.exists():
        known = load_object(path)
        if other := [name for name in about if known.get(name) != about[name]]:
            raise ValueError(
                f"{out} has parts with another {', '.join(other)}: give what they were made with, or another --out"
            )
    elif there:
        raise ValueError(f"{out} has Parquet files of something else: give another --out")
    else:
        save_json(path, dict(about))
    return [number for number in range(num_parts) if file_of(out, number).name not in there], lock


def write_part(out: Path, number: int, data: bytes) -> None:
    """Write a part's file, completely or not at all."""
    with written_whole(file_of(out, number)) as temporary:
        temporary.write_bytes(data)


def encode(rows: Sequence[Mapping[str, Any]], fields: Sequence[tuple[str, Any]], *, computed_by: str) -> bytes:
    """Rows as a Parquet file.

    Args:
        fields: an app's; path, width and height stand before them, problem behind.
        computed_by: stands in the file's metadata.
    """
    import pyarrow
    import pyarrow.parquet

    every = [("path", pyarrow.string()), ("width", pyarrow.int32()), ("height", pyarrow.int32()), *fields]
    schema = pyarrow.schema([*every, ("problem", pyarrow.string())], metadata={"computed_by": computed_by})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema), sink, compression="zstd")
    return sink.getvalue().to_pybytes()
