"""The scripts, run on a tiny case: what a run leaves, exact resume, signals."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file

from apps.common.training.run_log import read_metrics
from apps.common.training.sampling import StepSampler
from apps.detection import eval as eval_script
from apps.detection import predict as predict_script
from apps.detection import train as train_script
from apps.detection.evaluation import while_training
from apps.detection.evaluation.metrics import METRIC_NAMES, CocoMetrics
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.detection.model.pretrained import PretrainedDetector, usual_weights
from apps.detection.train import Config, optimizer_recipe, train
from tests.common.interrupted import same_weights, stop_after
from tests.common.mistakes import error_of
from tests.conftest import draw_tiny_coco, leave_out_reports
from tests.detection.tiny_runs import tiny_config


def test_own_data_start_from_cocos_backbone_where_a_detector_is_published(tiny_coco, tmp_path, monkeypatch, capsys):
    ssd = create_detector("a075", num_classes=2, resolution=64, head="ssd")
    about = {"class_names": ["red", "blue"], "category_ids": [1, 2], "resolution": 64, "head": "ssd"}
    start = PretrainedDetector(summary="a published SSD", state=ssd.state_dict(), **about)
    asked = []

    def load(weights, *, width_mult):
        asked.append((weights, width_mult))
        return start

    monkeypatch.setattr(train_script, "load_pretrained", load)
    leave_out_reports(monkeypatch, "detection")
    flags = {"weights": None, "steps": 1, "lr": 1e-9}
    train(tiny_config(tiny_coco, tmp_path / "run", backbone="a075", **flags))
    assert "starting from the backbone of a published SSD\n" in capsys.readouterr().out
    trained = Detector.load(tmp_path / "run/best", device=torch.device("cpu"))
    assert trained.head == "pyramid"
    for name, value in ssd.backbone.named_parameters():
        torch.testing.assert_close(trained.network.backbone.get_parameter(name), value, rtol=0, atol=1e-5)
    train(tiny_config(tiny_coco, tmp_path / "whole", backbone="a075", **flags, head="ssd"))
    assert "class rows of red, blue are taken by name" in capsys.readouterr().out
    assert asked == [("coco", 0.75)] * 2
    assert [usual_weights(width) for width in (0.25, 0.5, 0.6, 0.75, 1.0)] == [*["imagenet"] * 3, "coco", "coco"]


def test_what_a_run_leaves(finished_run, capsys):
    config = json.loads((finished_run / "config.json").read_text())
    assert config["app"] == "detection"
    assert config["config"]["backbone"] == "a025"
    assert "git_commit" in config
    lines = read_metrics(finished_run)
    assert [(line["event"], line["step"]) for line in lines] == [("eval", 3), ("train", 6), ("eval", 6)]
    assert {"loss", "loss_classification", "loss_box", "lr", "images_per_s", "waiting_for_data"} <= set(lines[1])
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert set(METRIC_NAMES) <= set(metrics)
    for name in ("curves.png", "train_batch.jpg", "val_batch.jpg"):
        assert cv2.imread(str(finished_run / name)) is not None
    assert "<h2>COCO" in (finished_run / "eval-val/report.html").read_text()
    about = json.loads((finished_run / "best/model.json").read_text())
    assert about["class_names"] == ["red", "blue"]
    assert about["category_ids"] == [3, 7]
    assert about["resolution"] == 64
    assert about["preprocessing"]["mean"] == [127.5] * 3
    assert list(finished_run.glob(".*")) == []  # no temporary file is left


def test_eval_gives_the_same_numbers_and_pycocotools_by_hand_too(finished_run, tiny_coco, tmp_path, capsys):
    evaluated = eval_script.evaluate(
        eval_script.Config(checkpoint=finished_run / "best", data=str(tiny_coco), num_workers=0, out=tmp_path / "eval")
    )
    best = json.loads((tmp_path / "eval/metrics.json").read_text())["best_threshold"]["threshold"]
    assert json.loads((finished_run / "best/model.json").read_text())["threshold"] == pytest.approx(best, abs=1e-4)
    in_training = json.loads((finished_run / "metrics.json").read_text())
    assert evaluated == pytest.approx({name: in_training[name] for name in METRIC_NAMES}, abs=1e-6)
    truth = COCO(str(tiny_coco / "annotations/instances_val.json"))
    for number, annotation in enumerate(truth.dataset["annotations"], start=1):
        annotation["id"] = number  # the file starts at 0, which pycocotools takes for "not found"
    truth.createIndex()
    referee = COCOeval(truth, truth.loadRes(str(tmp_path / "eval/predictions.json")), "bbox")
    referee.evaluate()
    referee.accumulate()
    referee.summarize()
    assert list(evaluated.values()) == pytest.approx(referee.stats.tolist(), abs=1e-9)
    assert capsys.readouterr().out.count("Average Precision") >= 12


@pytest.mark.parametrize(
    "settings",
    [{}, {"head": "ssd", "batch_size": 2, "accumulate": 2, "repeat_threshold": 1, "fit_anchors": True, "amp": "fp16"}],
    ids=["plain", "ssd-accumulated-repeated-fitted-fp16"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_coco, tmp_path, monkeypatch, no_report, settings):
    """Stopped in the middle by an image that broke after the first look, mended, resumed: the same to the bit."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    monkeypatch.setattr(train_script, "LOG_EVERY", 1)
    train(tiny_config(tiny_coco, straight, **settings))
    image = tiny_coco / "train/005.png"
    whole, make_loader = image.read_bytes(), train_script.make_loader

    def break_it(*args, **kwargs):
        image.write_bytes(whole[: len(whole) // 2])
        return make_loader(*args, **kwargs)

    with monkeypatch.context() as broken_later:
        broken_later.setattr(train_script, "make_loader", break_it)
        with pytest.raises(ValueError, match=r"train/005\.png is truncated.*; stopped at step \d, go on with --resume"):
            train(tiny_config(tiny_coco, broken, **settings))
    image.write_bytes(whole)
    train(Config(resume=broken, num_workers=0))
    first, second = torch.load(straight / "last.pt"), torch.load(broken / "last.pt")
    assert first["facts"]["step"] == second["facts"]["step"] == 6
    for part in ("network", "ema"):
        expected, resumed = first["parts"][part], second["parts"][part]
        expected, resumed = (d["model"] if part == "ema" else d for d in (expected, resumed))
        assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert first["parts"]["scaler"] == second["parts"]["scaler"]
    assert bool(first["parts"]["scaler"]) == (settings.get("amp") == "fp16")
    losses = [
        [(x["step"], x["loss"]) for x in read_metrics(run) if x["event"] == "train"] for run in (straight, broken)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("head", ["ssd", "pyramid"])
def test_two_batches_of_two_make_the_step_of_four(tiny_coco, tmp_path, monkeypatch, no_report, head):
    """Although they have different numbers of objects; BatchNorm rests, since it looks at a batch.

    By SGD: AdamW makes full steps of gradients that are 0 but for rounding.
    """
    monkeypatch.setattr(torch.nn.BatchNorm2d, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    monkeypatch.setattr(train_script, "LOG_EVERY", 1)
    for name, sizes in (("one", {"batch_size": 4}), ("two", {"batch_size": 2, "accumulate": 2})):
        fixed = {"steps": 3, "optimizer": "sgd", "lr": 0.01, "augment": "none", "amp": "none"}
        train(tiny_config(tiny_coco, tmp_path / name, head=head, **fixed, **sizes))
    one, two = (torch.load(tmp_path / name / "last.pt")["parts"]["network"] for name in ("one", "two"))
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-5)
    losses = [[x for x in read_metrics(tmp_path / name) if x["event"] == "train"] for name in ("one", "two")]
    for first, second in zip(*losses, strict=True):
        for part in train_script.LOSSES[:3]:
            assert first[part] == pytest.approx(second[part], rel=1e-5)
        assert first["lr"] == second["lr"]


def test_a_run_ends_when_its_patience_does(tiny_coco, tmp_path, monkeypatch, capsys):
    """Interrupted in between, too; and resumed after its end, it says that it is finished."""
    values = iter([0.1, 0.3, None, 0.3, 0.2, 0.9])

    def measured(evaluation):
        value = next(values)
        if value is None:
            raise KeyboardInterrupt
        return CocoMetrics(dict.fromkeys(METRIC_NAMES, value), f"AP {value}")

    monkeypatch.setattr(while_training, "summarise", measured)
    config = tiny_config(tiny_coco, tmp_path / "run", steps=90, eval_every=2, patience=2, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    metrics = train(Config(resume=tmp_path / "run", num_workers=0))
    assert metrics["AP"] == 0.3
    assert "is finished: AP has not risen in 2 evaluations; it ended at step 8" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/metrics.json").read_text())["step"] == 6
    lines = (tmp_path / "run/metrics.jsonl").read_text()
    assert [x["step"] for x in read_metrics(tmp_path / "run") if x["event"] == "eval"] == [2, 4, 6, 8]
    (tmp_path / "run/curves.png").unlink()
    assert train(Config(resume=tmp_path / "run", num_workers=0)) == metrics
    assert "is finished: AP has not risen" in capsys.readouterr().out
    assert (tmp_path / "run/metrics.jsonl").read_text() == lines
    assert (tmp_path / "run/curves.png").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_photos(tiny_coco, tmp_path, capsys):
    config = tiny_config(tiny_coco, tmp_path / "run", lr=1e30, clip_norm=0.0, warmup_steps=0)
    given = {name: value for name, value in vars(config).items() if value != getattr(Config, name)}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    line = error_of(capsys, train, Config, *flags)
    assert re.search(r"the loss is not finite \(loss (nan|inf), loss_classification \S+, loss_box \S+\)", line)
    step = int(re.search(r"; stopped at step (\d), go on with --resume", line)[1])
    assert step > 0
    files = sorted(path.name for path in (tiny_coco / "train").iterdir())
    keys = StepSampler(8, batch_size=4, num_steps=6, seed=0).batch(step)
    assert line.count(".png") == 4
    assert all(f"train/{files[key.item]}" in line for key in keys)
    state = torch.load(tmp_path / "run/last.pt")
    assert state["facts"]["step"] <= step  # of a step before the weights were lost
    assert all(value.isfinite().all() for value in state["parts"]["network"].values())


def test_fitted_anchors_go_with_the_model(tiny_coco, tmp_path, no_report, capsys):
    train(tiny_config(tiny_coco, tmp_path / "run", steps=1, head="ssd", fit_anchors=True))
    found = re.search(r"fitted to 12 boxes: .* is (\S+), with the reference's (\S+)", capsys.readouterr().out)
    assert float(found[1]) > float(found[2])
    detector = Detector.load(tmp_path / "run", device=torch.device("cpu"))
    reference = create_detector("a025", num_classes=2, resolution=64, head="ssd").anchors_cxcywh
    assert detector.network.anchors_cxcywh.shape == reference.shape
    assert not torch.equal(detector.network.anchors_cxcywh, reference)
    train(tiny_config(tiny_coco, tmp_path / "next", steps=1, weights=str(tmp_path / "run")))
    again = Detector.load(tmp_path / "next", device=torch.device("cpu"))
    assert torch.equal(again.network.anchors_cxcywh, detector.network.anchors_cxcywh)


def weights_after(config: Config) -> dict[str, torch.Tensor]:
    train(config)
    return load_file(config.out / "best/model.safetensors")


BASE = {"steps": 3, "eval_every": 3, "amp": "none"}


@pytest.fixture(scope="module")
def weights_before(tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """Of a run of each head without any change of the settings."""
    folder = tmp_path_factory.mktemp("before")
    data = draw_tiny_coco(folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_reports(patch, "detection")
        return {h: weights_after(tiny_config(data, folder / h, head=h, **BASE)) for h in ("pyramid", "ssd")}


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.02},
        {"optimizer": "rmsprop"},
        {"optimizer": "sgd"},
        {"backbone_lr": 0.5},
        {"head": "ssd"},
        {"assigner": "aligned"},
        {"weight_decay": 0.1},
        {"warmup_steps": 0},
        {"ema_decay": 0.0},
        {"augment": "mirror"},
        {"clip_norm": 0.1},
        {"amp": "bf16"},
        {"seed": 1},
        {"batch_size": 3},
        {"accumulate": 2},
        {"repeat_threshold": 1.0},
        {"steps": 2},
        {"steps": None, "epochs": 1.0},
    ],
    ids=str,
)
def test_every_setting_changes_the_weights(weights_before, tiny_coco, tmp_path, no_report, change):
    before = weights_before["pyramid"]
    after = weights_after(tiny_config(tiny_coco, tmp_path / "b", **{**BASE, **change}))
    assert before.keys() != after.keys() or any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("change", [{"loss": "softmax"}, {"fit_anchors": True}], ids=str)
def test_every_setting_of_an_ssd_changes_the_weights(weights_before, tiny_coco, tmp_path, no_report, change):
    before = weights_before["ssd"]
    after = weights_after(tiny_config(tiny_coco, tmp_path / "b", head="ssd", **BASE, **change))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_trained_detector_learns_the_rounding_of_8_bits(finished_run, tiny_coco, tmp_path, monkeypatch):
    """The saved model is as any other; stopped and resumed, it is the same to the bit."""
    settings = {"weights": str(finished_run), "steps": 2, "eval_every": 2, "checkpoint_every": 1}
    plain = weights_after(tiny_config(tiny_coco, tmp_path / "plain", **settings, lr=0.0001))
    after = weights_after(tiny_config(tiny_coco, tmp_path / "straight", **settings, qat=True))
    about = json.loads((tmp_path / "straight/config.json").read_text())
    assert about["optimizer"]["lr"] == pytest.approx(0.0001)
    assert list(after) == list(plain) and any(not torch.equal(plain[name], after[name]) for name in after)
    again = tiny_config(tiny_coco, tmp_path / "again", **settings, qat=True)
    stop_after(1, train_script, monkeypatch, lambda: train(again))
    train(Config(resume=tmp_path / "again", num_workers=0))
    assert same_weights(tmp_path / "straight", tmp_path / "again")
    with pytest.raises(ValueError, match="--qat fine-tunes a trained model: give --weights a run or model folder"):
        train(tiny_config(tiny_coco, tmp_path / "x", qat=True))


def test_the_reference_keeps_its_optimiser():
    """And AdamW is gentle to what has been learnt already."""
    random, backbone = (
        PretrainedDetector(summary=""),
        PretrainedDetector(summary="", state={"backbone.stem": torch.zeros(1)}),
    )
    starts = random, backbone, dataclasses.replace(backbone, of_detector=True)
    recipes = [[optimizer_recipe(Config(), start, head) for start in starts] for head in ("ssd", "pyramid")]
    assert [(recipe.name, recipe.lr, recipe.backbone_lr) for recipe in recipes[0]] == [
        ("sgd", 0.2, 1),
        ("sgd", 0.05, 1),
        ("sgd", 0.05, 1),
    ]
    assert [(recipe.name, recipe.lr, recipe.backbone_lr) for recipe in recipes[1]] == [
        ("adamw", 0.01, 1),
        ("adamw", 0.01, 0.1),
        ("adamw", 0.01, 0.03),
    ]
    given = optimizer_recipe(Config(lr=1, backbone_lr=2, weight_decay=0, optimizer="sgd"), backbone, "pyramid")
    assert given == ("sgd", 1, 2, 0)
    with pytest.raises(ValueError, match=r"backbone_lr must be 0 \(its weights stay\) or more, got -1"):
        optimizer_recipe(Config(backbone_lr=-1), random, "pyramid")


def test_a_backbone_that_does_not_learn_stays_as_it_is(tiny_coco, tmp_path, no_report):
    base = {"steps": 2, "amp": "none", "ema_decay": 0.0, "backbone_lr": 0.0}
    first, second = (weights_after(tiny_config(tiny_coco, tmp_path / str(lr), lr=lr, **base)) for lr in (0.01, 0.1))
    norms = ("running_mean", "running_var", "num_batches_tracked")
    for name in first:
        if name.startswith("backbone.") and not name.endswith(norms):
            assert torch.equal(first[name], second[name]), name
    assert not torch.equal(first["heads.0.0.pointwise.conv.weight"], second["heads.0.0.pointwise.conv.weight"])


def test_same_seed_same_weights(weights_before, tiny_coco, tmp_path, no_report):
    first, second = weights_before["pyramid"], weights_after(tiny_config(tiny_coco, tmp_path / "again", **BASE))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("head", ["pyramid", "ssd"])
def test_batches_without_an_object_do_no_harm(tiny_coco, tmp_path, head):
    path = tiny_coco / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": content["annotations"][:1]}))
    metrics = train(tiny_config(tiny_coco, tmp_path / "run", steps=8, batch_size=2, head=head))
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(np.isfinite(line["loss"]) for line in read_metrics(tmp_path / "run") if line["event"] == "train")


def test_data_without_an_object_is_refused(tiny_coco, tmp_path):
    path = tiny_coco / "annotations/instances_train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    with pytest.raises(ValueError, match="no photo of train has an object to learn"):
        train(tiny_config(tiny_coco, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a process group are POSIX's")
@pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
def test_a_signal_saves_the_state_and_the_run_goes_on(tiny_coco, tmp_path, to_group):
    """Also when it goes to the whole process group, as a cluster or a terminal sends it: data processes end first."""
    out = tmp_path / "run"
    flags = "--backbone a025 --resolution 64 --weights none --steps 100000 --batch-size 4 --num-workers 2".split()
    command = [sys.executable, train_script.__file__, *flags, "--data", str(tiny_coco), "--out", str(out)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 400
    while not read_metrics(out) and time.monotonic() < deadline:
        time.sleep(0.2)
    (os.killpg if to_group else os.kill)(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert torch.load(out / "last.pt")["facts"]["step"] >= train_script.LOG_EVERY


def test_predict_draws_and_reports(finished_run, tiny_coco, tmp_path, capsys):
    config = predict_script.Config(
        checkpoint=finished_run, source=tiny_coco / "val", conf=0.0, out=tmp_path / "found", device="cpu"
    )
    predict_script.predict(config)
    assert sorted(p.name for p in (tmp_path / "found").glob("*.png")) == ["001.png", "002.png", "003.png", "004.png"]
    assert cv2.imread(str(tmp_path / "found/001.png")).shape == (64, 96, 3)
    assert "red 0." in capsys.readouterr().out
    args = ("--checkpoint", str(finished_run), "--source", str(tmp_path / "none"))
    assert "there is no such file" in error_of(capsys, predict_script.predict, predict_script.Config, *args)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["ssd", "pyramid"])
def test_overfits_eight_real_photos(shared, tmp_path, no_report, head):
    """From random weights to AP50 of 0.9 and more on the eight photos it was shown: nothing in the chain is broken."""
    source = shared / "data/detection/coco_mini"
    content = json.loads((source / "annotations/instances_train2017.json").read_text())
    boxes = {
        image["id"]: [a for a in content["annotations"] if a["image_id"] == image["id"]] for image in content["images"]
    }

    def suits(image: dict) -> bool:
        """Two to five objects, none too small for a side of 160 pixels."""
        areas = [a["area"] / (image["width"] * image["height"]) for a in boxes[image["id"]]]
        return 2 <= len(areas) <= 5 and min(areas) > 0.02 and not any(a["iscrowd"] for a in boxes[image["id"]])

    images = [image for image in content["images"] if suits(image)][:8]
    for split in ("train", "val"):
        some = {**content, "images": images, "annotations": [a for image in images for a in boxes[image["id"]]]}
        (tmp_path / "data/annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"data/annotations/instances_{split}.json").write_text(json.dumps(some))
    (tmp_path / "data/images").symlink_to(source / "train2017")
    config = tiny_config(
        tmp_path / "data",
        tmp_path / "run",
        backbone="a050",
        head=head,
        resolution=160,
        steps=80,
        batch_size=8,
        augment="none",
        warmup_steps=15,
        ema_decay=0.9,
        num_workers=1,
        eval_every=40,
    )
    assert train(config)["AP50"] >= 0.9
