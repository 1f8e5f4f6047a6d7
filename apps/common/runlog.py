"""The record of a run: a folder with config.json, metrics.jsonl and whatever the script adds."""

import dataclasses
import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from apps.common.checkpoint import load_json, save_json
from apps.common.distributed import Processes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG, METRICS, STATE = "config.json", "metrics.jsonl", "last.pt"
MAY_CHANGE = ("num_workers", "device", "checkpoint_every")  # flags that a resumed run may be given anew
ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


class RunLog:
    """Writes a run's folder.

    `config.json` holds the config and the git commit; `metrics.jsonl` one JSON object per line, each with a `step`
    and an `event` ("train" or "eval").

    Attributes:
        folder: where the run is.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder = folder
        self.writes = writes

    @classmethod
    def start(cls, out: Path | None, *, app: str, config: Any, processes: Processes, **facts: Any) -> "RunLog":
        """Make the folder of a new run and write its config and `facts`.

        Args:
            out: the folder; None for runs/<app>/<backbone>-<time>. One that holds a run already is refused.
            processes: the first of them writes.

        Raises:
            ValueError: the folder cannot be written or holds a run.
        """
        folder = processes.from_first(out or Path("runs") / app / f"{config.backbone}-{time.strftime('%Y%m%d-%H%M%S')}")
        if not processes.is_first:
            return cls(folder, writes=False)
        if (folder / METRICS).exists():
            raise ValueError(f"--out {folder} holds a run already: continue it with --resume {folder}, or name another")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            record = {"app": app, "config": _plain(config), "git_commit": git_commit(), **facts}
            save_json(folder / CONFIG, record)
        except OSError as error:
            raise ValueError(f"cannot write to --out {folder}: {error.strerror}") from None
        return cls(folder)

    @classmethod
    def reopen(cls, folder: Path, *, app: str, step: int, processes: Processes) -> "RunLog":
        """Continue a run at `step`: lines that the interrupted process wrote after that step are removed."""
        record = load_json(folder / CONFIG)
        if record.get("app") != app:
            raise ValueError(f"--resume {folder} is a run of {record.get('app')!r}, this is {app!r}")
        if not processes.is_first:
            return cls(folder, writes=False)
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        return cls(folder)

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        if not self.writes:
            return
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "step": step, **values}, allow_nan=False) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's metrics.jsonl; a last line cut off by a kill is left out."""
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def resumed_config(config: ConfigT, run: Path) -> ConfigT:
    """The config that a run was started with, with what `MAY_CHANGE` taken from the present flags.

    Raises:
        ValueError: another flag was given too: it would change nothing.
    """
    saved = load_json(run / CONFIG)["config"]
    given = _plain(config)
    for field in dataclasses.fields(config):
        changed = getattr(config, field.name) != field.default
        if field.name in MAY_CHANGE and changed:
            saved[field.name] = given[field.name]
        elif changed and field.name != "resume" and given[field.name] != saved[field.name]:
            flag = "--" + field.name.replace("_", "-")
            raise ValueError(
                f"{flag} {given[field.name]} cannot be changed by --resume: the run has {saved[field.name]}"
            )
    return type(config)(**{**saved, "resume": run, "out": None})


def git_commit() -> str | None:
    """The commit of the code that runs, with "+" if files were changed since; None outside a git checkout."""

    def git(*args: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _plain(config: Any) -> dict[str, Any]:
    """As JSON has it: paths are text, tuples are lists."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
