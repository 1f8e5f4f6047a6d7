"""The record of a run: a folder with config.json, metrics.jsonl and the script's other files."""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.common.checkpoint import CONFIG, load_object, save_json
from apps.common.training.commit import git_commit
from apps.common.training.distributed import Processes
from apps.common.training.run_lock import RunLock, lock_run
from backbone.files import mend, numbered, written_whole

METRICS, STATE, BOARD = "metrics.jsonl", "last.pt", "tensorboard"
TRAIN_BATCH, VAL_BATCH = "train_batch.jpg", "val_batch.jpg"


class RunLog:
    """Writes a run's folder.

    `config.json` holds the config and the git commit; `metrics.jsonl` one JSON object per line, each with a `step`
    and an `event` ("train" or "eval").

    Args:
        folder: of the run.
        writes: whether this process writes; only one of several does.
        lock: keeps other processes out of the folder.
        board: also writes for TensorBoard; replaces the content of the run's tensorboard/.
    """

    def __init__(self, folder: Path, *, writes: bool = True, lock: RunLock | None = None, board: bool = False) -> None:
        self.folder = folder
        self.writes = writes
        self.lock = lock
        self.board = open_board(folder, read_metrics(folder)) if board and writes else None

    @classmethod
    def open(cls, config: Any, *, app: str, step: int, processes: Processes, **facts: Any) -> "RunLog":
        """The record of a new run, or of the one given by `config.resume`, at `step`.

        Args:
            config: with the fields `out`, `resume`, `tensorboard` and `backbone`.
            processes: the first of them writes.
            facts: for config.json, besides the config.

        Raises:
            ValueError: the folder cannot be written, contains another run, or is used by another process.
        """
        if config.tensorboard:
            import_board()
        if config.resume is None:
            folder, lock = cls._start(config, app, processes, facts)
        else:
            folder, lock = config.resume, None
            if processes.is_first:
                lock = lock_run(folder, flag="--resume")
                mend(folder)
                cls._shorten(folder, app, step, facts)
        return cls(folder, writes=processes.is_first, lock=lock, board=config.tensorboard)

    @staticmethod
    def _start(config: Any, app: str, processes: Processes, facts: dict[str, Any]) -> tuple[Path, RunLock | None]:
        """Make the folder of a new run, `config.out` or runs/<app>/<backbone>-<time>, and write its config."""
        default = Path("runs") / app / f"{config.backbone}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder, lock = config.out or default, None
        if processes.is_first:
            try:
                folder, lock = claim(folder, wanted=config.out is not None)
                mend(folder)  # of a run that ended before its first state
                save_json(folder / CONFIG, {"app": app, "config": plain(config), "git_commit": git_commit(), **facts})
            except OSError as error:
                raise ValueError(f"cannot write to --out {folder}: {error.strerror}") from None
        return processes.from_first(folder), lock

    @staticmethod
    def _shorten(folder: Path, app: str, step: int, facts: Mapping[str, Any]) -> None:
        """Remove the lines that an interrupted process wrote after `step`: they will be written again.

        Raises:
            ValueError: the run is another app's, or its data have changed.
        """
        record = load_object(folder / CONFIG)
        if record.get("app") != app:
            raise ValueError(f"--resume {folder} is a run of {record.get('app')!r}, this is {app!r}")
        for name, what in (("num_photos", "photos to learn"), ("num_steps", "steps")):
            now = facts.get(name)
            if (before := record.get(name, now)) != now:
                raise ValueError(
                    f"--resume {folder}: the run began with {before!r:.40} {what}, the data has {now} now; put it back "
                    "as it was, or begin a new run"
                )
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        with written_whole(folder / METRICS) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def is_missing(self, name: str) -> bool:
        """Whether the run lacks a file that this process should write."""
        return self.writes and not (self.folder / name).exists()

    def set_steps(self, steps: int, **settings: Any) -> None:
        """Record the steps that fit into --minutes, and the settings derived from them, for --resume."""
        if self.writes:
            record = load_object(self.folder / CONFIG)
            fitted = {"steps": steps, **settings}
            save_json(self.folder / CONFIG, {**record, "num_steps": steps, "fitted": fitted})

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        if not self.writes:
            return
        line = {"event": event, "step": step, **values}
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        if self.board:
            show(self.board, line)


def claim(folder: Path, *, wanted: bool) -> tuple[Path, RunLock]:
    """Create and lock a run's folder, with an empty metrics.jsonl that marks it as in use for later runs.

    Args:
        wanted: use exactly this folder, also if a run ended in it without leaving anything; otherwise a number is
            appended to the name if it is in use.

    Raises:
        ValueError: the wanted folder contains a run, or another process trains in it.
    """
    for free in numbered(folder):
        free.mkdir(parents=True, exist_ok=True)
        try:
            lock = lock_run(free, flag="--out")
        except ValueError:
            if wanted:
                raise
            continue
        try:
            (free / METRICS).touch(exist_ok=False)
            break
        except FileExistsError:
            if wanted and not (folder / STATE).exists() and not (folder / METRICS).stat().st_size:
                break  # of a run that ended before its first state
            if wanted:
                raise ValueError(
                    f"--out {folder} holds a run already: continue it with --resume {folder}, or name another folder"
                ) from None
    return free, lock


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All complete lines of a run's metrics.jsonl; a last line cut off by a kill is skipped.

    Raises:
        ValueError: one is damaged.
    """
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.exists() else []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
            whole = isinstance(found[-1]["step"], int) and isinstance(found[-1]["event"], str)
        except (ValueError, TypeError, KeyError, RecursionError):
            whole = False
        if not whole:
            raise ValueError(f"{path} line {number} is damaged: no JSON object with a step and an event")
    return found


def import_board() -> Any:
    """TensorBoard's writer; ValueError if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs the package tensorboard: install it with "
            '`python -m pip install -e ".[tensorboard]" -c constraints.txt`, or leave the flag out'
        ) from None
    return SummaryWriter


def open_board(folder: Path, lines: Sequence[dict[str, Any]]) -> Any:
    """A TensorBoard writer in a run's tensorboard/, with exactly `lines` of metrics.jsonl in it.

    Existing content is replaced: steps that an interrupted process wrote will be written again.
    """
    shutil.rmtree(folder / BOARD, ignore_errors=True)
    board = import_board()(str(folder / BOARD))
    for line in lines:
        show(board, line)
    return board


def show(board: Any, line: dict[str, Any]) -> None:
    """Write the numbers of a line of metrics.jsonl for TensorBoard, as "event/name"."""
    for name, value in line.items():
        if name != "step" and isinstance(value, int | float):
            board.add_scalar(f"{line['event']}/{name}", value, line["step"])
    board.flush()


def plain(config: Any) -> dict[str, Any]:
    """Convert to JSON: paths become text, tuples lists; without `given`, which is not a setting."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name != "given"}
    return json.loads(json.dumps(settings, default=str))
