"""Sample sets: drawn by several processes, cached, written completely or not at all, and shown on a contact sheet.

An app's sample.py provides a function that draws one picture; this module does the rest:

    def draw_picture(slot: Slot) -> Drawn:
        image = draw_moth(slot.rng())
        return Drawn(f"{slot.split}/{slot.id:06d}.jpg", image, record={"file": ..., "label": ...})

    SAMPLE = SampleSet(app="moths", description="Drawn moths", draw="apps.moths.sample:draw_picture",
                       counts={"train": 2000, "val": 200}, code=[Path(__file__)], show=read_labelled)
    root = SAMPLE.make(num_train=100)

Neither this module nor the drawing processes import torch.
"""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from apps.common import pictures

INFO = "sample.json"  # in every set's folder: what it was drawn with
WORTH_A_WORKER = 100  # pictures
WORKER = f"import json, sys; from {__name__} import draw_share; draw_share(**json.loads(sys.argv[1]))"
PROJECT = Path(__file__).resolve().parents[3]


class Slot(NamedTuple):
    """The position of one picture in a set. Drawing may depend on all fields but `id`, which the counts shift."""

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
    """One picture, (H, W, 3) uint8 RGB, with its file name in the set and its record of plain types for the index."""

    name: str
    image: np.ndarray
    record: Any = None


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """Flags: where and how the set is drawn."""

    out: Path | None = None
    """folder to draw into, which must be new or empty; default a folder in the cache"""
    seed: int = 0
    """random seed of everything drawn"""
    num_workers: int | None = None
    """drawing processes; default one per core"""
    contact_sheet: Path | None = None
    """also write this image file: the first training images with their labels"""


DrawingFlags = Annotated[DrawingOptions, tyro.conf.arg(name="")]
USUAL = DrawingOptions()


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """An app's sample set, as its sample.py describes it."""

    app: str
    """part of the folder's name in the cache"""
    description: str
    draw: str
    """the function that draws one picture, as "module:function": Slot -> Drawn"""
    counts: Mapping[str, int]
    """pictures by split, in the splits' order"""
    code: Sequence[Path]
    """files, and folders of files, that the pictures depend on in addition to this folder's"""
    write_index: Callable[[Path, list[Any], dict[str, Any]], None] | None = None
    """called with the folder, the records in the order of their ids, and the description of the set"""
    least: int = 1
    """the smallest number of pictures in a split"""
    show: Callable[[Path], Iterable[np.ndarray]] = lambda root: ()
    """the training pictures (H, W, 3) RGB of a set, all of one height, with their labels"""
    sheet: Mapping[str, int] = field(default_factory=dict)
    """options of `pictures.write_contact_sheet`"""

    def make(self, root: Path | None = None, *, seed: int = 0, num_workers: int | None = None, **numbers: int) -> Path:
        """Draw the set, or reuse one that was drawn before, and return its folder.

        Args:
            root: the folder; by default one in the cache for these counts and this version of the drawing code.
            num_workers: drawing processes; by default one per core.
            numbers: `num_<split>`, for splits that should not have the default number of pictures.

        Raises:
            ValueError: a number is too small, or `root` contains something else.
        """
        counts = {split: numbers.pop(f"num_{split}", count) for split, count in self.counts.items()}
        if numbers:
            raise TypeError(f"{', '.join(numbers)}: the splits are {', '.join(counts)}")
        return draw_set(self, root, counts=counts, seed=seed, num_workers=num_workers)

    def run(self, config: Any) -> None:
        """Draw the set that the flags describe, print its folder, and write the contact sheet if requested.

        Args:
            config: has the fields `num_<split>` for every split, and `drawing`.
        """
        numbers = {name: value for name, value in vars(config).items() if name != "drawing"}
        given: DrawingOptions = config.drawing
        root = self.make(given.out, seed=given.seed, num_workers=given.num_workers, **numbers)
        print(root)
        if given.contact_sheet:
            pictures.write_contact_sheet(given.contact_sheet, self.show(root), **self.sheet)


