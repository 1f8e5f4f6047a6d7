"""The training script on a tiny case: what a run leaves, exact resume, what each setting does, one line a mistake."""

import json
import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import load_file

from apps.common.training.run_log import read_metrics
from apps.common.training.sampling import StepSampler
from apps.finegrained import train as train_script
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.train import Config, train
from backbone import create_backbone
from tests.common.interrupted import same_weights, stop_after
from tests.common.mistakes import error_of
from tests.conftest import leave_out_reports
from tests.finegrained.conftest import draw_photos


def tiny_config(data: Path, out: Path, **changes) -> Config:
    settings = {
        "backbone": "a025",
        "resolution": 48,
        "data": str(data),
        "weights": "none",
        "steps": 6,
        "batch_size": 6,
        "warmup_steps": 2,
        "num_workers": 0,
        "device": "cpu",
        "out": out,
    }
    return Config(**{**settings, **changes})


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    train(tiny_config(draw_photos(folder / "tiny photos"), folder / "run", eval_every=3))
    return folder / "run"


@pytest.fixture
def finished_run(trained_once, tmp_path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))


def test_what_a_run_leaves(finished_run):
    config = json.loads((finished_run / "config.json").read_text())
    assert config["app"] == "finegrained"
    assert config["config"]["backbone"] == "a025"
    lines = read_metrics(finished_run)
    assert [(line["event"], line["step"]) for line in lines] == [("eval", 3), ("train", 6), ("eval", 6)]
    assert {"loss", "lr", "images_per_s", "waiting_for_data"} <= set(lines[1])
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert {"top1", "top5", "macro_f1", "ece"} <= set(metrics)
    for name in ("curves.png", "train_batch.jpg", "val_batch.jpg"):
        assert cv2.imread(str(finished_run / name)) is not None
    about = json.loads((finished_run / "best/model.json").read_text())
    assert about["class_names"] == ["blue tit", "great tit", "robin"]
    assert about["resolution"] == 48
    assert about["calibration"]["temperature"] > 0
    assert "<html" in (finished_run / "eval-val/report.html").read_text()
    assert list(finished_run.glob(".*")) == []  # no temporary file is left


def test_a_checkpoint_rebuilds_the_model_alone(finished_run):
    classifier = Classifier.load(finished_run, device=torch.device("cpu"))
    state = torch.load(finished_run / "last.pt")
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    network = create_backbone("a025", num_classes=3).eval()
    network.load_state_dict(state["parts"]["ema"]["model"])
    if state["facts"]["best"]["step"] == 6:
        torch.testing.assert_close(classifier.logits(images), network(images / 127.5 - 1), rtol=1e-4, atol=1e-4)
    assert not classifier.network.training


