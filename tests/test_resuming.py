"""--resume in every app: settings survive, other data is refused and named, one process a run, nothing is lost."""

import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import cv2
import numpy as np
import pytest
import torch

from apps.common.data.data_record import Content, record_data
from apps.common.training import distributed
from apps.common.training.distributed import Processes
from apps.common.training.progress import stop_on_signals
from apps.common.training.resume import resumed_config
from apps.common.training.run_log import RunLog, read_metrics
from apps.detection import train as detection
from apps.faceattr import teacher as faceattr_teacher
from apps.faceattr import train as faceattr
from apps.finegrained import train as finegrained
from tests.common.mistakes import error_of
from tests.conftest import draw_tiny_coco, leave_out_reports
from tests.faceattr.conftest import draw_faces
from tests.finegrained.conftest import draw_photos

CONFIGS = {
    "detection": detection.Config,
    "finegrained": finegrained.Config,
    "faceattr": faceattr.Config,
    "teacher": faceattr_teacher.Config,
}
SIZES = {"backbone": "a025", "weights": "none", "batch_size": 4, "warmup_steps": 1, "num_workers": 0, "device": "cpu"}


class App(NamedTuple):
    script: Any
    draw: Callable[[Path], Path]
    settings: dict[str, Any]


APPS = {
    "detection": App(detection, draw_tiny_coco, {"resolution": 64}),
    "finegrained": App(finegrained, draw_photos, {"resolution": 48}),
    "faceattr": App(faceattr, draw_faces, {"resolution": 32, "teacher": "none"}),
}


def make_config(app: str, data: Path, out: Path, **changes) -> Any:
    given = (str(data),) if app == "faceattr" else str(data)
    return APPS[app].script.Config(**{**SIZES, **APPS[app].settings, "data": given, "out": out, **changes})


@pytest.fixture(autouse=True)
def no_report(monkeypatch) -> None:
    """These runs are about what is resumed."""
    for app in APPS:
        leave_out_reports(monkeypatch, app)


@pytest.fixture(scope="module", params=list(APPS))
def begun(request, tmp_path_factory) -> tuple[str, Path]:
    """An app, and a folder with its data and a run of a step that was broken off after the first."""
    root = tmp_path_factory.mktemp(request.param)
    APPS[request.param].draw(root / "data")
    script = APPS[request.param].script
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "take_step", lambda *args, **options: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            script.train(make_config(request.param, root / "data", root / "run", steps=2))
    assert [(line["event"], line["step"]) for line in read_metrics(root / "run")][-1] == ("eval", 1)
    return request.param, root


@pytest.fixture
def place(begun, tmp_path) -> tuple[str, Path]:
    """A copy that a test may change."""
    app, root = begun
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    path = copy / "run/config.json"
    path.write_text(path.read_text().replace(str(root), str(copy)))
    return app, copy


# Settings

COUNTS: list[tuple[str, Any, str]] = [
    ("batch_size", 0, "--batch-size must be from 1 to 65,536, got 0"),
    ("batch_size", 10**9, "got 1000000000"),  # for minutes a list of so many would be made
    ("accumulate", 0, "--accumulate must be from 1 to"),
    ("steps", 0, "--steps must be from 1 to 999,999,999, got 0"),
    ("steps", 10**30, "got 10{30}$"),  # no range is so long
    ("steps", 10**9, "got 1000000000$"),  # which stands for a number that is not known yet
    ("eval_every", 0, "--eval-every must be from 1"),
    ("checkpoint_every", -1, "--checkpoint-every must be from 1 .*, got -1"),
    ("seed", -1, "--seed must be from 0 to 9,223,372,036,854,775,807, got -1"),
    ("seed", 2**64, "--seed must be"),
    ("num_workers", -1, "--num-workers must be from 0 to 1,024, got -1"),
    ("resolution", 0, "--resolution must be from 32 to 8,192, got 0"),  # None alone is the default
    ("resolution", 8193, "--resolution must be"),  # whose model folder could not be read
    ("device", "meta", "--device meta cannot be used here"),
]


