"""benchmarks/formats.py on a tiny run: what is there is kept, and the table stands between its marks."""

import json
import sys

import pytest

from benchmarks import formats
from tests.finegrained.tiny_fruit import draw_fruit, save_classifier


def test_formats_are_measured_once_and_tabled(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pnnx", reason="needs pnnx: pip install -e '.[ncnn]'")
    draw_fruit(tmp_path / "data", "train", each=4)
    draw_fruit(tmp_path / "data", "val", each=2)
    save_classifier(tmp_path / "fruit/best", tmp_path / "data/train")
    config = {"data": str(tmp_path / "data"), "bad_data": "refuse", "group_by": None}
    (tmp_path / "fruit/config.json").write_text(json.dumps({"app": "finegrained", "config": config}))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{formats.MARKS[0]}old\n{formats.MARKS[1]}after\n")
    out = tmp_path / "out"
    out.mkdir()
    args = [str(tmp_path / "fruit"), "--out", str(out), "--formats", "ncnn", "--time", "--table", str(page)]
    monkeypatch.setattr(formats, "ROUNDS", 2)
    monkeypatch.setattr(formats.os, "sched_setaffinity", lambda *args: None)
    monkeypatch.setattr(sys, "argv", ["formats.py", *args])
    formats.main()
    (record,) = json.loads((out / "results.json").read_text()).values()
    assert (record["run"], record["app"], record["format"], record["int8"]) == ("fruit", "finegrained", "ncnn", False)
    size = sum(path.stat().st_size for path in (out / record["file"]).iterdir())
    assert record["mb"] == size / 1e6 and record["difference"] < 1e-5 and record["ms"] > 0 and record["photos"] == 6
    assert record["metric"] == record["reference"]
    row = next(line for line in page.read_text().splitlines() if "| ncnn |" in line)
    assert row.startswith("| finegrained, a025 at 64 (fruit) | top-1, 6 photos: ") and "old" not in page.read_text()
    assert page.read_text().startswith("before\n") and page.read_text().endswith(f"{formats.MARKS[1]}after\n")
    monkeypatch.setattr(formats, "export_one", lambda *args: pytest.fail("it was measured before"))
    formats.main()
    assert len(json.loads((out / "results.json").read_text())) == 1