def test_a_resumed_run_equals_an_uninterrupted_one(tiny_photos, tmp_path, monkeypatch, no_report):
    """Stopped by a broken photo, mended, resumed: the same losses and weights to the bit, mixing and all."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    settings = {"mixup": 0.2, "cutmix": 1.0, "augment": "full", "head_epochs": 1.0, "batch_size": 3, "accumulate": 2}
    monkeypatch.setattr(train_script, "LOG_EVERY", 1)
    train(tiny_config(tiny_photos, straight, **settings))
    photo = tiny_photos / "train/robin/004.png"
    whole, make_loader = photo.read_bytes(), train_script.make_loader

    def break_it(*args, **kwargs):  # after the first look, and what the run records of the file
        photo.write_bytes(whole[: len(whole) // 2])
        return make_loader(*args, **kwargs)

    with monkeypatch.context() as broken_later:
        broken_later.setattr(train_script, "make_loader", break_it)
        with pytest.raises(ValueError, match=r"robin/004\.png is truncated.*; stopped at step \d, go on with --resume"):
            train(tiny_config(tiny_photos, broken, **settings))
    photo.write_bytes(whole)
    train(Config(resume=broken, num_workers=0))
    first, second = torch.load(straight / "last.pt"), torch.load(broken / "last.pt")
    assert first["facts"]["step"] == second["facts"]["step"] == 6
    for part in ("network", "ema"):
        expected, resumed = first["parts"][part], second["parts"][part]
        expected, resumed = (d["model"] if part == "ema" else d for d in (expected, resumed))
        assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    losses = [
        [(x["step"], x["loss"]) for x in read_metrics(run) if x["event"] == "train"] for run in (straight, broken)
    ]
    assert losses[0] == losses[1]


def test_a_run_ends_when_its_patience_does(tiny_photos, tmp_path, no_report, monkeypatch, capsys):
    monkeypatch.setattr(train_script, "evaluate", lambda *args, **options: args[3].note_evaluation({"top1": 0.5}))
    train(tiny_config(tiny_photos, tmp_path / "run", steps=50, eval_every=1, patience=2))
    said = "is finished: top1 has not risen in 2 evaluations; it ended at step 3"
    assert said in capsys.readouterr().out
    assert json.loads((tmp_path / "run/metrics.json").read_text())["step"] == 3
    train(Config(resume=tmp_path / "run", num_workers=0))
    assert said in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_photos(tiny_photos, tmp_path):
    settings = {"lr": 1e30, "clip_norm": 0.0, "warmup_steps": 0, "batch_size": 3, "accumulate": 2, "eval_every": 6}
    message = r"not finite \(loss \S+, loss_labels \S+, loss_teacher \S+\).*; stopped at step (\d), go on with --resume"
    with pytest.raises(ValueError, match=message) as stop:
        train(tiny_config(tiny_photos, tmp_path / "run", **settings))
    photos = [f"{path.parent.name}/{path.name}" for path in sorted((tiny_photos / "train").glob("*/*.png"))]
    step = int(re.search(message, str(stop.value))[1])
    sampler = StepSampler(18, batch_size=3, num_steps=6, accumulate=2, seed=0)
    named = {i for i, name in enumerate(photos) if name in str(stop.value)}
    assert named in [{key.item for key in sampler.batch(step, number)} for number in range(2)]
    state = torch.load(tmp_path / "run/last.pt")
    assert state["facts"]["step"] <= step  # of a step before the weights were lost
    assert all(value.isfinite().all() for value in state["parts"]["network"].values())


def weights_after(config: Config) -> dict[str, torch.Tensor]:
    train(config)
    return load_file(config.out / "best/model.safetensors")


BASE = {"steps": 3, "epochs": None, "eval_every": 3, "amp": "none"}


@pytest.fixture(scope="module")
def uneven_photos(tmp_path_factory) -> Path:
    """Photos of three classes, one of which has fewer than the others."""
    root = draw_photos(tmp_path_factory.mktemp("uneven"))
    for photo in sorted((root / "train/robin").iterdir())[2:]:
        photo.unlink()
    return root


@pytest.fixture(scope="module")
def weights_before(uneven_photos, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Of a run without any change of the settings."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_reports(patch, "finegrained")
        return weights_after(tiny_config(uneven_photos, tmp_path_factory.mktemp("before") / "run", **BASE))


@pytest.fixture
def no_report(monkeypatch) -> None:
    """For runs that are about weights."""
    leave_out_reports(monkeypatch, "finegrained")


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.01},
        {"layer_decay": 0.5},
        {"head_epochs": 0.5},
        {"optimizer": "adamw"},
        {"weight_decay": 0.1},
        {"warmup_steps": 0},
        {"freeze_bn": "stats"},
        {"freeze_bn": "all"},
        {"ema_decay": 0.0},
        {"label_smoothing": 0.0},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"augment": "full"},
        {"augment": "mirror"},
        {"augment": "none"},
        {"balance": "sample"},
        {"balance": "loss"},
        {"clip_norm": 0.1},
        {"amp": "bf16"},
        {"seed": 1},
        {"batch_size": 3},
        {"accumulate": 2},
        {"steps": 2, "eval_every": 2},
        {"resolution": 64},
    ],
    ids=str,
)
def test_every_setting_changes_the_weights(uneven_photos, weights_before, tmp_path, no_report, change):
    after = weights_after(tiny_config(uneven_photos, tmp_path / "b", **{**BASE, **change}))
    assert any(not torch.equal(weights_before[name], after[name]) for name in after)


def test_a_teacher_is_learnt_from(finished_run, tiny_photos, tmp_path, no_report):
    base = {"steps": 2, "teacher": finished_run, "eval_every": 2}
    runs = {"distill_weight": 1.0}, {"distill_weight": 0.0}, {"distill_weight": 1.0, "temperature": 1.0}
    first, labels_only, other = (
        weights_after(tiny_config(tiny_photos, tmp_path / str(i), **base, **change)) for i, change in enumerate(runs)
    )
    name = "classifier.weight"
    assert not torch.equal(first[name], labels_only[name])
    assert not torch.equal(first[name], other[name])
    (tiny_photos / "train/robin").rename(tiny_photos / "train/wren")
    (tiny_photos / "val/robin").rename(tiny_photos / "val/wren")
    with pytest.raises(ValueError, match="has other classes than the data: robin, wren"):
        train(tiny_config(tiny_photos, tmp_path / "x", teacher=finished_run))


def test_a_trained_model_learns_the_rounding_of_8_bits(
    finished_run, tiny_photos, tmp_path, no_report, monkeypatch, capsys
):
    """From what it knew; the saved model is as any other; stopped and resumed, it is the same to the bit."""
    settings = {"weights": str(finished_run), "steps": 2, "eval_every": 2, "checkpoint_every": 1}
    plain = weights_after(tiny_config(tiny_photos, tmp_path / "plain", **settings, lr=0.005, head_epochs=0.0))
    after = weights_after(tiny_config(tiny_photos, tmp_path / "straight", **settings, qat=True))
    said = capsys.readouterr().out
    assert said.count("3 of 3 classifier rows are taken by name") == 2 and said.count("learning rate 0.005") == 2
    assert list(after) == list(plain) and any(not torch.equal(plain[name], after[name]) for name in after)
    Classifier.load(tmp_path / "straight", device=torch.device("cpu"))
    again = tiny_config(tiny_photos, tmp_path / "again", **settings, qat=True)
    stop_after(1, train_script, monkeypatch, lambda: train(again))
    shutil.rmtree(finished_run)
    train(Config(resume=tmp_path / "again", num_workers=0))
    assert same_weights(tmp_path / "straight", tmp_path / "again")


def test_wrong_input_to_train(tiny_photos, finished_run, tmp_path, capsys):
    data = ("--data", str(tiny_photos), "--weights", "none", "--num-workers", "0", "--steps", "2")
    data += ("--out", str(tmp_path / "new"))

    def error(*args: str) -> str:
        return error_of(capsys, train, Config, *data, *args)

    assert "did you mean a075?" in error("--backbone", "a75")
    assert "there is no such folder" in error("--data", str(tmp_path / "nowhere"))
    assert "Unrecognized options: --mix-up" in error("--mix-up", "1")
    assert "give --steps or --epochs, not both" in error("--epochs", "3")
    assert "layer_decay must be above 0 and at most 1" in error("--layer-decay", "1.5")
    assert "distill_weight must be from 0 to 1" in error("--teacher", str(finished_run), "--distill-weight", "2")
    assert "temperature must be above 0" in error("--teacher", str(finished_run), "--temperature", "0")
    assert "are for --teacher" in error("--temperature", "2")
    assert "label_smoothing must be from 0 to below 1" in error("--label-smoothing", "1")
    assert "mixup must be 0 (off) or more" in error("--mixup", "-1")
    assert "cutmix must be 0 (off) or more, got nan" in error("--cutmix", "nan")
    assert "temperature must be above 0" in error("--teacher", str(finished_run), "--temperature", "nan")
    assert "--resolution must be from 32 to 8,192, got 10" in error("--resolution", "10")
    assert "did you mean imagenet?" in error("--weights", "imagnet")
    assert "--qat fine-tunes a trained model: give --weights a run" in error("--qat")
    assert not (tmp_path / "new/metrics.jsonl").exists()


@pytest.mark.slow
def test_overfits_real_look_alikes(shared, tmp_path):
    """From random weights, 4 photos each of 3 kinds of apples: all of them right."""
    for split in ("train", "val"):
        for name in ("Golden-Delicious", "Granny-Smith", "Pink-Lady"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for photo in sorted((shared / "data/finegrained/grocery81/train" / name).iterdir())[:4]:
                (tmp_path / "data" / split / name / photo.name).symlink_to(photo)
    settings = {"steps": 60, "batch_size": 12, "resolution": 96, "augment": "none", "ema_decay": 0.9, "lr": 0.1}
    assert train(tiny_config(tmp_path / "data", tmp_path / "run", **settings))["top1"] == 1.0
