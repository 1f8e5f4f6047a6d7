"""--minutes on a clock that the tests move: what fits is checked by adding up what a run took."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from tqdm import tqdm

from apps.common.training import budget, distributed
from apps.common.training.budget import Budget
from apps.common.training.distributed import Processes
from apps.common.training.resume import resumed_config
from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState
from apps.common.training.sampling import Lengths, run_lengths


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    minutes: float | None = None
    steps: int | None = None
    epochs: float | None = None
    head_epochs: float | None = None
    batch_size: int = 10
    accumulate: int = 1
    warmup_steps: int | None = None
    eval_every: int | None = None
    checkpoint_every: int = 500
    clip_norm: float = 5.0
    seed: int = 0
    num_workers: int = 0
    backbone: str = "a025"
    tensorboard: bool = False
    out: Path | None = None
    resume: Path | None = None
    given: frozenset[str] = frozenset()


@dataclasses.dataclass(kw_only=True)
class Ran:
    """A run on a clock of its own."""

    seconds: float = 0.0
    done: int = 0
    evaluated: list[int] = dataclasses.field(default_factory=list)
    head_steps: int = 0
    lengths: Lengths | None = None


def run(config: Config, monkeypatch, *, step_s: float = 1.0, eval_s: float = 20.0, **how: Any) -> Ran:
    """The loop of a train.py: setting up takes 30 s, the first three steps 10 s more, and saving 2 s.

    Args:
        how: `head_steps` at the start, of `head_s`; `stop_after` so many steps; `patience` in evaluations.
    """
    ran, head_steps, head_s = Ran(), how.get("head_steps", 0), how.get("head_s", 0.1)
    monkeypatch.setattr(distributed, "now", lambda: ran.seconds)
    config = resumed_config(config, config.resume)
    lengths = run_lengths(config, 1000, default_epochs=3.0)
    if config.head_epochs is not None:
        head_steps = round(config.head_epochs * 100)
    lengths.head_steps = head_steps
    state = RunState({"network": nn.Linear(1, 1)}, metric="AP", patience=how.get("patience", 0), resume=config.resume)
    save = state.save
    monkeypatch.setattr(state, "save", lambda folder: (save(folder), setattr(ran, "seconds", ran.seconds + 2)))
    facts = {"num_photos": 1000, "num_steps": lengths.known_steps}
    log = RunLog.open(config, app="test", step=state.done, processes=Processes(), **facts)
    began, ran.seconds = ran.seconds, ran.seconds + 30
    with tqdm(disable=True) as progress:
        for step in Budget(config, lengths, began=began, processes=Processes()).steps(state, log, progress):
            ran.seconds += (head_s if step < lengths.head_steps else step_s) + 10 * (ran.done < 3)
            ran.done += 1
            state.done = step + 1
            if state.done % lengths.eval_every == 0 or state.done == lengths.num_steps:
                ran.seconds += eval_s
                ran.evaluated.append(state.done)
                state.note_evaluation({"AP": 0.5})
            if state.done % config.checkpoint_every == 0 or state.why_finished(lengths.num_steps):
                state.save(log.folder)
            if ran.done == how.get("stop_after"):
                state.save(log.folder)
                break
    ran.seconds += budget.REPORT * eval_s
    ran.lengths, ran.head_steps = lengths, lengths.head_steps
    return ran


def test_a_run_ends_just_within_its_time(tmp_path, monkeypatch):
    """A further step, or the evaluations and saves of a longer run, would not fit."""
    for number, (minutes, flags, speed) in enumerate(
        [
            (20, {}, {}),
            (20, {"eval_every": 60}, {}),
            (60, {"checkpoint_every": 25, "warmup_steps": 0}, {"step_s": 3.5, "eval_s": 90.0}),
            (3, {}, {"step_s": 0.25, "eval_s": 4.0}),
        ]
    ):
        ran = run(Config(minutes=minutes, out=tmp_path / str(number), **flags), monkeypatch, **speed)
        assert 0.97 * 60 * minutes <= ran.seconds <= 60 * minutes + 1e-6
        assert ran.lengths is not None and ran.evaluated[-1] == ran.done == ran.lengths.num_steps
        every = flags.get("eval_every", -(-ran.done // 5))
        assert ran.evaluated[1:] == [n for n in range(1, ran.done + 1) if n > ran.evaluated[0] and n % every == 0] + (
            [ran.done] if ran.done % every else []
        )
        assert ran.lengths.warmup_steps == flags.get("warmup_steps", min(500, ran.done // 10))


def test_a_resumed_run_keeps_its_steps(tmp_path, monkeypatch, capsys):
    whole = run(Config(minutes=20, out=tmp_path / "whole"), monkeypatch)
    run(Config(minutes=20, out=tmp_path / "run"), monkeypatch, stop_after=300)
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert (record["num_steps"], record["config"]["minutes"]) == (whole.done, 20)
    rest = run(Config(resume=tmp_path / "run"), monkeypatch, step_s=50.0)  # however slow the machine is now
    assert 300 + rest.done == whole.done
    assert rest.evaluated == [step for step in whole.evaluated if step > 300]
    assert f"--minutes 20: {whole.done:,} steps of 10 photos" in capsys.readouterr().out


def test_a_run_stopped_before_its_steps_are_known_measures_anew(tmp_path, monkeypatch):
    run(Config(minutes=20, out=tmp_path / "run"), monkeypatch, stop_after=8)
    assert json.loads((tmp_path / "run/config.json").read_text())["num_steps"] is None
    rest = run(Config(resume=tmp_path / "run"), monkeypatch)
    assert 0.97 * 1200 <= rest.seconds <= 1200


def test_a_damaged_record_of_the_steps_is_one_line(tmp_path, monkeypatch):
    run(Config(minutes=20, out=tmp_path / "run"), monkeypatch, stop_after=300)
    record = json.loads((tmp_path / "run/config.json").read_text())
    for fitted in ({"steps": "many"}, "many", ["many"]):
        (tmp_path / "run/config.json").write_text(json.dumps({**record, "fitted": fitted}))
        with pytest.raises(ValueError, match=r"config\.json is damaged: steps cannot be"):
            resumed_config(Config(resume=tmp_path / "run"), tmp_path / "run")


def test_fast_steps_of_the_last_layer_alone_are_not_mistaken_for_the_others(tmp_path, monkeypatch):
    ran = run(Config(minutes=20, out=tmp_path / "run"), monkeypatch, head_steps=150, head_s=0.2)
    assert ran.head_steps == 150 and 0.97 * 1200 <= ran.seconds <= 1200


def test_steps_of_the_last_layer_alone_take_a_fifth_of_the_time_at_most(tmp_path, monkeypatch):
    """And a resumed run has as many of them."""
    ran = run(Config(minutes=20, out=tmp_path / "run"), monkeypatch, head_steps=5000, head_s=0.5, stop_after=700)
    assert ran.head_steps == pytest.approx((0.2 * 1200 - 30 - 3 * 10) / 0.5, abs=2)
    rest = run(Config(resume=tmp_path / "run"), monkeypatch)
    assert rest.head_steps == ran.head_steps


def test_a_time_that_is_too_short_ends_after_the_first_evaluation(tmp_path, monkeypatch):
    ran = run(Config(minutes=1, out=tmp_path / "run"), monkeypatch, step_s=40.0)
    assert ran.evaluated == [ran.done] and ran.done < 6


def test_patience_ends_a_run_earlier(tmp_path, monkeypatch):
    ran = run(Config(minutes=20, out=tmp_path / "run"), monkeypatch, patience=2)
    assert len(ran.evaluated) == 3 and ran.lengths is not None and ran.done < ran.lengths.num_steps