@pytest.mark.parametrize("app", list(APPS))
@pytest.mark.parametrize(("name", "value", "message"), COUNTS)
def test_a_count_out_of_its_range_is_named_before_a_run_begins(tmp_path, app, name, value, message):
    with pytest.raises(ValueError, match=message):
        APPS[app].script.train(make_config(app, tmp_path / "nowhere", tmp_path / "run", **{name: value}))
    assert not (tmp_path / "run").exists()


def other_values(hint: Any, default: Any) -> Iterator[Any]:
    """Values of a field's type that are not its default."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        yield from ((inner("a b"),), (inner("a"), inner("ü/c")), ())
    elif get_origin(hint) is Literal:
        yield from get_args(hint)
    elif NoneType in get_args(hint):
        for one in get_args(hint):
            yield from () if one is NoneType else other_values(one, default)
    elif hint is bool:
        yield not default
    else:
        yield {int: 7, float: 0.1 + 0.2, str: "ü b", Path: Path("a b/ü")}[hint]


CHOICES = [
    (app, field.name, value)
    for app, config in CONFIGS.items()
    for field in dataclasses.fields(config)
    if field.name not in ("given", "out", "resume")
    for value in other_values(get_type_hints(config)[field.name], field.default)
    if value != field.default
]


@pytest.mark.parametrize("app", list(CONFIGS))
def test_every_choice_of_every_app_survives(tmp_path, monkeypatch, app):
    """Each value alone, through config.json and back, of its type; and no other changes."""
    monkeypatch.setattr("apps.common.training.run_log.import_board", lambda: lambda folder: None)
    tried = [(name, value) for one, name, value in CHOICES if one == app]
    assert {name for name, _ in tried} == {f.name for f in dataclasses.fields(CONFIGS[app])} - {
        "given",
        "out",
        "resume",
    }
    for i, (name, value) in enumerate(tried):
        config = CONFIGS[app](out=tmp_path / str(i), **{name: value})
        RunLog.open(config, app=app, step=0, processes=Processes())
        back = resumed_config(CONFIGS[app](resume=config.out), config.out)
        assert dataclasses.replace(back, out=config.out, resume=None) == config, name
        assert repr(getattr(back, name)) == repr(value), name  # a tuple is no list, a path no text


def start(app: str, *flags: str, **options) -> subprocess.Popen:
    command = [sys.executable, APPS[app].script.__file__, *flags]
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def flags_of(app: str, data: Path, out: Path, **changes) -> list[str]:
    settings = {**SIZES, **APPS[app].settings, "data": data, "out": out, **changes}
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def wait_for(run: Path, process: subprocess.Popen, *, steps: int = 1) -> None:
    """Until a run has done some steps."""
    end = time.monotonic() + 200
    while not (run / "metrics.jsonl").exists() or len(read_metrics(run)) < steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


# Data


def rename_class(app: str, data: Path) -> str:
    if app == "detection":
        for path in (data / "annotations").iterdir():
            path.write_text(path.read_text().replace('"red"', '"ruby"'))
        return "red, blue became ruby, blue"
    if app == "finegrained":
        for split in ("train", "val"):
            (data / split / "robin").rename(data / split / "a wren")
        return "blue tit, great tit, robin became a wren, blue tit, great tit"
    table = data / "attributes.csv"
    table.write_text(table.read_text().replace("Smiling,Eyeglasses", "Smiling,Hat"))
    return "Smiling, Eyeglasses became Smiling, Hat"


def swap_classes(app: str, data: Path) -> str:
    if app == "detection":
        for path in (data / "annotations").iterdir():
            swapped = path.read_text().replace('"red"', '"?"').replace('"blue"', '"red"').replace('"?"', '"blue"')
            path.write_text(swapped)
        return "red, blue became blue, red"
    if app == "finegrained":
        for split in ("train", "val"):
            one, other, aside = (data / split / name for name in ("robin", "blue tit", "aside"))
            one.rename(aside)
            other.rename(one)
            aside.rename(other)
        return "train has other files under the same names; val has other files under the same names"
    table = data / "attributes.csv"
    table.write_text(table.read_text().replace("Smiling,Eyeglasses", "Eyeglasses,Smiling"))
    return "Smiling, Eyeglasses became Eyeglasses, Smiling"


def add_class(app: str, data: Path) -> str:
    if app == "detection":
        for path in (data / "annotations").iterdir():
            content = json.loads(path.read_text())
            content["categories"].append({"id": 9, "name": "green"})
            path.write_text(json.dumps(content))
        return "the classes changed: red, blue became red, blue, green; begin a new run with --weights"
    if app == "finegrained":
        for split in ("train", "val"):
            shutil.copytree(data / split / "robin", data / split / "wren")
            for path in (data / split / "wren").iterdir():
                cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
        return "blue tit, great tit, robin became blue tit, great tit, robin, wren; begin a new run with --weights"
    table = data / "attributes.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head + ",Hat", *(f"{row},{1 - 2 * (i % 2)}" for i, row in enumerate(rows))]) + "\n")
    return "the classes changed: Smiling, Eyeglasses became Smiling, Eyeglasses, Hat; begin a new run with --weights"


def change_labels(app: str, data: Path) -> str:
    if app == "detection":
        path = data / "annotations/instances_train.json"
        content = json.loads(path.read_text())
        content["annotations"][2]["category_id"] = 10 - content["annotations"][2]["category_id"]
        path.write_text(json.dumps(content))
        return "train has other labels"
    if app == "finegrained":
        for split in ("train", "val"):
            (data / split / "robin/000.png").rename(data / split / "blue tit/900.png")
        return "train has photos of other names, or in another order; val has photos of other names"
    table = data / "attributes.csv"
    table.write_text(table.read_text().replace("val00.png,-1,-1", "val00.png,1,-1"))
    return "val has other labels"


def exchange_photo(app: str, data: Path) -> str:
    photo = {"detection": "val/002.png", "finegrained": "val/robin/001.png", "faceattr": "images/val03.png"}[app]
    assert (data / photo).exists()
    cv2.imwrite(str(data / photo), np.zeros_like(cv2.imread(str(data / photo))))
    return "val has other files under the same names"


def exchange_photo_of_one_size(app: str, data: Path) -> str:
    """Another picture in as many bytes, as all of an uncompressed format are."""
    photo = {"detection": "val/002.png", "finegrained": "val/robin/001.png", "faceattr": "images/val03.png"}[app]
    size = (data / photo).stat().st_size
    black = cv2.imencode(".png", np.zeros_like(cv2.imread(str(data / photo))))[1].tobytes()
    (data / photo).write_bytes(black + bytes(size - len(black)))
    return "val has other files under the same names"


def add_photo(app: str, data: Path) -> str:
    noise = np.random.default_rng(7).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    if app == "detection":
        path = data / "annotations/instances_val.json"
        content = json.loads(path.read_text())
        content["images"].append({"id": 99, "file_name": "new.png", "width": 96, "height": 64})
        path.write_text(json.dumps(content))
        cv2.imwrite(str(data / "val/new.png"), noise)
        return "val had 4 photos and has 5 now"
    if app == "finegrained":
        cv2.imwrite(str(data / "val/robin/new.png"), noise)
        return "val had 6 photos and has 7 now"
    cv2.imwrite(str(data / "images/new.png"), noise)
    table = data / "attributes.csv"
    table.write_text(table.read_text() + "new.png,1,1,val,val-9\n")
    return "val had 6 photos and has 7 now"


def move_box(app: str, data: Path) -> str:
    if app != "detection":
        pytest.skip("it has no boxes")
    path = data / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][3]["bbox"][2] -= 1
    path.write_text(json.dumps(content))
    return "train has other boxes"


CHANGES = (rename_class, swap_classes, add_class, change_labels, add_photo, move_box)
CHANGES += (exchange_photo, exchange_photo_of_one_size)


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
def test_a_run_is_not_resumed_on_changed_data(place, capsys, change):
    app, root = place
    expected = change(app, root / "data")
    before = (root / "run/last.pt").read_bytes(), (root / "run/metrics.jsonl").read_bytes()
    script = APPS[app].script
    line = error_of(capsys, script.train, script.Config, "--resume", str(root / "run"))
    assert line.split("error: ")[1].startswith(f"--resume {root / 'run'}: the ") and expected in line
    assert ((root / "run/last.pt").read_bytes(), (root / "run/metrics.jsonl").read_bytes()) == before


def test_a_run_goes_on_where_its_data_was_moved_or_copied(place, tmp_path):
    app, root = place
    (root / "data").rename(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*.*"):
        os.utime(path, (0, 0))
    place = make_config(app, tmp_path / "elsewhere", root / "run").data
    APPS[app].script.train(APPS[app].script.Config(resume=root / "run", data=place))
    assert (root / "run/metrics.json").exists()


def test_a_run_is_not_resumed_with_another_teacher(tmp_path):
    for name in ("one", "copy", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(name.replace("copy", "one").encode())
    content = Content([], [])
    (tmp_path / "config.json").write_text(json.dumps(record_data(None, ["a"], teacher=tmp_path / "one", train=content)))
    record_data(tmp_path, ["a"], teacher=tmp_path / "copy", train=content)
    for teacher in (tmp_path / "other", None):
        with pytest.raises(ValueError, match=r"the weights of --teacher .* are not those the run began with"):
            record_data(tmp_path, ["a"], teacher=teacher, train=content)


def test_photos_may_be_given_from_here_and_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Path("a/1.png"), tmp_path / "b/2.png"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"x")
    record = record_data(None, ["a"], train=Content(paths, []))
    assert record == record_data(None, ["a"], train=Content([path.absolute() for path in paths], []))


def test_a_run_of_a_former_version_has_no_record_of_its_data_and_goes_on(place, capsys):
    app, root = place
    record = json.loads((root / "run/config.json").read_text())
    assert {"classes", "train", "val"} <= set(record.pop("data_record"))
    (root / "run/config.json").write_text(json.dumps(record))
    (root / "run/run.lock").unlink()
    change_labels(app, root / "data")
    APPS[app].script.train(APPS[app].script.Config(resume=root / "run"))
    assert "finished: all 2 steps are done" in capsys.readouterr().out


# The run


def test_what_lies_in_a_run_stands_for_it(place, capsys):
    app, root = place
    script = APPS[app].script
    for path in ("run/last.pt", "run"):
        script.train(script.Config(resume=root / path))
        assert "finished: all 2 steps are done" in capsys.readouterr().out
    for path in ("run/best", "run/config.json", "run/best/model.json"):
        assert resumed_config(script.Config(resume=root / path), root / path).resume == root / "run"
    for path, words in (
        ("gone", "does not exist: give the folder of a run"),
        ("data", "is not a run, it has no config"),
    ):
        line = error_of(capsys, script.train, script.Config, "--resume", str(root / path))
        assert f"--resume {root / path} {words}" in line


@pytest.fixture(scope="module")
def long_run(tmp_path_factory) -> Iterator[tuple[Path, subprocess.Popen]]:
    """A folder with data and a detector's run of many steps, of which each fifth is saved with its evaluation."""
    root = tmp_path_factory.mktemp("long")
    draw_tiny_coco(root / "data")
    flags = flags_of("detection", root / "data", root / "run", steps=100_000, eval_every=5, checkpoint_every=5)
    process = start("detection", *flags)
    wait_for(root / "run", process)
    yield root, process
    if process.poll() is None:
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no record locks")
def test_two_processes_do_not_write_one_run(long_run, capsys):
    root, process = long_run
    words = f"{root / 'run'}: another process trains in it (process {process.pid} on "
    for flags in (["--resume", str(root / "run")], flags_of("detection", root / "data", root / "run", steps=9)):
        line = error_of(capsys, detection.train, detection.Config, *flags)
        assert words in line and line.endswith("wait for its end, or stop it first")
    os.kill(process.pid, signal.SIGKILL)  # whatever its end is, the lock ends, too
    process.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "take_step", lambda *args, **options: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            detection.train(detection.Config(resume=root / "run"))
    lines = [(line["event"], line["step"]) for line in read_metrics(root / "run")]
    assert len(lines) == len(set(lines)) and [step for _, step in lines] == sorted(step for _, step in lines)


