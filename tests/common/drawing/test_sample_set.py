"""The machinery of drawn sample sets, on a set of squares."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from apps.common.drawing import sample_set as drawing
from apps.common.drawing.sample_set import Drawn, SampleSet, Slot

COUNTS = {"train": 4, "val": 2, "extra": 1}


def draw_square(slot: Slot) -> Drawn:
    """A square of random colour; the index keeps its place."""
    image = np.full((8, 8, 3), slot.rng().integers(0, 255, 3), np.uint8)
    return Drawn(f"{slot.split}/my square {slot.number}.png", image, [slot.split, slot.number, slot.id])


def draw_two(slot: Slot) -> Drawn:
    """As `draw_square`, stopped by the user at the third."""
    if slot.id == 3:
        raise KeyboardInterrupt
    return draw_square(slot)


def write_index(folder: Path, records: list[Any], info: dict[str, Any]) -> None:
    (folder / "index.json").write_text(json.dumps({"info": info, "records": records}))


def draw(
    root: Path | None,
    *,
    name: str = "draw_square",
    counts: dict[str, int] = COUNTS,
    seed: int = 0,
    num_workers: int | None = 1,
    **changed: Any,
) -> Path:
    settings: dict[str, Any] = {"counts": counts, "code": [Path(__file__)], "write_index": write_index}
    sample = SampleSet(
        app="squares",
        description="Squares",
        draw=f"tests.common.drawing.test_sample_set:{name}",
        **(settings | changed),
    )
    return sample.make(root, seed=seed, num_workers=num_workers)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_is_written(tmp_path: Path) -> None:
    root = draw(tmp_path / "my set")
    assert root == tmp_path / "my set"
    assert list(contents(root)) == sorted(
        [f"{split}/my square {number}.png" for split, count in COUNTS.items() for number in range(count)]
        + ["index.json", "sample.json"]
    )
    index = json.loads((root / "index.json").read_text())
    places = [(split, number) for split, count in COUNTS.items() for number in range(count)]
    assert index["records"] == [[*place, order] for order, place in enumerate(places, start=1)]
    assert index["info"] == json.loads((root / "sample.json").read_text())
    assert index["info"] | {"description": "Squares", "num_train": 4, "num_val": 2, "num_extra": 1} == index["info"]
    picture = cv2.imread(str(root / "val" / "my square 1.png"))
    assert picture is not None
    assert (picture[..., ::-1] == np.random.default_rng((0, 1, 1)).integers(0, 255, 3)).all()


def test_processes_draw_the_same_files_as_one(tmp_path: Path) -> None:
    alone, shared, other = tmp_path / "alone", tmp_path / "shared", tmp_path / "other"
    assert contents(draw(alone)) == contents(draw(shared, num_workers=3))
    assert contents(draw(other, seed=1)).keys() == contents(alone).keys()
    assert not set(contents(alone).values()) & set(contents(other).values())


def test_a_picture_does_not_depend_on_the_counts(tmp_path: Path) -> None:
    few, many = contents(draw(tmp_path / "few")), contents(draw(tmp_path / "many", counts={"train": 6, "val": 3}))
    assert all(few[name] == many[name] for name in few if name.startswith(("train", "val")))


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "set", name="draw_two")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_process_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "WORKER", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="ended with code 3"):
        draw(tmp_path / "set", num_workers=2)
    assert list(tmp_path.iterdir()) == []


def test_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    first = draw(None)
    assert capsys.readouterr().out == f"drawing the sample set (4 + 2 + 1 pictures) into {first}\n"
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert draw(None) == first
    assert capsys.readouterr().out == ""
    assert before == {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    others = {draw(None, seed=1), draw(None, counts=COUNTS | {"val": 3}), draw(None, code=[Path(drawing.__file__)])}
    assert len(others | {first}) == 4
    assert {root.parent for root in others | {first}} == {tmp_path}


def test_a_changed_file_is_another_version(tmp_path: Path) -> None:
    (tmp_path / "brush.py").write_text("width = 1")
    before = drawing.fingerprint([tmp_path])
    assert drawing.fingerprint([tmp_path]) == before == drawing.fingerprint([tmp_path / "brush.py"])
    (tmp_path / "brush.py").write_text("width = 2")
    assert drawing.fingerprint([tmp_path]) != before


@pytest.mark.parametrize("app", ["detection", "finegrained", "faceattr"])
def test_a_change_of_any_file_that_a_set_is_drawn_with_is_another_version(app: str) -> None:
    """No module of this project that a drawing process loads is left out of the set's fingerprint."""
    code = (
        f"import json, sys; from apps.{app}.sample import SAMPLE; from apps.common.drawing.sample_set import files_of; "
        "loaded = [str(m.__file__) for name, m in sys.modules.items() if name.startswith(('apps.', 'backbone'))]; "
        "print(json.dumps([sorted(loaded), [str(file) for file in files_of(SAMPLE.code)]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=drawing.PROJECT, check=True, capture_output=True)
    loaded, hashed = json.loads(done.stdout)
    assert str(drawing.PROJECT / "apps/common/drawing/curves.py") in loaded
    assert {path for path in loaded if not path.endswith("__init__.py")} <= set(hashed)


def test_numbers_of_unknown_splits_are_refused(tmp_path: Path) -> None:
    sample = SampleSet(app="squares", description="", draw="", counts=COUNTS, code=[])
    with pytest.raises(TypeError, match="num_tset: the splits are train, val, extra"):
        sample.make(tmp_path, num_train=1, num_tset=3)


def test_one_drawn_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another process had finished the same set while this one was drawing."""
    root = tmp_path / "set"
    inner = drawing.draw_all
    marks: list[str] = []

    def draw_all(folder: Path, **settings: Any) -> list[Any]:
        records = inner(folder, **settings)
        if not marks:
            marks.append("other process")
            draw(root)
            (root / "mark").touch()
        return records

    monkeypatch.setattr(drawing, "draw_all", draw_all)
    assert draw(root) == root
    assert (root / "mark").exists()
    assert list(tmp_path.iterdir()) == [root]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="exists and is not this sample set: give a folder that is new or empty"):
        draw(tmp_path)
    assert (tmp_path / "mine.txt").exists()
    new = tmp_path / "new"
    with pytest.raises(ValueError, match="num_val is 0, it must be 1 or more"):
        draw(new, counts={"train": 1, "val": 0})
    with pytest.raises(ValueError, match="num_train is 11, it must be 12 or more"):
        draw(new, counts={"train": 11, "val": 12}, least=12)
    with pytest.raises(ValueError, match="seed is -1, it must be 0 or more"):
        draw(new, seed=-1)
    with pytest.raises(ValueError, match="num_workers is 0, it must be 1 or more"):
        draw(new, num_workers=0)
    with pytest.raises(ValueError, match="exists and is not this sample set"):
        draw(draw(new), seed=1)


def test_drawing_needs_no_torch() -> None:
    code = "import sys; import apps.common.drawing.sample_set; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, cwd=drawing.PROJECT).returncode == 0
