"""The end of a training run: its results, the flags for its evaluation, and the next commands."""

import shlex
from pathlib import Path
from typing import Any

from apps.common import cli
from apps.common.checkpoint import FINISHED, save_json
from apps.common.evaluation.plots import plot_curves
from apps.common.training.run_log import RunLog, read_metrics
from apps.common.training.run_state import RunState

EVALUATION = "eval-val"  # of a run


def save_best(log: RunLog, state: RunState, *, panels: dict[str, list[str]]) -> None:
    """Write the metrics of the best evaluation, and curves.png."""
    plot_curves(log.folder / "curves.png", read_metrics(log.folder), panels=panels)
    save_json(log.folder / FINISHED, {"split": "val", "step": state.best["step"], **state.best["metrics"]})


def eval_flags(config: Any, run: Path) -> dict[str, Any]:
    """The flags of eval.py for a run's own val split."""
    same = {name: getattr(config, name) for name in ("data", "group_by", "bad_data", "num_workers", "device")}
    return {"checkpoint": run / "best", "out": run / EVALUATION, **same}


def last_words(app: str, config: Any, run: Path, state: RunState, num_steps: int, *, photo: Path) -> str:
    """The result of a run, a link to its report, and three commands to copy: browser demo, predict, export.

    Args:
        photo: the photo to predict on.
    """
    best, of_run = state.best["metrics"][state.metric], ["--checkpoint", str(run)]
    data = [config.data] if isinstance(config.data, str) else list(config.data)
    given = [] if config.bad_data == "refuse" else ["--bad-data", config.bad_data]
    given += [] if config.group_by is None else ["--group-by", config.group_by]
    given += [] if data == ["sample"] else ["--data", *data]
    commands = [
        [*door("demo", app), *of_run],
        [*door(app, "predict"), str(photo), *of_run],
        [*door(app, "export"), *of_run, *given],
    ]
    lines = [
        f"best {state.metric} on val {'-' if best < 0 else f'{best:.3f}'}, at step {state.best['step']:,}; "
        f"the run in {run} is finished: {state.why_finished(num_steps)}",
        f"report: {(run / EVALUATION / 'report.html').resolve().as_uri()}",
        "next, to look at it in the browser, to predict, and to take it elsewhere:",
        *(f"    {shlex.join(words)}" for words in commands),
    ]
    return "\n".join(lines)


def door(first: str, second: str) -> list[str]:
    """The command for "detection", "predict" or "demo", "detection", in the form in which this program was started."""
    if cli.started_by:
        return [cli.COMMAND, first, second]
    script = cli.ROOT / "demos" / f"{second}.py" if first == "demo" else cli.ROOT / "apps" / first / f"{second}.py"
    return ["python", str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)]
