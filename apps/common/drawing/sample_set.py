"""Sample sets that are drawn: by several processes, cached, written whole, and shown on a contact sheet.

An app's sample.py gives a function that draws one picture; this leaf does the rest:

    def draw_picture(slot: Slot) -> Drawn:
        image = draw_moth(slot.rng())
        return Drawn(f"{slot.split}/{slot.id:06d}.jpg", image, record={"file": ..., "label": ...})

    root = draw_set(None, app="moths", description="Drawn moths", draw="apps.moths.sample:draw_picture",
                    counts={"train": 2000, "val": 200}, seed=0, code=[Path(__file__)], write_index=write_csv)

This module does without torch, and so do the processes that draw.
"""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from apps.common.pictures import write_picture

INFO = "sample.json"  # in every set's folder: what it was drawn with
WORTH_A_WORKER = 100  # pictures
WORKER = f"import json, sys; from {__name__} import draw_share; draw_share(**json.loads(sys.argv[1]))"
PROJECT = Path(__file__).resolve().parents[3]


class Slot(NamedTuple):
    """The place of one picture in a set. What is drawn may depend on all but `id`, which the counts shift."""

    seed: int
    split: str
    split_index: int
    number: int
    """from 0 in each split"""
    id: int
    """from 1 through all splits"""

    def rng(self) -> np.random.Generator:
        """The generator of everything random in this picture."""
        return np.random.default_rng((self.seed, self.split_index, self.number))


class Drawn(NamedTuple):
    """One picture, (H, W, 3) uint8 RGB, with its file's name in the set and, of plain types, what an index needs."""

    name: str
    image: np.ndarray
    record: Any = None


WriteIndex = Callable[[Path, list[Any], dict[str, Any]], None]


def draw_set(
    root: Path | None,
    *,
    app: str,
    description: str,
    draw: str,
    counts: Mapping[str, int],
    seed: int,
    code: Sequence[Path],
    num_workers: int | None = None,
    write_index: WriteIndex | None = None,
    least: int = 1,
) -> Path:
    """Draw a set, or find it where it was drawn before, and return its folder.

    Args:
        root: the folder; by default one in the cache that belongs to these numbers and this version of the drawing.
        draw: the function that draws one picture, as "module:function": Slot -> Drawn.
        counts: pictures by split, in the splits' order.
        code: the files that the pictures depend on, and folders of such files.
        num_workers: processes that draw; by default one for each core.
        write_index: called with the folder, the records in the order of their ids and what is known of the set.
        least: pictures that a split needs.

    Raises:
        ValueError: a number is too small, or `root` holds something else.
    """
    from backbone.files import cache_dir, written_whole  # here: its package loads torch

    numbers = {f"num_{split}": count for split, count in counts.items()}
    for name, number, smallest in (*((name, count, least) for name, count in numbers.items()), ("seed", seed, 0)):
        if number < smallest:
            raise ValueError(f"{name} is {number}, it must be {smallest} or more")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}, it must be 1 or more")
    info = {"description": description, "drawing": fingerprint(code), **numbers, "seed": seed}
    key = hashlib.sha256(json.dumps(info).encode()).hexdigest()[:12]
    given, root = root, Path(root or cache_dir() / f"{app}-sample-v1-{key}").absolute()
    if is_drawn(root, info):
        return root
    if given is not None and root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise ValueError(f"{root} exists and is not this sample set: give a folder that is new or empty")
    total = " + ".join(f"{count:,}" for count in counts.values())
    print(f"drawing the sample set ({total} pictures) into {root}", flush=True)
    try:
        with written_whole(root, folder=True) as folder:
            records = draw_all(folder, draw=draw, counts=counts, seed=seed, num_workers=num_workers)
            if write_index:
                write_index(folder, records, info)
            (folder / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
            if is_drawn(root, info):
                raise FileExistsError(root)  # another process was faster, and its set may be in use: keep that one
    except OSError:
        if not is_drawn(root, info):
            raise
    return root


def fingerprint(code: Sequence[Path]) -> str:
    """Stands for the code that draws, so that no set drawn by another version of it is taken for this one's."""
    files = [Path(__file__)]
    for path in code:
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def is_drawn(root: Path, info: dict[str, Any]) -> bool:
    """Whether a folder holds the set of this `info`; it was written whole or not at all."""
    try:
        return json.loads((root / INFO).read_text(encoding="utf-8")) == info
    except (OSError, ValueError):
        return False


def draw_all(
    folder: Path, *, draw: str, counts: Mapping[str, int], seed: int, num_workers: int | None = None
) -> list[Any]:
    """Draw all pictures, in several processes where there is enough to do, and return their records.

    They are started as plain commands: a process pool would first load all that the calling script imports.
    """
    num_shares = num_workers or min(num_cores(), 1 + sum(counts.values()) // WORTH_A_WORKER)
    job = {"folder": str(folder), "draw": draw, "counts": dict(counts), "seed": seed, "num_shares": num_shares}
    if num_shares == 1:
        draw_share(**job, share=0)  # type: ignore[arg-type]
    else:
        run_workers([{**job, "share": share} for share in range(num_shares)])
    shares = sorted(folder.glob("share-*.jsonl"))
    lines = [json.loads(line) for share in shares for line in share.read_text(encoding="utf-8").splitlines()]
    for share in shares:
        share.unlink()
    return [record for _, record in sorted(lines, key=lambda line: line[0])]


def run_workers(jobs: Iterable[dict[str, Any]]) -> None:
    """Run `draw_share` for each job in a process of its own; none outlives this call."""
    processes: list[subprocess.Popen] = []
    try:
        for job in jobs:
            processes.append(subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(job)], cwd=PROJECT))
        for process in processes:
            if process.wait():
                raise RuntimeError(f"a process drawing the sample set ended with code {process.returncode}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw_share(folder: str, *, draw: str, counts: dict[str, int], seed: int, share: int, num_shares: int) -> None:
    """Draw every `num_shares`-th picture, and write the records to `folder`/share-<share>.jsonl."""
    module, _, name = draw.partition(":")
    draw_picture: Callable[[Slot], Drawn] = getattr(importlib.import_module(module), name)
    places = [(split, order, number) for order, (split, count) in enumerate(counts.items()) for number in range(count)]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with open(Path(folder) / f"share-{share}.jsonl", "w", encoding="utf-8") as lines:
            for image_id, place in list(enumerate(places, start=1))[share::num_shares]:
                drawn = draw_picture(Slot(seed, *place, image_id))
                path = Path(folder) / drawn.name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_picture(path, drawn.image[..., ::-1])
                lines.write(json.dumps([image_id, drawn.record]) + "\n")
    finally:
        cv2.setNumThreads(threads)
