"""`predict.py --on ray` for all apps."""

import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apps.common.checkpoint import DESCRIPTION, WEIGHTS, model_folder
from apps.common.cli import say
from apps.common.deploy.formats import exported_format
from apps.common.deploy.packages import need
from apps.common.media.answers import answered
from apps.common.media.cluster.engine import MOST_FAILED, Compute, Done, compute_parts
from apps.common.media.cluster.inputs import Named, Part, by_path, digest_of, find_files, make_parts, read_part
from apps.common.media.cluster.process import in_own_process
from apps.common.media.cluster.table import Columns, begin, encode, write_part
from apps.common.media.frames import Tally
from apps.common.media.watch import RUNS, new_folder

EVERY_S = 10  # between lines of progress
NOT_THERE = ("only_unlabelled", "every", "save", "save_as", "cam")  # flags of what only predict.py itself does
ELSEWHERE = ("checkpoint", "weights", "backbone", "sources", "source", "out", "device", "threads", "given")
WHERE = ("on", "address", "actors")


class Answering(NamedTuple):
    """An app's predictor for parts.

    Attributes:
        find: results for images (H, W, 3) uint8 RGB.
        batch_size: images per call of `find`.
        columns: the table's columns for a result.
        session: its name.
        named: see `inputs.read_part`.
    """

    find: Callable[[list[np.ndarray]], Sequence[Any]]
    batch_size: int
    columns: Columns
    session: str
    named: Named = by_path


class Predictions:
    """Computes the table of a part, in an actor."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering

    def __call__(self, part: Part, pool: ThreadPoolExecutor, ahead: int) -> Done:
        find, batch_size, columns, session, named = self.answering
        rows, tally = [], Tally()
        frames = read_part(part, pool, ahead=ahead, named=named)
        for frame, found in answered(frames, find, batch_size=batch_size, tally=tally):
            path = frame.name.encode("utf-8", "backslashreplace").decode()
            if found is None or frame.image is None:
                rows.append({"path": path, "problem": frame.problem})
            else:
                height, width = frame.image.shape[:2]
                rows.append({"path": path, "width": width, "height": height, **columns.row(found)})
        data = encode(rows, columns.fields(), computed_by=session)
        return Done(part.number, data, num_photos=len(rows), num_problems=len(tally.problems))


def start(config: Any, model: Mapping[str, bytes], answer: Callable[[Any], Answering]) -> Compute:
    """What an actor holds.

    Args:
        model: the files of --checkpoint, by name: it need not be on the actor's machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, data in model.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        if model:
            first = Path(next(iter(model)))
            config = dataclasses.replace(config, checkpoint=Path(folder, first.parts[0]))
        return Predictions(answer(config))


