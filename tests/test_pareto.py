"""benchmarks/pareto.py on our smallest network, the marks of a page, hot loops; the tables of benchmarks/latency.py."""

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def parts():
    """The script and the modules beside it, as its folder is first on the module path when it runs."""
    pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[fast]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import latency
        import machine
        import pareto
    return SimpleNamespace(script=pareto, machine=machine, latency=latency)


def test_our_network_is_tabled_and_drawn(parts, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks/pareto.py: begin -->\nold\n<!-- benchmarks/pareto.py: end -->\nafter\n")
    monkeypatch.setattr(parts.script, "SIDES", (64,))
    monkeypatch.setattr(parts.script, "WAYS", {"bf16": "openvino-bf16", "int8": "openvino-int8"})
    monkeypatch.setattr(parts.script, "SECONDS", 1e-9)
    monkeypatch.setattr(parts.script, "machine_limits", lambda threads: {"bf16": (100.0, "torch")})
    monkeypatch.setattr(sys, "argv", ["pareto.py", "--quick", "--out", str(tmp_path / "front"), "--page", str(page)])
    parts.script.main()
    text = page.read_text()
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n") and "old" not in text
    (row,) = (line for line in text.splitlines() if line.startswith("| a025 | 64 |"))
    bf16, int8 = (cell.strip() for cell in row.split("|")[4:6])
    assert float(int8) > 0 and "](front.png)" in text
    assert bf16 or "bf16 is skipped: this processor does not support bfloat16" in capsys.readouterr().err
    assert cv2.imread(str(tmp_path / "front.png")).shape[0] > 400


def test_hot_loops_are_the_median_of_rounds_in_turn(parts, monkeypatch):
    now, order = [0.0], []
    takes = {"steady": [0.02] * 9, "uneven": [9, 0.01, 0.03, 9, 0.05, 9, 0.02, 0.02]}  # the first of a round warms up

    def call(name):
        order.append(name)
        now[0] += takes[name].pop(0)

    monkeypatch.setattr(parts.machine, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    ms = parts.machine.hot_loops([lambda: call("steady"), lambda: call("uneven")], rounds=3, seconds=0.03)
    assert ms == pytest.approx([20, 20])  # uneven: medians of rounds 20, 50 and 20
    assert order == [
        *["steady"] * 3,
        *["uneven"] * 3,
        *["steady"] * 3,
        *["uneven"] * 2,
        *["steady"] * 3,
        *["uneven"] * 3,
    ]


def test_a_page_without_both_marks_is_refused_before_the_work(parts, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmarks/pareto.py: begin -->\nhere people wrote\n")
    monkeypatch.setattr(sys, "argv", ["pareto.py", "--quick", "--out", str(tmp_path / "front"), "--page", str(page)])
    with pytest.raises(ValueError, match=r"page.md must have the lines .*begin --> and .*end --> once, for the tables"):
        parts.script.main()
    assert "people" in page.read_text()


def test_a_yolo_is_compared_in_the_same_way_and_torchvision_in_all(parts):
    def measured(in_turns, hot):
        times = [parts.latency.Times(1, ms - 2, 1) for ms in (in_turns, in_turns + 1, in_turns - 1)]
        return parts.latency.Measured(times, [parts.latency.Times(1, hot - 2, 1)])

    found = {
        "detection a075 OpenVINO": measured(10, 8),
        "detection a075 OpenVINO int8": measured(5, 4),
        "yolo11n OpenVINO": measured(12, 9),
        "yolo11n OpenVINO int8": measured(9, 8),
        "torchvision ssdlite320_mobilenet_v3_large": measured(30, 25),
    }
    ways = ["openvino", "openvino-int8", "onnx"]
    args = SimpleNamespace(apps=["detection"], widths={"detection": ["a075"]}, ways=ways)
    assert parts.latency.ratios(found, args).splitlines()[2:] == [
        "| detection a075 as torchvision ssdlite320_mobilenet_v3_large | 3.00 | 6.00 |  |",
        "| detection a075 as yolo11n | 1.20 | 1.80 |  |",
    ]
    assert parts.latency.overview(found, args).splitlines()[2:] == ["| detection a075 | 10.00, 8.00 | 5.00, 4.00 |  |"]
