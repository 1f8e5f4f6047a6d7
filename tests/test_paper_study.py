"""benchmarks/paper.py: one epoch of every network of every table, what goes on where it stopped, and its figures."""

import contextlib
import io
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.finegrained.tiny_fruit import draw_fruit

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--split", "test", "--width", "a025", "--side", "56", "--steps", "3", "--batch-size", "8", "--seeds", "1"]


@pytest.fixture(scope="module")
def parts():
    """The script and the modules beside it, as its folder is first on the module path when it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import paper
        import paper_report
        import paper_runs
    return SimpleNamespace(script=paper, runs=paper_runs, report=paper_report)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, parts):
    """The flags of a study of everything, and what its two commands printed: the first left most of it out."""
    folder = tmp_path_factory.mktemp("study")
    for split, each in (("train", 8), ("val", 1), ("test", 3)):
        draw_fruit(folder / "fruit", split, each=each)
    given = ["--out", str(folder / "out"), "--data", str(folder / "fruit"), *TINY]
    texts = []
    for more in (["--tables", "6"], []):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            parts.script.main([*given, *more])
        texts.append(printed.getvalue())
    return given, *texts


def test_one_epoch_of_everything_in_two_commands(finished, parts, capsys):
    given, some, whole = finished
    out = Path(given[1])
    assert some.startswith("4 runs to train, about ") and whole.startswith("24 runs to train, about ")
    records = {path.stem: json.loads(path.read_text()) for path in (out / "runs").iterdir()}
    assert len(records) == 28
    assert all(run["num_photos"] == {"train": 24, "test": 9} for run in records.values())  # none is set aside for val
    assert all(0 <= run["top1"] <= run["top5"] <= 1 and run["cpu_seconds"] > 0 for run in records.values())
    for name in ("a100_160", "a025_224_conv-full", "a050_224_taught-True", "a100_224_shallow-True"):
        assert f"{name}-seed-0" in records
    parts.script.main(given)
    again = capsys.readouterr().out
    assert again.startswith("0 runs to train") and "not finished" not in again
    assert all((out / name).stat().st_size > 10_000 for name in ("paper.png", "distill.png"))


def test_the_papers_figures_stand_beside_ours(finished):
    """The paper's strings, and counts known from other implementations."""
    rows = [re.split(r" *\| *", line)[1:-1] for line in finished[2].splitlines() if line.startswith("| ")]
    full = next(row for row in rows if row[0] == "full convolutions")
    assert full[8:] == ["71.7", "", "4866", "4867.3", "29.3", "29.28"]
    wide = next(row for row in rows if row[0] == "1 MobileNet")
    assert wide[1:3] == ["56", "1"]
    assert wide[6:] == ["42.5", "3.21", "70.6", "", "569", "568.7", "4.2", "4.21"]
    shallow = next(row for row in rows if row[0] == "shallow MobileNet")
    assert shallow[8:] == ["65.3", "-3.1", "307", "307.3", "2.9", "2.88"]
    assert next(row for row in rows if row[0] == "0.75 MobileNet-128")[8] == "62.1*"
    assert "on ImageNet, 16 networks: +5.60 points for twice the mult-adds (R² 0.958)" in finished[2]


def test_a_study_keeps_its_settings(finished, parts, capsys, tmp_path):
    given, one = finished[0], tmp_path / "one"
    for split in ("train", "test"):
        photo = next(Path(given[3]).glob(f"{split}/*/*"))
        (one / split / "pit").mkdir(parents=True)
        shutil.copy(photo, one / split / "pit")
    for flags, told in (
        ([*given, "--lr", "0.1"], f"{given[1]} has a study with lr 0.2, not 0.1: take another --out"),
        ([*given[:1], str(tmp_path / "new"), *given[2:], "--side", "48"], "--side must be 56 or more, so that the"),
        ([*given[:1], str(tmp_path / "new"), *given[2:], "--seeds", "0"], "--seeds must be 1 or more, got 0"),
        ([*given[:1], str(tmp_path / "new"), *given[2:], "--pair-seeds", "0"], "--pair-seeds must be 1 or more, got 0"),
        ([*given[:1], str(tmp_path / "new"), *given[2:], "--lr", "nan"], "--lr must be above 0 and"),
        ([*given[:1], str(tmp_path / "new"), *given[2:], "--data", "none"], "--data none: there is no such folder"),
        ([*given[:1], str(tmp_path / "new"), *given[2:], "--data", str(one)], f"{one} has the class 'pit' alone"),
        (["--out", str(tmp_path / "new"), "--report"], f"{tmp_path / 'new'} has no study to report"),
    ):
        with pytest.raises(SystemExit) as stop:
            parts.script.main(flags)
        out, err = capsys.readouterr()
        assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"paper.py: error: {told}")
    assert not (tmp_path / "new").exists()