# What ends a run


def saved_step(run: Path) -> int:
    return torch.load(run / "last.pt")["facts"]["step"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("app", "name"), [("detection", "SIGHUP"), ("finegrained", "SIGUSR1"), ("faceattr", "SIGHUP")])
def test_a_warning_to_the_whole_group_saves_and_says_so(tmp_path, app, name):
    APPS[app].draw(tmp_path / "data")
    run, number = tmp_path / "run", getattr(signal, name)
    changes = {"steps": 100_000, "eval_every": 2, "checkpoint_every": 100_000, "num_workers": 1, "lr": 0.001}
    process = start(app, *flags_of(app, tmp_path / "data", run, **changes))
    wait_for(run, process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err[-2000:]
    assert out.splitlines()[-1] == f"stopped by a signal after step {saved_step(run)}; go on with --resume {run}"
    assert saved_step(run) >= 2 and "Traceback" not in err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_lost_terminal_loses_no_step(tmp_path):
    draw_tiny_coco(tmp_path / "data")
    ours, theirs = os.openpty()
    flags = flags_of("detection", tmp_path / "data", tmp_path / "run", steps=100_000, eval_every=100_000, lr=0.001)
    command = [sys.executable, detection.__file__, *flags]
    process = subprocess.Popen(command, start_new_session=True, stdout=theirs, stderr=theirs)
    os.close(theirs)
    end = time.monotonic() + 200
    while not (tmp_path / "run/metrics.jsonl").exists() or not read_metrics(tmp_path / "run"):
        assert time.monotonic() < end and process.poll() is None
        if select.select([ours], [], [], 0.1)[0]:
            os.read(ours, 1000)
    os.close(ours)
    os.kill(process.pid, signal.SIGHUP)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    assert saved_step(tmp_path / "run") >= 2


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there are no hangups")
def test_what_nohup_ignores_stays_ignored(monkeypatch):
    monkeypatch.setattr("apps.common.training.progress.REPEAT_S", 0.0)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as received:
            signal.raise_signal(signal.SIGHUP)
            assert received == []
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)  # the warning, then the end of the time: one wish
            assert received == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for children in /proc")
