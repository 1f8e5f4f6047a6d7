"""Load weights from a path or a catalog name; the content of the file decides which reader is used."""

from dataclasses import replace
from pathlib import Path

from backbone.weights.catalog import WeightFile, find_entry
from backbone.weights.fetch import fetch
from backbone.weights.loaded_weights import LoadedWeights, check_width
from backbone.weights.read import READABLE, read_bytes, read_tflite_graph, read_weights
from backbone.weights.readers.tflite_graph import TFLiteGraph


def load_weights(source: str | Path, *, width_mult: float | None = None) -> LoadedWeights:
    """Read weights from a file, or from a catalog entry, which is downloaded if it is not in the cache.

    Args:
        source: path of a file of any kind this package reads, or a name that `python -m backbone.weights list` shows.
        width_mult: the width they must have; None for any.

    Raises:
        ValueError: no such file or name; a damaged file; another network; another width than asked for
            (with both numbers); a download that failed; a library that is not installed. Always one line.
    """
    path, entry = locate_weights(source)
    weights = read_weights(read_bytes(path), name=str(path))
    if entry:
        weights = _with_entry(weights, entry)
    return check_width(weights, width_mult)


def load_graph(source: str | Path) -> TFLiteGraph:
    """The tensors and operators of a TFLite file (or of one in an archive), such as an SSD detector; see `read_graph`.

    Raises:
        ValueError: no such file or name, no TFLite file, a damaged one. Always one line.
    """
    path, _ = locate_weights(source)
    return read_tflite_graph(read_bytes(path), name=str(path))


def locate_weights(source: str | Path) -> tuple[Path, WeightFile | None]:
    """The file for `source`, and its catalog entry if `source` is a name.

    Raises:
        ValueError: neither a file nor a name; or a download that failed.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path, None
    missing = "is a folder" if path.is_dir() else "no such file"
    if isinstance(source, Path) or len(path.parts) > 1:
        raise ValueError(f"{path}: {missing}; weights are {READABLE}")
    try:
        entry = find_entry(source)
    except ValueError as error:
        raise ValueError(f"{path}: {missing}, and {error}") from error
    return fetch(entry), entry


def _with_entry(weights: LoadedWeights, entry: WeightFile) -> LoadedWeights:
    """The catalog's facts that are not in the file."""
    weights = check_width(weights, entry.width_mult)
    return replace(
        weights,
        preprocessing=entry.preprocessing,
        class_list=entry.class_list if weights.num_classes else None,
        resolution=entry.resolution,
        source=entry.url,
        licence=entry.licence,
        top1=entry.top1,
    )