def test_a_damaged_record_is_named(finished, parts, capsys):
    given = finished[0]
    record = Path(given[1]) / "runs/a025_224-seed-0.json"
    whole = record.read_bytes()
    try:
        for damage, told in ((whole[:-30], "is not valid JSON"), (b"{}", "is not the record of a run: remove it")):
            record.write_bytes(damage)
            with pytest.raises(SystemExit) as stop:
                parts.script.main([*given, "--report"])
            err = capsys.readouterr().err
            assert (stop.value.code, err.count("\n")) == (2, 1) and f"{record} {told}" in err
    finally:
        record.write_bytes(whole)


def test_a_failed_run_stops_those_to_come_and_keeps_the_others(parts, monkeypatch):
    begun = []

    def train_one(setting, seed, **_):
        begun.append(seed)
        time.sleep(0.05 * seed)
        if seed == 0:
            raise ValueError("the loss is not finite")
        return {"seed": seed}

    monkeypatch.setattr(parts.script, "train_one", train_one)
    monkeypatch.setattr(parts.script, "ProcessPoolExecutor", lambda jobs, _: ThreadPoolExecutor(jobs))
    args, kept = SimpleNamespace(jobs=2, out=Path("none")), []
    with pytest.raises(ValueError, match="not finite"):
        kept.extend(seed for _, seed, _ in parts.script.run_wave([(None, i) for i in range(20)], args, None, 1))
    assert len(begun) < 10 and sorted(kept) == begun[1:] == list(range(1, len(begun)))


def test_decay_everywhere_reaches_the_depthwise_filters_alone(parts):
    runs = parts.runs
    how = {"split": "val", "side": 56, "steps": 1, "batch_size": 2, "augment": "none"}
    study = runs.Study(data="", optimizer="rmsprop", lr=0.1, **how)
    setting = runs.Setting(backbone="a025", weight_decay=0.5, decay="everywhere")
    network = runs.make_network(setting, 3)
    groups = runs.optimizer_of(setting, network, study).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(decay) == len(list(network.parameters())) == sum(len(group["params"]) for group in groups)
    for name, parameter in network.named_parameters():
        assert decay[id(parameter)] == (0.5 if parameter.ndim > 1 else 0.0), name
    spared = runs.optimizer_of(runs.Setting(backbone="a025", weight_decay=0.5), network, study).param_groups
    assert {p.shape[1:] == (1, 3, 3) for g in spared if not g["weight_decay"] for p in g["params"] if p.ndim > 1} == {
        True
    }


def test_the_fitted_line(parts):
    """Points on a known line: 5 a doubling; those of width 0.25 are 3 below it."""
    report = parts.report
    widths, mult_adds = ["a100", "a075", "a050", "a025", "a025"], [64.0, 32.0, 16.0, 4.0, 2.0]
    on_line = [30.0, 25.0, 20.0, 10.0, 5.0]
    line = report.fit_line(widths, mult_adds, on_line)
    assert line == pytest.approx((5, 0, 1, 0), abs=1e-9)
    dropped = [*on_line[:3], 7.0, 2.0]
    assert report.fit_line(widths, mult_adds, dropped).below == pytest.approx(3)
    squares = torch.linalg.lstsq(
        torch.stack([torch.tensor(mult_adds).log2(), torch.ones(5)], 1).double(), torch.tensor(dropped).double()
    ).solution
    assert report.fit_line(widths, mult_adds, dropped)[:2] == pytest.approx(squares.tolist())


def test_spread_and_difference(parts):
    report = parts.report
    one = report.spread_of([{"top1": value} for value in (0.50, 0.52, 0.54)])
    other = report.spread_of([{"top1": value} for value in (0.60, 0.60, 0.66)])
    assert (str(one), str(other)) == ("52.0 ± 2.0", "62.0 ± 3.5")
    assert report.difference(other, one) == "+10.0 ± 2.3"  # the root of 4 / 3 + 12 / 3
    assert report.difference(report.spread_of([{"top1": 0.5}]), one) == "-2.0"
