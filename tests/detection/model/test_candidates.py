"""`python -m backbone choose --for detection`: the detectors, their cost, what is known of them, and the choice."""

import importlib.util
import sys

import pytest
import torch

from apps.detection.model import candidates
from apps.detection.model.create import create_detector
from backbone import choose
from backbone.__main__ import main
from backbone.candidates import Candidate


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """No network is run: a millisecond for each ten million mult-adds."""
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        choose, "measure", lambda kind, runtime, threads: {net.key: net.mult_adds / 10 for net in kind.nets()}
    )
    monkeypatch.setattr(choose, "installed", lambda: ["torch"])


def test_the_best_detector_that_fits_is_named(clock, capsys, tmp_path):
    """Mult-adds and parameters of whole detectors as docs/results.md has them, AP as docs/detection_recipe.md."""
    before = sys.argv
    main(["choose", "--for", "detection", "--max-ms", "90", "--threads", "1", "--out", str(tmp_path / "choice.png")])
    assert sys.argv is before and (tmp_path / "choice.png").read_bytes()[:4] == b"\x89PNG"
    out, err = capsys.readouterr()
    assert err == "measuring 16 networks in torch ...\n"
    rows = {tuple(line.split()[:3]): line.split()[3:] for line in out.splitlines() if line.startswith("a")}
    assert len(rows) == 16
    assert rows["a050", "pyramid", "300"] == ["30.04", "torch", "300.4", "1.05", "4.2"]
    assert rows["a075", "ssd", "300"] == ["72.80", "torch", "728.0", "4.11", "16.4", "0.175", "0.18"]
    assert rows["a075", "pyramid", "300"] == ["65.14", "torch", "651.4", "2.31", "9.2", "0.269"]
    assert rows["a100", "pyramid", "192"][1] == "*"  # faster and better than the one above
    assert "The most accurate within 90 ms: a100 pyramid at 192 pixels, 44.81 ms in torch, AP 0.276 after 10 ep" in out


def test_a_larger_one_that_was_not_measured_is_named(clock, capsys):
    main(["choose", "--for", "detection", "--max-mult-adds", "310", "--threads", "1"])
    best, larger = capsys.readouterr().out.splitlines()[-2:]
    assert best.startswith("The most accurate within 310 million mult-adds: a025 pyramid at 128 pixels, 1.69 ms in ")
    assert larger == "Larger, but its accuracy was not measured: a050 pyramid at 300 pixels, 30.04 ms in torch."
    found = [Candidate(net=net, ms=1.0, runtime="torch") for net in candidates.nets() if net.figures[0] is None]
    best = choose.choose(found, {"max_mult_adds": 100})
    assert (best.net.name, best.net.resolution) == ("a025 pyramid", 300)
    said = "The largest within 100 million mult-adds: a025 pyramid at 300 pixels, 1.00 ms in torch; no accuracy"
    assert choose.sentence(candidates.DETECTORS, found, best, {"max_mult_adds": 100}).startswith(said)


def test_a_backbone_alone_knows_no_detectors(clock, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main(["choose", "--for", "detection"])
    err = capsys.readouterr().err
    told = "error: this is a choice of the package apps.detection, which is not installed here\n"
    assert (stop.value.code, err) == (2, f"python -m backbone choose: {told}")


def test_each_detector_runs(monkeypatch):
    monkeypatch.setattr(candidates, "settings", lambda: [("a010", "pyramid", 64), ("a010", "ssd", 64)])
    found = candidates.runs("torch", 1)
    for head in ("pyramid", "ssd"):
        network = create_detector("a010", num_classes=90, resolution=64, head=head)
        outputs = found[f"a010 {head}-64"]()
        assert outputs["class_logits"].shape == (1, len(network.anchors_cxcywh), 91)
    assert torch.is_inference(outputs["offsets"])
