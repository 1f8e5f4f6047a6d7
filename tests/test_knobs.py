"""benchmarks/knobs.py: a grid of each app is trained, goes on after a kill, and is compared; what is on the front."""

import importlib
import json
import signal
from pathlib import Path

import numpy as np
import pytest

from apps.common.deploy.runtime import start_session
from backbone.cost import backbone_cost
from benchmarks import knobs
from tests.conftest import draw_tiny_coco
from tests.faceattr.conftest import draw_faces
from tests.finegrained.tiny_fruit import draw_fruit

TRAIN = ["--weights", "none", "--steps", "2", "--batch-size", "6", "--num-workers", "0", "--device", "cpu"]
OTHERS = {  # an app -> what draws its photos, pixels, its main metric, and flags of its own
    "detection": (draw_tiny_coco, "64", "AP", []),
    "faceattr": (draw_faces, "32", "mean_ap", ["--teacher", "none"]),
}


@pytest.fixture(scope="module")
def fruit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fruit")
    for split, each in (("train", 6), ("val", 3)):
        draw_fruit(folder, split, each=each)
    return folder


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("| a0")]
    return {cells[1]: cells[2:-1] for cells in ([cell.strip() for cell in line.split("|")] for line in lines)}


def test_a_grid_is_trained_once_goes_on_and_is_compared(fruit, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--app", "finegrained", "--data", str(fruit), "--resolutions", "32", "--out", str(out), "--backbones"]
    knobs.main([*given, "a010", *TRAIN])
    capsys.readouterr()
    (out / "a010-32/metrics.json").unlink()  # as if it had been stopped before its end
    knobs.main([*given, "a010", "a025", *TRAIN])
    text = capsys.readouterr().out
    assert "training a010 at 32 pixels" in text and "training a025 at 32 pixels" in text
    knobs.main([*given, "a010", "a025", "a010", *TRAIN])
    again = capsys.readouterr().out
    assert "training" not in again
    rows = rows_of(again)
    assert list(rows) == ["a025-32", "a010-32"] and again.count("| a010 | 32 |") == 1
    for name, (width, side, way, mult_adds, ms, mb, metric, _) in rows.items():
        measured = json.loads((out / name / "knobs-val/metrics.json").read_text())
        assert (f"{width}-{side}", way) == (name, "from random weights")
        assert mult_adds == f"{backbone_cost(width, 32, num_classes=3).mult_adds / 1e6:.1f}"
        assert float(mb) == pytest.approx((out / name / "best/model.safetensors").stat().st_size / 1e6, abs=0.06)
        assert metric == f"{measured['top1']:.3f}" and float(ms) > 0
    assert (out / "knobs.md").read_text() == again[again.index("| run") :]
    assert (out / "knobs.png").read_bytes()[:4] == b"\x89PNG"
    knobs.main(
        ["--app", "finegrained", "--data", str(fruit), "--out", str(tmp_path / "two"), "--runs", str(out / "a025-32")]
    )
    assert list(rows_of(capsys.readouterr().out)) == ["a025-32"]


@pytest.mark.parametrize("app", OTHERS)
def test_a_killed_run_of_the_other_apps_goes_on(app, tmp_path, capsys, monkeypatch):
    draw, side, key, flags = OTHERS[app]
    data, out = draw(tmp_path / "data"), tmp_path / "out"
    given = ["--app", app, "--data", str(data), "--backbones", "a010", "--resolutions", side, "--out", str(out)]
    given += [*TRAIN, *flags]
    script = importlib.import_module(f"apps.{app}.train")
    learn, steps = script.take_step, []

    def counted(*args, **options):
        learn(*args, **options)
        steps.append(len(steps))
        if len(steps) == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(script, "take_step", counted)
    monkeypatch.setattr(knobs, "start_session", lambda model, _: start_session(model, "torch"))  # exports nothing
    with pytest.raises(SystemExit) as stop:
        knobs.main(given)
    assert stop.value.code == 128 + signal.SIGTERM and "stopped by a signal after step 1" in capsys.readouterr().out
    knobs.main(given)
    assert len(steps) == 2  # of --steps 2
    (row,) = rows_of(capsys.readouterr().out).values()
    measured = json.loads((out / f"a010-{side}/knobs-val/metrics.json").read_text())
    assert (row[0], row[1], row[6]) == ("a010", side, f"{measured[key]:.3f}")


def test_nothing_is_kept_of_flags_with_which_no_run_began(fruit, tmp_path, capsys):
    given = ["--app", "finegrained", "--data", str(fruit), "--backbones", "a010", "--resolutions", "32", *TRAIN]
    given += ["--out", str(tmp_path)]
    for flags, told in ((["--weights", "none.h5"], "none.h5"), (["--weights", "none.pth"], "none.pth")):
        with pytest.raises(SystemExit) as stop:
            knobs.main([*given, *flags])
        err = capsys.readouterr().err
        assert (stop.value.code, err.count("\n")) == (2, 1) and told in err and "has runs of" not in err


def test_a_mistake_gets_one_line(fruit, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "knobs.json").write_text(json.dumps({"app": "finegrained", "data": ["elsewhere"], "flags": []}))
    (out / "a025-32").mkdir()
    (out / "a025-32/last.pt").touch()
    for flags, told in (
        (["--app", "finegrained", "--data", str(fruit)], "has runs of {"),
        (["--app", "finegrained", "--data", "a", "b"], "--data of finegrained is one folder, got 2"),
        (["--app", "finegrained", "--resolutions", "32", "7"], "--resolutions must be 32 or more, got 7"),
        (["--app", "finegrained", "--backbones", "a025", "a999"], "unknown backbone 'a999'"),
        (["--app", "finegrained", "--backbone=a025"], "--backbone is set for each run"),
        (
            ["--app", "finegrained", "--runs", str(tmp_path), "--steps", "5"],
            "--runs trains nothing: leave out --steps 5",
        ),
        (["--app", "finegrained", "--runs", str(tmp_path / "none")], "does not exist"),
    ):
        with pytest.raises(SystemExit) as stop:
            knobs.main([*flags, "--out", str(out)])
        err = capsys.readouterr().err
        assert (stop.value.code, err.count("\n")) == (2, 1) and told in err
    assert {path.name for path in out.iterdir()} == {"a025-32", "knobs.json"}


def test_the_front_is_what_no_other_one_beats():
    """Against the definition, on random points with many ties."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = rng.integers(0, 5, (12, 2)).tolist()
        points = [knobs.Point(str(i), "a100", 224, "", metric, cost, 1.0, 1.0) for i, (metric, cost) in enumerate(rows)]
        front = {(point.metric, point.mult_adds) for point in knobs.front(points, "mult_adds")}
        beaten = [any(m >= a and c <= b and (m, c) != (a, b) for m, c in rows) for a, b in rows]
        assert front == {tuple(row) for row, lost in zip(rows, beaten, strict=True) if not lost}


def test_what_sets_a_run_apart(tmp_path):
    for config, words in (
        ({"weights": None, "teacher": "none"}, ""),
        ({"weights": "none", "teacher": "runs/t", "withhold": 0.5}, "from random weights, distilled, labels withheld"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"config": config}))
        assert knobs.way_of(tmp_path) == words
    assert knobs.way_of(Path("none")) == ""