def pack(checkpoint: Path | None) -> dict[str, bytes]:
    """The files of a model, by their names below the folder it is in."""
    if checkpoint is None:
        return {}
    if exported_format(checkpoint) is None:
        folder = model_folder(checkpoint)
        return {f"model/{name}": (folder / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    files = sorted(checkpoint.iterdir()) if checkpoint.is_dir() else [checkpoint]
    return {str(file.relative_to(checkpoint.parent)): file.read_bytes() for file in files if file.is_file()}


def model_digest(config: Any, model: Mapping[str, bytes]) -> str:
    """Of a model's files; of a published one, its name."""
    weights = getattr(config, "weights", "")
    files = model or ({weights: Path(weights).read_bytes()} if weights and Path(weights).is_file() else {})
    if not files:
        return f"{weights} {config.backbone}"
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(files):
        digest.update(files[name])
    return digest.hexdigest()


def predicted_on_ray(config: Any, *, app: str, answer: Callable[[Any], Answering]) -> bool:
    """Whether the flags ask for it, after it was done: see `make_table`."""
    if config.on == "ray":
        make_table(config, app=app, answer=answer, what="predictions")
    elif (config.address, config.actors) != (None, None):
        raise ValueError("--address and --actors are for --on ray: without it, they would change nothing")
    return config.on == "ray"


def make_table(config: Any, *, app: str, answer: Callable[[Any], Answering], what: str) -> Path:
    """Write what is found in all photos as parts of a Parquet table; finished parts are kept.

    Returns the table's folder.

    Args:
        config: flags of a predict.py.
        answer: makes what predicts from flags; found by its name in a module.
        what: of others, which the folder may have, it makes.

    Raises:
        ValueError: flags that do not go together or a source that cannot be read; parts are missing at the end.
        KeyboardInterrupt: it was stopped.
    """
    if config.actors is not None and config.actors < 1:
        raise ValueError(f"--actors must be 1 or more, got {config.actors}")
    for name in NOT_THERE:
        if getattr(config, name, None) != getattr(type(config), name, None):
            raise ValueError(f"--{name.replace('_', '-')} is not for --on ray, which writes a table only: leave it out")
    need("ray.data", "pyarrow", extra="cluster")
    config = dataclasses.replace(config, threads=config.threads or 1)
    out = config.out or RUNS / app / "predict"
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder")
    files = find_files(config.all_sources, apart_from=config.out or RUNS)
    on_cpu = {"device": "cpu", **({"runtime": "torch"} if config.runtime == "torch-compile" else {})}
    answering = answer(dataclasses.replace(config, **on_cpu))  # a wrong flag ends here, and files are exported once
    model = pack(config.checkpoint)
    parts = list(make_parts(files, num_files=len(files), batch_size=answering.batch_size))
    skipped = (*ELSEWHERE, *WHERE, *NOT_THERE)
    settings = {name: str(value) for name, value in sorted(vars(config).items()) if name not in skipped}
    about = {"app": app, "table": what, "model": model_digest(config, model), **settings, "input": digest_of(files)}
    out = config.out or new_folder(out)
    todo, lock = begin(out, about, num_parts=len(parts))  # which is held until all is written
    if len(todo) < len(parts):
        say(f"{len(parts) - len(todo):,} of {len(parts):,} parts are in {out} already")
    if todo:
        try:
            _compute([parts[number] for number in todo], partial(start, config, model, answer), config, out)
        except ValueError as error:
            at = f"--address {config.address}: " if config.address else ""
            raise ValueError(
                f"{at}{error}; start again with the same flags and --out {out}: finished parts are kept"
            ) from None
    say(f"all {len(parts):,} parts are in {out}")
    del lock
    return out


def _compute(parts: Sequence[Part], start: Callable[[], Compute], config: Any, out: Path) -> None:
    """Compute parts and write each as it comes."""
    device = {"cpu": False, "auto": None if config.runtime in ("auto", "torch", "torch-compile") else False}
    where = {"address": config.address, "actors": config.actors, "threads": config.threads}
    gpu = device.get(config.device, True)
    num_parts = num_photos = num_problems = first = 0
    errors: list[str] = []
    began = said = 0.0  # when the first part came: a rate without the start
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        closing(in_own_process(partial(compute_parts, **where, folder=Path(folder), gpu=gpu), parts, start)) as results,
    ):
        for done in results:
            if done.error:
                errors.append(done.error)
                if len(errors) > MOST_FAILED:
                    break
                continue
            write_part(out, done.number, done.data)
            num_parts, num_photos = num_parts + 1, num_photos + done.num_photos
            num_problems += done.num_problems
            now = time.monotonic()
            if not began:
                began, said, first = now, now, num_photos
            elif now - said > EVERY_S:
                said = now
                rate = (num_photos - first) / (now - began)
                say(f"{num_parts:,} of {len(parts):,} parts, {rate:,.0f} photos a second")
    unread = f", of which {num_problems:,} could not be read (column problem)" if num_problems else ""
    say(f"{num_photos:,} photos{unread}")
    if num_parts < len(parts):
        why = errors[0] if errors else "the processes that had them died"
        raise ValueError(f"{len(parts) - num_parts:,} of {len(parts):,} parts are missing ({why})")
