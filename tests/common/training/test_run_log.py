"""A run's record and state: patience, what a failing step leaves, TensorBoard, and what may not be resumed."""

import dataclasses
import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from apps.common.checkpoint import restore_state
from apps.common.cli import parse
from apps.common.data.data_record import record_data
from apps.common.training.distributed import Processes
from apps.common.training.progress import stop_on_signals
from apps.common.training.resume import resumed_config
from apps.common.training.run_log import RunLog, read_metrics
from apps.common.training.run_state import RunState, bad_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    backbone: str = "a025"
    lr: float = 0.1
    tensorboard: bool = False
    out: Path | None = None
    resume: Path | None = None
    given: frozenset[str] = frozenset()


def open_log(config: Config, *, step: int = 0, num_photos: int = 20) -> RunLog:
    return RunLog.open(config, app="test", step=step, processes=Processes(), num_steps=9, num_photos=num_photos)


def test_patience_counts_evaluations_without_a_higher_metric():
    state = RunState({}, metric="AP", patience=2)
    for step, (value, is_best, stale) in enumerate(
        [(0.0, True, 0), (0.2, True, 0), (0.1, False, 1), (0.3, True, 0), (0.3, True, 1)], start=1
    ):
        state.done = step
        assert state.note_evaluation({"AP": value, "AR": 1.0}, text=str(step)) == is_best
        assert state.stale == stale
        assert state.why_finished(9) == ""
    assert state.best == {"step": 5, "metrics": {"AP": 0.3, "AR": 1.0}, "text": "5"}
    state.done = 6
    assert not state.note_evaluation({"AP": 0.2, "AR": 1.0})
    assert state.why_finished(9) == "AP has not risen in 2 evaluations; it ended at step 6"
    assert state.why_finished(6) == "all 6 steps are done"
    with pytest.raises(ValueError, match=r"patience must be 0 \(off\) or more evaluations, got -1"):
        RunState({}, metric="AP", patience=-1)


def test_without_patience_no_run_ends_early():
    state = RunState({}, metric="AP")
    for state.done in range(1, 100):
        state.note_evaluation({"AP": 0.0})
    assert state.stale == 98
    assert state.why_finished(100) == ""


def test_a_failing_step_leaves_the_state_before_it(tmp_path):
    norm = nn.BatchNorm1d(2)
    state = RunState({"network": norm}, metric="AP", patience=5)
    state.done, state.stale = 7, 3
    message = rf"nothing can be read; stopped at step 7, go on with --resume {tmp_path}"
    with pytest.raises(ValueError, match=message), state.kept(tmp_path):
        norm(torch.full((4, 2), torch.nan))
        raise ValueError("nothing can be read")
    other = nn.BatchNorm1d(2)
    again = RunState({"network": other}, metric="AP", patience=5, resume=tmp_path)
    assert (again.done, again.stale) == (7, 3)
    assert torch.equal(other.running_mean, torch.zeros(2))
    assert other.num_batches_tracked == 0
    (tmp_path / "last.pt").unlink()
    with torch.no_grad():
        norm.weight[0] = torch.inf
    with pytest.raises(ValueError, match=r"from an earlier step: the weights are not finite"), state.kept(tmp_path):
        raise ValueError("no")
    assert not (tmp_path / "last.pt").exists()
    with state.kept(tmp_path):
        norm(torch.ones(4, 2))
    assert torch.equal(norm.running_mean, torch.full((2,), 0.1))  # a step that goes well is not undone


def test_states_of_older_runs_can_be_resumed(tmp_path):
    state = RunState({}, metric="AP")
    state.save(tmp_path)
    facts = restore_state(tmp_path / "last.pt", {})
    del facts["stale"]
    torch.save({"parts": {}, "facts": facts}, tmp_path / "last.pt")
    assert RunState({}, metric="AP", resume=tmp_path).stale == 0


def test_a_damaged_state_is_one_line(tmp_path):
    state = RunState({}, metric="AP")
    state.save(tmp_path)
    facts = restore_state(tmp_path / "last.pt", {})
    path = tmp_path / "last.pt"
    for change in ({"step": -1}, {"step": 2.5}, {"step": None}, {"best": None}, {"best": {"step": 1}}, {"stale": "x"}):
        torch.save({"parts": {}, "facts": facts | change}, path)
        with pytest.raises(ValueError, match=r"last\.pt is damaged: it does not say how far the run is"):
            RunState({}, metric="AP", resume=tmp_path)
    for content in (b"", b"PK", path.read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"last\.pt is damaged or not a state of this run: ."):
            RunState({}, metric="AP", resume=tmp_path)


def test_a_bad_loss_is_told_with_its_parts_and_photos():
    said = bad_loss(["loss", "loss_box"], torch.tensor([torch.nan, 0.25]), [Path("/x/train/1.jpg"), Path("y/2.png")])
    assert said.startswith("the loss is not finite (loss nan, loss_box 0.25)")
    assert said.endswith("train/1.jpg, y/2.png")