@pytest.mark.parametrize("app", list(APPS))
def test_a_data_process_that_is_killed_costs_nothing(tmp_path, app):
    """As the system kills the largest process where memory is short."""
    APPS[app].draw(tmp_path / "data")
    run = tmp_path / "run"
    changes = {"steps": 100_000, "eval_every": 100_000, "checkpoint_every": 100_000, "num_workers": 2, "lr": 0.001}
    process = start(app, *flags_of(app, tmp_path / "data", run, **changes))
    wait_for(run, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    (line,) = (line for line in err.splitlines() if "error:" in line)
    assert process.returncode == 2 and "Traceback" not in err
    step = saved_step(run)
    assert step >= 20, line
    assert "use --num-workers less than 2" in line
    assert line.endswith(f"; stopped at step {step}, go on with --resume {run}")


@pytest.mark.parametrize("app", list(APPS))
@pytest.mark.parametrize("turn", [1, 2])
def test_an_evaluation_that_broke_off_comes_first_on_resume(tmp_path, app, turn):
    APPS[app].draw(tmp_path / "data")
    script = APPS[app].script
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    expected = script.train(make_config(app, tmp_path / "data", straight, steps=2))
    name = "predict_split" if app == "detection" else "predict_photos"
    measure, calls = getattr(sys.modules[f"apps.{app}.evaluation.while_training"], name), []

    def fail(*args, **options) -> Any:
        calls.append(1)
        if len(calls) == turn:
            raise ValueError("a photo of val is gone")
        return measure(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"apps.{app}.evaluation.while_training.{name}", fail)
        with pytest.raises(ValueError, match=f"val is gone; stopped at step {turn}, go on with --resume"):
            script.train(make_config(app, tmp_path / "data", broken, steps=2))
    assert script.train(script.Config(resume=broken)) == expected
    events = [[(line["event"], line["step"]) for line in read_metrics(run)] for run in (straight, broken)]
    assert [event for event in events[0] if event[0] == "eval"] == [event for event in events[1] if event[0] == "eval"]


def test_weights_that_are_gone_are_in_the_state(place, tmp_path):
    """What else a run starts from, such as the preprocessing, is in its record: it goes on the same to the bit."""
    app, root = place
    script, weights = APPS[app].script, root / "weights"
    (root / "run/best").rename(weights)
    about = json.loads((weights / "model.json").read_text())
    about["preprocessing"]["mean"] = [100, 110, 120.5]
    about["style"]["activation"] = "relu"
    (weights / "model.json").write_text(json.dumps(about))
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    options = {"weights": str(weights), "steps": 2, "eval_every": 2}
    script.train(make_config(app, root / "data", straight, **options))
    take_step = script.take_step

    def step_and_stop(*args, **named) -> None:
        take_step(*args, **named)
        signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "take_step", step_and_stop)
        with pytest.raises(SystemExit):
            script.train(make_config(app, root / "data", broken, **options))
    weights.rename(tmp_path / "elsewhere")
    script.train(script.Config(resume=broken))
    states = [torch.load(run / "last.pt")["parts"] for run in (straight, broken)]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    models = [json.loads((run / "best/model.json").read_text()) for run in (straight, broken)]
    assert models[0] == models[1]
    assert models[1]["preprocessing"]["mean"] == [100, 110, 120.5] and models[1]["style"]["activation"] == "relu"


# A time budget


@pytest.mark.parametrize("app", list(APPS))
def test_a_run_with_minutes_keeps_its_steps(tmp_path, monkeypatch, app):
    """The clock moves a second a step: some 12 of them fit into a quarter of a minute."""
    APPS[app].draw(tmp_path / "data")
    script, seconds = APPS[app].script, iter(range(10**6))
    monkeypatch.setattr(distributed, "now", lambda: float(next(seconds)))
    take, run = script.take_step, tmp_path / "run"
    stop = {9: lambda *args, **options: signal.raise_signal(signal.SIGTERM)}
    steps = iter(range(10**6))
    monkeypatch.setattr(script, "take_step", lambda *args, **how: stop.get(next(steps), take)(*args, **how))
    with pytest.raises(SystemExit):
        script.train(make_config(app, tmp_path / "data", run, minutes=0.25))
    record = json.loads((run / "config.json").read_text())
    assert record["fitted"]["steps"] == record["num_steps"] and 10 < record["num_steps"] <= 15
    script.train(script.Config(resume=run, given=frozenset({"resume"})))
    ends = [line["step"] for line in read_metrics(run) if line["event"] == "eval"]
    assert ends[-1] == record["num_steps"] and len(ends) <= 6
