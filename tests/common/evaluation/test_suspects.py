import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from apps.common.evaluation import suspects as suspects_module
from apps.common.evaluation.suspects import Suspect, load_reviewer, write_suspects
from apps.common.options import CheckOptions
from tests.common.evaluation.test_report import Reader

NASTY = "<script>alert(1)</script>"


def suspect(score: float, path: str = "a.jpg", *, kind: str = "other class") -> Suspect:
    return Suspect(kind, score, "train", Path(path), "labels/a.txt line 3", NASTY, "cat", (1.0, 2.0, 3.0, 4.0))


def test_the_worklist_has_the_surest_first_and_its_text_is_text(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(suspects_module, "MOST_SHOWN", 2)
    odd = b"\xff.jpg".decode("utf-8", "surrogateescape")
    given = [suspect(0.2), suspect(0.9, f"{NASTY}.jpg"), suspect(0.5, odd, kind="loose box")]
    pictures = []

    def draw(one: Suspect) -> np.ndarray:
        pictures.append(one.score)
        return np.zeros((8, 8, 3), np.uint8)

    ranked = write_suspects(tmp_path / "out", given, about={"model": "run", "data": NASTY}, draw=draw, shown=1)
    assert [one.score for one in ranked] == [0.9, 0.5, 0.2]
    assert pictures == [0.9, 0.5]
    reader = Reader((tmp_path / "out/suspects.html").read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in reader.tags}
    first, second = reader.words["figcaption"]
    assert first == (
        f"1. other class 0.90: labelled {NASTY}, the model says cat; {NASTY}.jpg:labels/a.txt line 3 (train)"
    )
    assert second.startswith("2. loose box 0.50")
    assert reader.words["td"] == ["other class", "2", "loose box", "1"]
    assert "suspects.json has all 3" in " ".join(reader.words["p"])
    content = json.loads((tmp_path / "out/suspects.json").read_text())
    assert content["data"] == NASTY
    assert content["suspects"][0] == {
        "rank": 1,
        "kind": "other class",
        "score": 0.9,
        "split": "train",
        "object": "labels/a.txt line 3",
        "label": NASTY,
        "predicted": "cat",
        "box_xyxy_px": [1, 2, 3, 4],
        "predicted_box_xyxy_px": None,
        "file": f"{NASTY}.jpg",
    }
    printed = capsys.readouterr().out
    assert "3 suspicious labels" in printed and "other class 0.90" in printed and "loose" not in printed


def test_no_suspects_are_a_page_and_a_list_too(tmp_path, capsys):
    assert write_suspects(tmp_path, [], about={}, draw=lambda one: np.zeros((8, 8, 3), np.uint8), shown=5) == []
    assert json.loads((tmp_path / "suspects.json").read_text()) == {"suspects": []}
    Reader((tmp_path / "suspects.html").read_text(encoding="utf-8"))
    assert "0 suspicious labels" in capsys.readouterr().out


@dataclass(frozen=True, kw_only=True)
class Config(CheckOptions):
    """Flags of no app."""


def test_a_device_without_a_model_would_change_nothing():
    assert load_reviewer(Config(), "detection", lambda *_, **__: 1) is None
    with pytest.raises(ValueError, match="--device is for --checkpoint"):
        load_reviewer(Config(device="cpu"), "detection", lambda *_, **__: 1)


def test_the_model_is_loaded_if_its_splits_are_those_of_the_flags(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best/model.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"config": {"group_by": "folder"}}')
    with pytest.raises(ValueError, match="was trained with --group-by 'folder': give it here, too"):
        load_reviewer(Config(checkpoint=tmp_path), "detection", lambda *_, **__: 1)
    given = Config(checkpoint=tmp_path, group_by="folder", device="cpu")
    assert load_reviewer(given, "detection", lambda *of, **options: (*of, *options)) == (tmp_path, "device")