def draw_set(
    sample: SampleSet, root: Path | None, *, counts: Mapping[str, int], seed: int, num_workers: int | None
) -> Path:
    """See `SampleSet.make`."""
    from backbone.files import cache_dir, written_whole  # here: its package loads torch

    settings = {f"num_{split}": count for split, count in counts.items()}
    smallest = dict.fromkeys(settings, sample.least) | {"seed": 0}
    for name, value in (*settings.items(), ("seed", seed)):
        if value < smallest[name]:
            raise ValueError(f"{name} is {value}, it must be {smallest[name]} or more")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}, it must be 1 or more")
    info = {"description": sample.description, "drawing": fingerprint(sample.code), **settings, "seed": seed}
    key = hashlib.sha256(json.dumps(info).encode()).hexdigest()[:12]
    given, root = root, Path(root or cache_dir() / f"{sample.app}-sample-v1-{key}").absolute()
    if is_drawn(root, info):
        return root
    if given is not None and root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise ValueError(f"{root} exists and is not this sample set: give a folder that is new or empty")
    total = " + ".join(f"{count:,}" for count in counts.values())
    print(f"drawing the sample set ({total} pictures) into {root}", flush=True)
    try:
        with written_whole(root, folder=True) as folder:
            records = draw_all(folder, draw=sample.draw, counts=counts, seed=seed, num_workers=num_workers)
            if sample.write_index:
                sample.write_index(folder, records, info)
            (folder / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
            if is_drawn(root, info):
                raise FileExistsError(root)  # another process was faster, and its set may be in use: keep that one
    except OSError:
        if not is_drawn(root, info):
            raise
    return root


def fingerprint(code: Sequence[Path]) -> str:
    """A hash of the drawing code, so that a set drawn by another version of it is not reused."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files_of(code))).hexdigest()


def files_of(code: Sequence[Path]) -> list[Path]:
    """The files that the pictures of a set depend on: this folder's, pictures.py, and the set's own."""
    files = []
    for path in (Path(__file__).parent, Path(pictures.__file__), *code):
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return files


def is_drawn(root: Path, info: dict[str, Any]) -> bool:
    """Whether a folder contains the set of this `info`; it was written completely or not at all."""
    try:
        return json.loads((root / INFO).read_text(encoding="utf-8")) == info
    except (OSError, ValueError):
        return False


def draw_all(
    folder: Path, *, draw: str, counts: Mapping[str, int], seed: int, num_workers: int | None = None
) -> list[Any]:
    """Draw all pictures, in several processes if there are enough, and return their records.

    They are started as plain commands: a process pool would first import all that the calling script imports.
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
    """Run `draw_share` for each job in its own process; none outlives this call."""
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
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw_share(folder: str, *, draw: str, counts: dict[str, int], seed: int, share: int, num_shares: int) -> None:
    """Draw every `num_shares`-th picture, and write the records to `folder`/share-<share>.jsonl."""
    module, _, name = draw.partition(":")
    draw_picture: Callable[[Slot], Drawn] = getattr(importlib.import_module(module), name)
    slots = [(split, order, number) for order, (split, count) in enumerate(counts.items()) for number in range(count)]
    hidden = None if share == 0 else True  # the first share shows how far all are, on a terminal
    progress = tqdm(desc="drawing", total=len(slots), unit=" pictures", leave=False, disable=hidden)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with open(Path(folder) / f"share-{share}.jsonl", "w", encoding="utf-8") as lines:
            for image_id, slot in list(enumerate(slots, start=1))[share::num_shares]:
                drawn = draw_picture(Slot(seed, *slot, image_id))
                path = Path(folder) / drawn.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pictures.encode_picture(drawn.image, path.suffix))
                lines.write(json.dumps([image_id, drawn.record]) + "\n")
                progress.update(num_shares)
    finally:
        progress.close()
        cv2.setNumThreads(threads)
