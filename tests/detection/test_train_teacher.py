"""train.py --teacher: what is learnt, exact resume, and one line for a mistake."""

import pytest

from apps.common.training.run_log import read_metrics
from apps.detection import train as train_script
from apps.detection.train import Config, train
from tests.common.interrupted import same_weights, stop_after
from tests.common.mistakes import error_of
from tests.detection.tiny_runs import tiny_config


def test_a_student_is_taught_and_goes_on_to_the_bit_where_it_was_stopped(
    finished_run, tiny_coco, tmp_path, no_report, monkeypatch
):
    monkeypatch.setattr(train_script, "LOG_EVERY", 1)
    settings = {"steps": 2, "eval_every": 2, "checkpoint_every": 1, "batch_size": 2, "accumulate": 2, "amp": "bf16"}
    settings["teacher"] = finished_run
    train(tiny_config(tiny_coco, tmp_path / "taught", **settings))
    again = tiny_config(tiny_coco, tmp_path / "again", **settings)
    stop_after(1, train_script, monkeypatch, lambda: train(again))
    with pytest.raises(ValueError, match=r"the weights of --teacher .* are not those the run began with"):
        train(Config(resume=tmp_path / "again", num_workers=0, teacher=tmp_path / "taught"))
    moved = finished_run.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"^--teacher .*does not exist; if it was moved, give --teacher its new"):
        train(Config(resume=tmp_path / "again", num_workers=0))
    train(Config(resume=tmp_path / "again", num_workers=0, teacher=moved))
    assert same_weights(tmp_path / "taught", tmp_path / "again")
    lines = [line for line in read_metrics(tmp_path / "taught") if line["event"] == "train"]
    assert len(lines) == 2
    for line in lines:
        parts = [line[f"loss_{name}"] for name in ("classification", "box", "teacher")]
        assert line["loss"] == pytest.approx(sum(parts), rel=1e-5) and min(parts) > 0


def test_a_mistake_gets_one_line(finished_run, tiny_coco, tmp_path, capsys):
    data = ("--data", str(tiny_coco), "--weights", "none", "--backbone", "a025", "--resolution", "64")
    data += ("--num-workers", "0", "--steps", "2", "--out", str(tmp_path / "new"))

    def error(*args: str) -> str:
        return error_of(capsys, train, Config, *data, *args)

    given = ("--teacher", str(finished_run))
    assert "--teacher is for a pyramid, this is --head ssd: leave it out" in error(*given, "--head", "ssd")
    assert "gone does not exist" in error("--teacher", str(tmp_path / "gone"))
    assert "distill_weight must be from 0 to 1, got nan" in error(*given, "--distill-weight", "nan")
    assert "--distill-weight is for --teacher: give one, or leave it out" in error("--distill-weight", "1")
    (finished_run / "best/model.safetensors").write_bytes(b"0")
    assert "is missing or damaged" in error(*given)
    assert not (tmp_path / "new").exists()
