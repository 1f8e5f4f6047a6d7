"""One line and exit code 2 for every mistake; nothing is lost."""

import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from apps.detection import eval as eval_script
from apps.detection import predict as predict_script
from apps.detection.train import Config, train
from tests.common.mistakes import error_of
from tests.detection.tiny_runs import tiny_config


def test_resume_refuses_a_flag_that_would_change_nothing(finished_run):
    with pytest.raises(ValueError, match=r"--lr 0\.5 cannot be changed by --resume: the run began without it"):
        train(Config(resume=finished_run, lr=0.5))


def test_wrong_input_to_train(tiny_coco, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    data = ("--data", str(tiny_coco), "--weights", "none", "--num-workers", "0", "--steps", "2")
    data += ("--out", str(tmp_path / "run"))

    def error(*args: str) -> str:
        return error_of(capsys, train, Config, *data, *args)

    assert "did you mean a075?" in error("--backbone", "a75")
    assert "--resolution must be from 32 to 8,192, got 10" in error("--resolution", "10")
    assert "there is no such folder" in error("--data", str(tmp_path / "nowhere"))
    assert "Unrecognized options: --backbome" in error("--backbome", "a075")
    assert "invalid choice 'adam'" in error("--optimizer", "adam")
    assert "give --steps or --epochs, not both" in error("--epochs", "3")
    assert "--steps must be from 1 to 999,999,999, got 0" in error("--steps", "0")
    assert "--batch-size must be from 1 to 65,536" in error("--batch-size", "0")
    assert "lr must be above 0" in error("--lr", "0")
    assert "--device cuda:77 cannot be used here" in error("--device", "cuda:77")
    assert "no such file" in error("--weights", str(tmp_path / "gone"))
    assert "did you mean imagenet?" in error("--weights", "imagnet")
    assert "does not exist" in error_of(capsys, train, Config, "--resume", str(tmp_path / "gone"))
    (tmp_path / "file").write_text("")
    assert "cannot write to --out" in error("--out", str(tmp_path / "file/run"))
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_wrong_photos_stop_training_by_name_before_it_begins(tiny_coco, tmp_path, capsys):
    image = tiny_coco / "train/003.png"
    good = image.read_bytes()
    for number, (content, message) in enumerate(
        ((b"", "is empty"), (b"hello", "is not an image"), (good[:200], "is truncated"))
    ):
        image.write_bytes(content)
        out = tmp_path / f"run{number}"
        args = (
            "--data",
            str(tiny_coco),
            "--weights",
            "none",
            "--backbone",
            "a025",
            "--resolution",
            "64",
            "--steps",
            "4",
            "--batch-size",
            "4",
        )
        line = error_of(capsys, train, Config, *args, "--num-workers", "1", "--out", str(out))
        assert "003.png" in line
        assert message in line
        assert "or skip its problems with --bad-data skip" in line
        assert not out.exists()


def test_a_run_is_never_overwritten(finished_run, tiny_coco):
    with pytest.raises(ValueError, match="holds a run already: continue it with --resume"):
        train(tiny_config(tiny_coco, finished_run))


def test_wrong_checkpoints(finished_run, tiny_coco, tmp_path, capsys):
    def error(checkpoint: Path) -> str:
        args = ("--checkpoint", str(checkpoint), "--data", str(tiny_coco))
        return error_of(capsys, eval_script.evaluate, eval_script.Config, *args)

    assert "does not exist" in error(tmp_path / "gone")
    assert "is not a model folder" in error(tiny_coco)
    about = finished_run / "best/model.json"
    original = about.read_text()
    about.write_text(original.replace('"detection"', '"finegrained"'))
    assert "is of the app 'finegrained', this is 'detection'" in error(finished_run)
    about.write_text(original.replace('"a025"', '"a050"'))
    assert "its own weights: Error(s) in loading state_dict for PyramidDetector: size mismatch" in error(finished_run)
    about.write_text(original.replace("red", "rot").replace("blue", "blau"))
    assert "the checkpoint knows rot, blau, the data has red, blue: no class in common" in error(finished_run)
    about.write_text(original[:50])
    assert "is not valid JSON" in error(finished_run)
    about.write_text(original)
    weights = finished_run / "best/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "is missing or damaged" in error(finished_run)


def test_without_network_one_line_says_what_to_do(tiny_coco, tmp_path, capsys, monkeypatch):
    """ImageNet weights are the default; the file can be put into the cache by hand."""
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    line = error_of(capsys, train, Config, "--data", str(tiny_coco), "--backbone", "a050")
    assert "cannot download pytorchcv-a050 (no network): put the file from https://" in line
    assert str(tmp_path / "cache") in line
    assert "--weights none" in line
    line = error_of(capsys, train, Config, "--data", str(tmp_path / "nowhere"))  # before anything is downloaded
    assert "there is no such folder" in line
    line = error_of(capsys, predict_script.predict, predict_script.Config, "--source", str(tiny_coco / "val"))
    assert "cannot download coco-a075 (no network): put the file from https://" in line
    assert line.endswith("and run again")
