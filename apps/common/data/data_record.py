"""A run's record of its data (class names; digests of files, labels and boxes), so it is not resumed on other data."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apps.common.checkpoint import CONFIG, MOST_CLASSES, MOST_LETTERS, WEIGHTS, are_names, load_object, model_folder
from apps.common.cli import printable
from apps.common.data.copies import ends_of
from apps.common.data.problems import some_of

KEY = "data_record"  # in config.json
MOST_NAMES = 12  # of classes in a message


class Content(NamedTuple):
    """The content of a split, in its order.

    Attributes:
        paths: of the photos.
        labels: integers of any shape, per photo or for all.
        boxes: (N, 4) pixels, for each photo.
    """

    paths: Sequence[Path]
    labels: Iterable[np.ndarray]
    boxes: Iterable[np.ndarray] = ()


def record_data(
    resume: Path | None, class_names: Sequence[str], teacher: str | Path | None = None, **splits: Content
) -> dict[str, Any]:
    """The record of the data that a run is about to use, for config.json.

    It does not depend on the data's folder, so the data may be moved. Each photo is identified by its name, its size
    and its first and last bytes, which takes some seconds for a hundred thousand.

    Args:
        resume: the run to continue; None for a new one. A run of an earlier version, without a record, is not checked.
        teacher: the model folder or run of the teacher; None or "none" without one.
        splits: by name.

    Raises:
        ValueError: `resume` began with other data; the message says what changed. Or no model may have such classes, or
            the teacher cannot be read.
    """
    if class_names and not are_names(list(class_names)):
        longest = max(map(len, class_names))
        raise ValueError(
            f"the data has {len(class_names):,} classes, whose longest name has {longest:,} letters: a model may have "
            f"{MOST_CLASSES:,} classes of different names in UTF-8 of up to {MOST_LETTERS:,}"
        )
    now: dict[str, Any] = {"classes": list(class_names), **{name: _digests(split) for name, split in splits.items()}}
    now["teacher"] = None
    if teacher is not None and teacher != "none":
        try:
            now["teacher"] = _hash([(model_folder(Path(teacher)) / WEIGHTS).read_bytes()])
        except (ValueError, OSError) as error:
            moved = "; if it was moved, give --teacher its new place" if resume else ""
            raise ValueError(f"--teacher {teacher} cannot be read: {error}{moved}") from None
    before = load_object(resume / CONFIG).get(KEY) if resume else None
    if isinstance(before, dict):
        if before.get("classes") != now["classes"]:
            were = before.get("classes")
            became = _became(list(map(str, were if isinstance(were, list) else [were])), now["classes"])
            raise ValueError(
                f"--resume {resume}: the classes changed: {became}; begin a new run with --weights {resume}, or put "
                "the data back as it was"
            )
        if before.get("teacher", now["teacher"]) != now["teacher"]:
            raise ValueError(f"--resume {resume}: the weights of --teacher {teacher} are not those the run began with")
        if changed := [what for name in splits for what in _changes(name, before.get(name), now[name])]:
            raise ValueError(
                f"--resume {resume}: the data is not what the run began with: {'; '.join(changed)}; put it back as it "
                f"was, or begin a new run with --weights {resume}"
            )
    return {KEY: now}


def _digests(split: Content) -> dict[str, Any]:
    paths = [os.path.abspath(path) for path in split.paths]  # some may be given from the root, some from here
    root = os.path.commonpath({os.path.dirname(path) for path in paths}) if paths else ""
    names = (os.path.relpath(path, root).replace(os.sep, "/").encode(errors="surrogateescape") for path in paths)
    boxes = (np.rint(np.asarray(some, dtype=np.float64) * 100).astype(np.int64) for some in split.boxes)
    return {
        "photos": len(split.paths),
        "names": _hash(names),
        "files": _hash(str(path.stat().st_size).encode() for path in split.paths),
        "ends": _hash(ends_of(split.paths)),
        "labels": _hash(str(np.asarray(some).tolist()).encode() for some in split.labels),
        "boxes": _hash(str(some.tolist()).encode() for some in boxes),
    }


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _changes(name: str, before: Any, now: Mapping[str, Any]) -> list[str]:
    """The differences in words; if names differ, everything else differs, too."""
    if not isinstance(before, dict) or before == now:
        return []
    if before.get("photos") != now["photos"]:
        return [f"{name} had {before.get('photos')!r:.40} photos and has {now['photos']} now"]
    if before.get("names") != now["names"]:
        return [f"{name} has photos of other names, or in another order"]
    files = "other files under the same names"
    words = {"files": files, "ends": files, "labels": "other labels", "boxes": "other boxes"}
    changed = dict.fromkeys(what for key, what in words.items() if before.get(key, now[key]) != now[key])
    return [f"{name} has {' and '.join(changed)}"] if changed else []


def _became(before: Sequence[str], now: Sequence[str]) -> str:
    if max(len(before), len(now)) <= MOST_NAMES:
        return printable(f"{', '.join(before)} became {', '.join(now)}")
    gone, new = (sorted(set(one) - set(other)) for one, other in ((before, now), (now, before)))
    if not gone and not new:
        return f"{len(now)} names are in another order"
    told = [f"{some_of(names, most=5)} {verb}" for names, verb in ((gone, "went"), (new, "came")) if names]
    return f"{len(before)} became {len(now)}: {', '.join(told)}"
