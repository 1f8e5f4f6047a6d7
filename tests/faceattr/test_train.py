"""Both training scripts on a tiny case: teacher, student, exact resume, what each setting does, one line a mistake."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import load_file

from apps.common.training.run_log import read_metrics
from apps.common.training.sampling import StepSampler
from apps.faceattr import teacher as teacher_script
from apps.faceattr import train as train_script
from apps.faceattr.data.learning_photos import withheld
from apps.faceattr.loss.teacher_outputs import KeptOutputs, cached_outputs, content_hash, teacher_outputs
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import Tagger
from apps.faceattr.train import Config, train, train_teacher
from tests.common.interrupted import same_weights, stop_after
from tests.common.mistakes import error_of
from tests.conftest import leave_out_reports
from tests.faceattr.conftest import draw_faces

CPU = torch.device("cpu")
BASE = {"weights": "none", "resolution": 32, "num_workers": 0, "device": "cpu", "batch_size": 8, "warmup_steps": 1}


def student(data: Path, out: Path, **changes) -> Config:
    return Config(**{"backbone": "a025", "data": (str(data),), "steps": 4, "out": out, **BASE, **changes})


def teacher(data: Path, out: Path, **changes) -> teacher_script.Config:
    settings = {"backbone": "a050", "data": (str(data),), "steps": 4, "out": out, **BASE, **changes}
    return teacher_script.Config(**settings)


SCRIPTS = {"teacher": (train_teacher, teacher), "student": (train, student)}
CONFIGS = {"teacher": teacher_script.Config, "student": Config}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with tiny faces and a trained teacher."""
    root = tmp_path_factory.mktemp("faces")
    draw_faces(root / "data")
    train_teacher(teacher(root / "data", root / "teacher"))
    return root


@pytest.fixture
def no_report(monkeypatch) -> None:
    """For runs that are about weights."""
    leave_out_reports(monkeypatch, "faceattr")


def test_a_teacher_and_its_student(place, tmp_path, capsys):
    unlabelled = tmp_path / "more"
    unlabelled.mkdir()
    rng = np.random.default_rng(1)
    for i in range(4):
        cv2.imwrite(str(unlabelled / f"{i}.png"), rng.integers(0, 255, (48, 48, 3), dtype=np.uint8))
    (unlabelled / "seen.png").write_bytes((place / "data/images/test01.png").read_bytes())
    config = student(
        place / "data", tmp_path / "run", teacher=str(place / "teacher"), unlabelled=(unlabelled,), eval_every=2
    )
    metrics = train(config)
    said = capsys.readouterr().out
    assert "1 of 5 photos without labels are left out: they are in val or test" in said
    assert "the teacher (a050) has a mean AP of" in said
    assert "best mean_ap on val 0." in said
    lines = read_metrics(tmp_path / "run")
    assert [(line["event"], line["step"]) for line in lines] == [
        ("teacher", 0),
        ("eval", 2),
        ("train", 4),
        ("eval", 4),
    ]
    expected = json.loads((place / "teacher/metrics.json").read_text())["mean_ap"]
    assert lines[0]["mean_ap"] == pytest.approx(expected)  # scored by the same evaluation
    assert 0 <= lines[1]["agrees_with_teacher"] <= 1
    assert lines[2]["loss"] == pytest.approx(lines[2]["loss_teacher"])  # the labels are not used
    assert metrics["mean_ap"] == json.loads((tmp_path / "run/metrics.json").read_text())["mean_ap"]
    assert "<html" in (tmp_path / "run/eval-val/report.html").read_text()
    tagger = Tagger.load(tmp_path / "run", device=CPU)
    assert tagger.attributes == ["Smiling", "Eyeglasses"]
    assert tagger.resolution == 32


def test_the_student_sees_what_the_teacher_sees_each_with_its_own_numbers(place):
    """The teacher gets the student's crop, in its own range; it is in eval mode, so that its statistics rest."""
    one = Tagger.load(place / "teacher", device=CPU)
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    logits, features = teacher_outputs(one, images, "none")
    torch.testing.assert_close(logits, one.network(images / 127.5 - 1))
    assert features.shape == (4, 512)
    assert not logits.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in one.network.state_dict().items())