def shown(run: Path) -> dict[tuple[str, int], list[float]]:
    """(tag, step) -> values in a run's TensorBoard files."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = event_accumulator.EventAccumulator(str(run / "tensorboard"), purge_orphaned_data=False)
    board.Reload()
    values: dict[tuple[str, int], list[float]] = {}
    for tag in board.Tags()["scalars"]:
        for event in board.Scalars(tag):
            values.setdefault((tag, event.step), []).append(event.value)
    return values


def test_tensorboard_shows_metrics_jsonl_once_also_after_a_resume(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is optional")
    log = open_log(Config(out=tmp_path / "run", tensorboard=True))
    for step in range(1, 6):
        log.write("train", step, loss=1 / step, lr=0.1)
    log.write("eval", 5, AP=0.5, AR=None)
    assert len(shown(tmp_path / "run")) == 11
    log = open_log(Config(resume=tmp_path / "run", tensorboard=True), step=3)
    for step in range(4, 7):
        log.write("train", step, loss=10 / step, lr=0.1)
    values = shown(tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    expected = {
        (f"{line['event']}/{name}", line["step"]): [pytest.approx(line[name], rel=1e-6)]
        for line in lines
        for name in ("loss", "lr")
    }
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert values == expected


def test_a_missing_tensorboard_is_one_line_and_no_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"--tensorboard needs the package tensorboard: install it with `python -m"):
        open_log(Config(out=tmp_path / "run", tensorboard=True))
    assert not (tmp_path / "run").exists()
    open_log(Config(out=tmp_path / "run")).write("train", 1, loss=1.0)
    assert not (tmp_path / "run/tensorboard").exists()


def test_what_a_resumed_run_may_change(tmp_path):
    open_log(Config(out=tmp_path))
    assert resumed_config(Config(resume=tmp_path, tensorboard=True), tmp_path).tensorboard
    with pytest.raises(ValueError, match=r"--lr 0\.5 cannot be changed by --resume: the run has 0\.1"):
        resumed_config(Config(resume=tmp_path, lr=0.5), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["config"]["mixup"] = 1.0
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is a run of another script: it has a setting 'mixup'"):
        resumed_config(Config(resume=tmp_path), tmp_path)


def test_a_flag_with_its_default_is_given_too(tmp_path):
    open_log(Config(out=tmp_path, lr=0.5, tensorboard=True))
    assert resumed_config(parse(Config, ["--resume", str(tmp_path)]), tmp_path).tensorboard
    assert not resumed_config(parse(Config, ["--resume", str(tmp_path), "--no-tensorboard"]), tmp_path).tensorboard
    with pytest.raises(ValueError, match=r"--lr 0\.1 cannot be changed by --resume: the run has 0\.5"):
        resumed_config(parse(Config, ["--resume", str(tmp_path), "--lr=0.1"]), tmp_path)
    assert "given" not in (tmp_path / "config.json").read_text()


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    open_log(Config(out=tmp_path)).write("train", 1, loss=1.0)
    open_log(Config(resume=tmp_path), step=1)
    with pytest.raises(ValueError, match="the run began with 20 photos to learn, the data has 21 now; put it back"):
        open_log(Config(resume=tmp_path), step=1, num_photos=21)
    assert len(read_metrics(tmp_path)) == 1
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, "num_photos": [20], "data_record": {"classes": 3}}))
    with pytest.raises(ValueError, match=r"the run began with \[20\] photos to learn, the data has 20 now"):
        open_log(Config(resume=tmp_path), step=1)
    with pytest.raises(ValueError, match="the classes changed: 3 became a"):
        record_data(tmp_path, ["a"])


def test_a_folder_has_one_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    runs = [open_log(Config()).folder.as_posix() for _ in range(3)]
    assert runs == ["runs/test/a025-now", "runs/test/a025-now-2", "runs/test/a025-now-3"]
    (tmp_path / "mine").mkdir()
    open_log(Config(out=tmp_path / "mine"))
    log = open_log(Config(out=tmp_path / "mine"))  # one that has left nothing
    log.write("train", 1, loss=1.0)
    with pytest.raises(ValueError, match="mine holds a run already: continue it with --resume"):
        open_log(Config(out=tmp_path / "mine"))


def test_what_a_kill_left_is_put_right_on_resume(tmp_path):
    run = open_log(Config(out=tmp_path / "run")).folder
    (run / ".best.abcd_123/replaced").mkdir(parents=True)
    (run / ".best.abcd_123/best").mkdir()
    (run / ".best.abcd_123/best/model.json").write_text("new")
    (run / ".last.pt.1b_c2r27").mkdir()
    (run / ".last.pt.1b_c2r27/last.pt").write_text("half")
    (run / ".mine").mkdir()
    open_log(Config(resume=run))
    assert (run / "best/model.json").read_text() == "new"
    assert sorted(path.name for path in run.iterdir()) == [".mine", "best", "config.json", "metrics.jsonl", "run.lock"]


def test_what_is_sent_again_at_once_is_one_wish_to_stop(monkeypatch):
    """torchrun and timeout send a signal to a process, and to its group."""
    with stop_on_signals() as received:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    monkeypatch.setattr("apps.common.training.progress.REPEAT_S", 0.0)
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