def test_outputs_are_kept_by_content(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    one = Tagger.load(place / "teacher", device=CPU)
    paths = sorted((place / "data/images").iterdir())[:5]

    def ask_for(paths: list[Path]) -> tuple[np.ndarray, str]:
        logits = cached_outputs(one, place / "teacher", paths, batch_size=2, num_workers=0)
        return logits, capsys.readouterr().out

    first, said = ask_for(paths[:3])
    assert "for 3 photos: 3 computed" in said
    direct = predict_photos(one, paths, name="x", batch_size=5, num_workers=0)
    np.testing.assert_allclose(first, direct[:3].numpy(), rtol=2e-3, atol=2e-3)
    moved = tmp_path / "moved.png"
    moved.write_bytes(paths[1].read_bytes())
    again, said = ask_for([paths[4], moved])
    assert "for 2 photos: 1 computed" in said
    assert np.array_equal(again[1], first[1])
    kept = next((tmp_path / "cache").rglob(f"{content_hash(paths[1].read_bytes())[0]:02x}.safetensors"))
    whole = kept.read_bytes()
    tensors = safetensors.numpy.load(whole)
    no_numbers = safetensors.numpy.save({**tensors, "logits": np.full_like(tensors["logits"], np.nan)})
    for damaged in (whole[:-40], whole[:8] + b"x" + whole[9:], no_numbers, b""):
        kept.write_bytes(damaged)
        again, said = ask_for(paths[:3])
        assert "is damaged" in said
        assert re.search("for 3 photos: [1-3] computed", said)
        assert np.array_equal(again, first)
    (tmp_path / "other").mkdir()
    for file in (place / "teacher/best").iterdir():
        (tmp_path / "other" / file.name).write_bytes(file.read_bytes())
    about = tmp_path / "other/model.json"
    about.write_text(about.read_text().replace("127.5", "120.5"))
    cached_outputs(one, tmp_path / "other", paths[:1], batch_size=2, num_workers=0)
    assert "1 computed" in capsys.readouterr().out


def test_outputs_are_kept_in_parts_by_the_first_byte(place, tmp_path, monkeypatch):
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    kept = KeptOutputs(Tagger.load(place / "teacher", device=CPU), place / "teacher")
    hashes = [hashlib.sha256(b"%d" % i).digest()[:16] for i in range(600)]
    logits = np.random.default_rng(0).normal(size=(600, kept.num_attributes)).astype(np.float16)
    kept.add(hashes[:400], logits[:400])
    kept.add(hashes[300:], logits[300:])
    files = {file.stem: safetensors.numpy.load_file(file)["photos"] for file in kept.folder.iterdir()}
    assert sum(map(len, files.values())) == 600
    assert all({f"{row[0]:02x}" for row in rows} == {name} for name, rows in files.items())
    found, known = kept.find([*hashes[::-1], bytes(16)])
    assert known.tolist() == [True] * 600 + [False]
    assert np.array_equal(found[:600], logits[::-1])


def test_data_processes_after_the_face_finder(place, tmp_path):
    """The finder uses OpenCV's threads, data processes are forks: they must not wait for threads they lack."""
    flags = "--backbone a025 --resolution 32 --weights none --steps 2 --batch-size 4 --num-workers 2".split()
    places = ["--data", str(place / "data"), "--out", str(tmp_path / "run")]
    command = [sys.executable, teacher_script.__file__, *flags, *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


def weights_after(config) -> dict[str, torch.Tensor]:
    (train if isinstance(config, Config) else train_teacher)(config)
    return load_file(config.out / "best/model.safetensors")


@pytest.fixture(scope="module")
def student_before(place) -> dict[str, torch.Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        leave_out_reports(patch, "faceattr")
        return weights_after(student(place / "data", place / "before", **mixed(place)))


def mixed(place: Path) -> dict:
    settings = {"distill_weight": 0.5, "hint_weight": 0.5, "eval_every": 4, "amp": "none"}
    return {"teacher": str(place / "teacher"), **settings}


@pytest.mark.parametrize(
    "change",
    [
        {"distill_weight": 1.0},
        {"temperature": 3.0},
        {"hint_weight": 0.0},
        {"hint_weight": 0.0, "teacher_outputs": "cached"},
        {"withhold": 0.5},
        {"lr": 0.01},
        {"optimizer": "adamw"},
        {"weight_decay": 0.1},
        {"warmup_steps": 0},
        {"ema_decay": 0.0},
        {"augment": "light"},
        {"augment": "none"},
        {"clip_norm": 0.1},
        {"amp": "bf16"},
        {"seed": 1},
        {"batch_size": 4},
        {"accumulate": 2},
        {"steps": None, "epochs": 1.0, "eval_every": 2},
        {"teacher": "none", "distill_weight": 1.0, "hint_weight": 0.0},
    ],
    ids=str,
)
def test_every_setting_changes_the_weights(place, student_before, tmp_path, no_report, change):
    after = weights_after(student(place / "data", tmp_path / "b", **{**mixed(place), **change}))
    assert any(not torch.equal(student_before[name], after[name]) for name in after)


def test_a_trained_network_learns_the_rounding_of_8_bits(place, tmp_path, no_report, monkeypatch, capsys):
    """The saved model is as any other; stopped and resumed, it is the same to the bit."""
    settings = {"weights": str(place / "teacher"), "backbone": "a050", "teacher": "none", "steps": 2, "eval_every": 2}
    plain = weights_after(student(place / "data", tmp_path / "plain", **settings, lr=0.002))
    after = weights_after(student(place / "data", tmp_path / "straight", **settings, qat=True))
    assert capsys.readouterr().out.count("learning rate 0.002") == 2
    assert list(after) == list(plain) and any(not torch.equal(plain[name], after[name]) for name in after)
    again = student(place / "data", tmp_path / "again", **settings, qat=True, checkpoint_every=1)
    stop_after(1, train_script, monkeypatch, lambda: train(again))
    train(Config(resume=tmp_path / "again", num_workers=0))
    assert same_weights(tmp_path / "straight", tmp_path / "again")


def test_a_teachers_settings(place, tmp_path, no_report):
    before = load_file(place / "teacher/best/model.safetensors")
    for i, change in enumerate(({"conv": "full"}, {"weight_decay": 0.1}, {"backbone": "mobilenet_v3_small"})):
        after = weights_after(teacher(place / "data", tmp_path / str(i), eval_every=4, **change))
        assert before.keys() != after.keys() or any(not torch.equal(before[name], after[name]) for name in after)


@pytest.mark.parametrize("script", ["teacher", "student"])
def test_a_resumed_run_equals_an_uninterrupted_one(place, tmp_path, monkeypatch, no_report, script):
    """Stopped by a broken photo, mended, resumed: same losses, same weights to the bit."""
    data = draw_faces(tmp_path / "data")
    run, make = SCRIPTS[script]
    more = {"batch_size": 4, "accumulate": 2} | ({} if script == "teacher" else mixed(place))
    monkeypatch.setattr(train_script, "LOG_EVERY", 1)
    run(make(data, tmp_path / "straight", steps=6, **more))
    photo = data / "images/train09.png"
    whole, make_loader = photo.read_bytes(), train_script.make_loader

    def break_it(*args, **kwargs):  # after the first look, and what the run records of the file
        photo.write_bytes(whole[: len(whole) // 2])
        return make_loader(*args, **kwargs)

    with monkeypatch.context() as broken_later:
        broken_later.setattr(train_script, "make_loader", break_it)
        with pytest.raises(ValueError, match=r"train09\.png is truncated.*; stopped at step \d, go on with --resume"):
            run(make(data, tmp_path / "broken", steps=6, **more))
    photo.write_bytes(whole)
    run(CONFIGS[script](resume=tmp_path / "broken", num_workers=0))
    first, second = torch.load(tmp_path / "straight/last.pt"), torch.load(tmp_path / "broken/last.pt")
    assert first["facts"]["step"] == second["facts"]["step"] == 6
    for name, expected in first["parts"]["ema"]["model"].items():
        assert torch.equal(expected, second["parts"]["ema"]["model"][name]), name
    runs = tmp_path / "straight", tmp_path / "broken"
    losses = [[(x["step"], x["loss"]) for x in read_metrics(run) if x["event"] == "train"] for run in runs]
    assert losses[0] == losses[1]


def test_a_run_that_a_former_teacher_script_began_goes_on(place, tmp_path, no_report):
    """Its record had that script's settings alone, and its state the network without the criterion."""
    settings = {"steps": None, "epochs": 2.0, "eval_every": 2}
    metrics = train_teacher(teacher(place / "data", tmp_path / "run", **settings))
    record, state = json.loads((tmp_path / "run/config.json").read_text()), torch.load(tmp_path / "run/last.pt")
    names = {field.name for field in dataclasses.fields(teacher_script.Config)} - {"given"}
    record["config"] = {name: value for name, value in record["config"].items() if name in names}
    learnt = state["parts"].pop("learning")
    state["parts"]["network"] = {name.removeprefix("network."): value for name, value in learnt.items()}
    (tmp_path / "run/config.json").write_text(json.dumps(record))
    torch.save(state, tmp_path / "run/last.pt")
    assert train_teacher(teacher_script.Config(resume=tmp_path / "run", num_workers=0)) == metrics
    after = torch.load(tmp_path / "run/last.pt")["parts"]["learning"]
    assert all(torch.equal(after[name], value) for name, value in learnt.items())
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["teacher"] == "none"
    assert train(Config(resume=tmp_path / "run")) == metrics


@pytest.mark.parametrize("script", ["teacher", "student"])
def test_two_batches_of_four_make_the_step_of_eight(place, tmp_path, monkeypatch, no_report, script):
    """Although they have different numbers of known labels; BatchNorm rests, since it looks at a batch."""
    run, make = SCRIPTS[script]
    more = {} if script == "teacher" else {**mixed(place), "hint_weight": 0.0}
    monkeypatch.setattr(torch.nn.BatchNorm2d, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    for name, sizes in (("one", {"batch_size": 8}), ("two", {"batch_size": 4, "accumulate": 2})):
        run(make(place / "data", tmp_path / name, lr=0.01, **{"amp": "none", **more}, **sizes))
    states = [torch.load(tmp_path / name / "last.pt")["parts"] for name in ("one", "two")]
    one, two = (state["learning"] for state in states)
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-5)
    first, second = ([x for x in read_metrics(tmp_path / name) if x["event"] == "train"][-1] for name in ("one", "two"))
    for part in (part for part in first if part.startswith("loss")):
        assert first[part] == pytest.approx(second[part], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("script", ["teacher", "student"])
def test_a_run_ends_when_its_patience_does(place, tmp_path, monkeypatch, no_report, capsys, script):
    run, make = SCRIPTS[script]
    more = {} if script == "teacher" else mixed(place)
    monkeypatch.setattr(train_script, "evaluate", lambda *args, **options: args[3].note_evaluation({"mean_ap": 0.5}))
    run(make(place / "data", tmp_path / "run", **{**more, "steps": 50, "eval_every": 1, "patience": 2}))
    said = "is finished: mean_ap has not risen in 2 evaluations; it ended at step 3"
    assert said in capsys.readouterr().out
    assert json.loads((tmp_path / "run/metrics.json").read_text())["step"] == 3
    run(CONFIGS[script](resume=tmp_path / "run", num_workers=0))
    assert said in capsys.readouterr().out
    assert sum(line["event"] == "teacher" for line in read_metrics(tmp_path / "run")) == (script == "student")


@pytest.mark.parametrize("script", ["teacher", "student"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_photos(place, tmp_path, no_report, monkeypatch, script):
    run, make = SCRIPTS[script]
    more = {} if script == "teacher" else mixed(place)
    settings = {**more, "lr": 1e30, "clip_norm": 0.0, "warmup_steps": 0, "eval_every": 4}
    if script == "student":  # BatchNorm keeps its loss finite: here the teacher goes wrong
        settings |= {"lr": 0.1}
        answers = iter([1.0, 1.0, torch.nan])
        ask = teacher_outputs
        monkeypatch.setattr(
            train_script, "teacher_outputs", lambda *args: (ask(*args)[0] * next(answers), ask(*args)[1])
        )
    part = "loss" if script == "teacher" else "loss_hint"
    message = rf"not finite \(.*{part} \S+\).*; stopped at step (\d), go on with --resume"
    with pytest.raises(ValueError, match=message) as stop:
        run(make(place / "data", tmp_path / "run", **settings))
    keys = StepSampler(16, batch_size=8, num_steps=4, seed=0).batch(int(re.search(message, str(stop.value))[1]))
    named = [f"images/train{i:02d}.png" in str(stop.value) for i in range(16)]
    assert named == [i in {key.item for key in keys} for i in range(16)]
    state = torch.load(tmp_path / "run/last.pt")
    step = int(re.search(message, str(stop.value))[1])
    assert state["facts"]["step"] == step if script == "student" else state["facts"]["step"] <= step
    for part in ("learning", "network"):
        assert all(value.isfinite().all() for value in state["parts"].get(part, {}).values())


def test_a_val_that_measures_nothing_is_refused_before_a_run_begins(place, tmp_path):
    draw_faces(tmp_path / "data")
    table = tmp_path / "data/attributes.csv"
    table.write_text(re.sub(r"(val\d+\.png),-?1,-?1", r"\1,1,-1", table.read_text()))
    for teacher_of in ("none", str(place / "teacher")):
        with pytest.raises(ValueError, match=r"^val: no attribute is known to be both present and absent"):
            train(student(tmp_path / "data", tmp_path / "run", teacher=teacher_of))
    assert not (tmp_path / "run").exists()


def test_withheld_labels_are_whole_rows():
    labels = np.ones((10, 3), dtype=np.int8)
    some = withheld(labels, 0.5, 0)
    rows = (some == -1).all(axis=1)
    assert rows.sum() == 5
    assert (some[~rows] == 1).all()
    assert (labels == 1).all()  # the given ones are left alone
    assert not np.array_equal(some, withheld(labels, 0.5, 1))


def test_wrong_input(place, tmp_path, capsys):
    data = ("--data", str(place / "data"), "--weights", "none", "--num-workers", "0", "--steps", "2")
    data += ("--out", str(tmp_path / "new"))

    def error(*args: str) -> str:
        return error_of(capsys, train, Config, *data, *args)

    assert "--teacher is missing" in error()
    assert "does not exist" in error("--teacher", str(tmp_path / "gone"))
    assert "--temperature needs a --teacher" in error("--teacher", "none", "--temperature", "2")
    assert "withhold must be from 0 to 1, got 2" in error("--teacher", "none", "--withhold", "2")
    assert "no label is left to learn from" in error("--teacher", "none", "--withhold", "1")
    good = ("--teacher", str(place / "teacher"))
    assert "distill_weight must be from 0" in error(*good, "--distill-weight", "2")
    assert "does not go with --teacher-outputs cached" in error(
        *good, "--hint-weight", "1", "--teacher-outputs", "cached"
    )
    assert "did you mean a025?" in error(*good, "--backbone", "a25")
    assert "--qat fine-tunes a trained model: give --weights a run" in error("--teacher", "none", "--qat")
    assert "--resolution must be from 32" in error(*good, "--resolution", "8")
    args = (*data, "--backbone", "resnet-50")
    assert "did you mean resnet50?" in error_of(capsys, train_teacher, teacher_script.Config, *args)
    assert not (tmp_path / "new/metrics.jsonl").exists()
