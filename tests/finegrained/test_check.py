"""The data doctor on a data set with one of every fault, and what its clean table leaves."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.common.cli import run_command
from apps.finegrained.check import Config, check, main
from apps.finegrained.data.load import load_split
from tests.finegrained.tiny_fruit import draw_fruit, save_classifier

SCRIPT = Path(__file__).resolve().parents[2] / "apps/finegrained/check.py"


def save(path: Path, seed: int, *, mode: str = "RGB", size: int = 70, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size, size + 10, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **options)


@pytest.fixture
def good(tmp_path) -> Path:
    root = tmp_path / "my photos"
    for i in range(12):
        save(root / f"{('train', 'val')[i > 7]}/{'ab'[i % 2]}/{i:02d}.jpg", i)
    return root


@pytest.fixture
def messy(good) -> Path:
    """The good data and one case of every finding."""
    (good / "train/a/text.jpg").write_text("hello")
    whole = (good / "train/a/00.jpg").read_bytes()
    (good / "train/a/cut Ü.JPG").write_bytes(whole[: len(whole) // 2])
    shutil.copy(good / "train/a/00.jpg", good / "val/a/leaked.jpg")
    shutil.copy(good / "train/b/01.jpg", good / "train/a/other label.jpg")
    shutil.copy(good / "train/b/03.jpg", good / "train/b/twice.jpg")
    save(good / "train/a/png.jpg", 20, format="PNG")
    save(good / "train/a/gray.jpg", 21, mode="L")
    save(good / "train/a/clear.png", 22, mode="RGBA")
    save(good / "train/a/print.jpg", 23, mode="CMYK")
    save(good / "train/a/small.png", 24, size=20)
    save(good / "train/rare/1.jpg", 25)
    save(good / "val/valonly/1.jpg", 26)
    exif = Image.Exif()
    exif[0x0112] = 8
    save(good / "train/a/turned.jpg", 27, exif=exif)
    (good / "train/a/notes.txt").write_text("hello")
    (good / "train/stray.jpg").write_bytes(whole)
    return good


EXPECTED = {
    ("error", "photos that cannot be read"): ["text.jpg is not an image", "cut Ü.JPG is truncated"],
    ("error", "files, rows or folders that cannot be used"): ["stray.jpg is outside"],
    ("error", "pictures with two labels"): ["01.jpg (b, train)"],
    ("error", "pictures in more than one split"): ["leaked.jpg (a, val)"],
    ("error", "classes without a photo in train"): ["valonly"],
    ("warning", "classes without a photo in val"): ["rare"],
    ("warning", "pictures twice in one class"): ["03.jpg (b, train) = "],
    ("warning", "classes with fewer than 5 photos in train"): ["rare: 1"],
    ("warning", "photos with a side below 64 pixels"): ["small.png: 30x20"],
    ("warning", "imbalance"): ["train has 13 photos of a and 1 of rare"],
    ("note", "files named as another format"): ["png.jpg is PNG"],
    ("note", "photos turned by EXIF"): ["turned.jpg: orientation 8"],
    ("note", "gray photos"): ["gray.jpg"],
    ("note", "photos with transparency, which is put on white"): ["clear.png"],
    ("note", "photos in CMYK or with a palette"): ["print.jpg"],
    ("note", "files skipped: no photos by their names"): ["notes.txt is not a photo"],
}


def test_every_fault_is_found_once_and_nothing_else(messy, tmp_path, capsys):
    findings = check(Config(data=str(messy), out=tmp_path / "out"))
    found = {(finding.level, finding.what): finding.cases for finding in findings}
    assert set(found) == set(EXPECTED)
    for key, wanted in EXPECTED.items():
        assert len(found[key]) == len(wanted), key
        assert all(any(part in case for case in found[key]) for part in wanted), found[key]
    report = json.loads((tmp_path / "out/check.json").read_text())
    assert [(f["level"], f["what"], f["cases"], f["count"]) for f in report["findings"]] == [
        (f.level, f.what, f.cases, len(f.cases)) for f in findings
    ]
    assert report["num_photos"] == {"train": 19, "val": 6}
    assert report["classes"]["a"] == {"train": 13, "val": 3}
    text = capsys.readouterr().out
    assert text.index("ERRORS") < text.index("WARNINGS") < text.index("NOTES")


def test_good_data_has_no_finding(good, tmp_path, capsys):
    assert [f for f in check(Config(data=str(good), out=tmp_path / "out", min_photos=4)) if f.cases] == []
    text = capsys.readouterr().out
    assert "WARNINGS: none" in text
    assert [line.split() for line in text.splitlines() if line.startswith(("a ", "b ", "total"))] == [
        ["a", "4", "2"],
        ["b", "4", "2"],
        ["total", "8", "4"],
    ]


def test_classes_that_differ_in_case_or_as_numbers_are_noted(good, tmp_path):
    for i, name in enumerate(("A", "1", "1.0")):
        for k in range(4):
            save(good / f"{('train', 'val')[k > 2]}/{name}/{i}-{k}.jpg", 100 + 10 * i + k)
    found = {f.what: f.cases for f in check(Config(data=str(good), out=tmp_path / "out", min_photos=1))}
    assert sorted(found["classes with nearly equal names"]) == ["'1' = '1.0'", "'A' = 'a'"]


def test_the_clean_table_is_read_and_has_no_errors_left(messy, tmp_path):
    before = {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()}
    check(Config(data=str(messy), out=tmp_path / "out", fix=True))
    assert {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()} == before
    table = messy.parent / "my photos-clean.csv"
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    files = [row["file"] for row in rows]
    assert list(rows[0]) == ["file", "label", "split"]
    assert "my photos/val/a/leaked.jpg" in files  # what is measured stays, its copy in train goes
    assert "my photos/train/b/03.jpg" in files
    gone = ["a/text.jpg", "a/cut Ü.JPG", "a/00.jpg", "b/01.jpg", "a/other label.jpg", "b/twice.jpg"]
    gone = [f"my photos/train/{name}" for name in gone] + ["my photos/val/valonly/1.jpg"]
    assert set(files) & set(gone) == set()
    assert len(files) == 25 - len(gone)
    train, val = (load_split(table, split) for split in ("train", "val"))
    assert train.class_names == ["a", "b", "rare"]
    assert (train.counts, val.counts) == ([9, 3, 1], [3, 2, 0])
    assert [f.what for f in check(Config(data=str(table), out=tmp_path / "again")) if f.level == "error"] == []


def test_copies_across_splits_that_are_made_here(tmp_path):
    """class/image has no splits of its own: a copy must not sit in both of those that are taken out."""
    for i in range(10):
        save(tmp_path / f"data/a/{i}.png", i)
    for i in range(10):
        shutil.copy(tmp_path / f"data/a/{i}.png", tmp_path / f"data/a/{i} copy.png")
    findings = check(Config(data=str(tmp_path / "data"), out=tmp_path / "out", fix=True))
    copies = {f.what: len(f.cases) for f in findings if f.what.startswith("pictures")}
    assert copies == {"pictures twice in one class": 10}
    again = check(Config(data=str(tmp_path / "data-clean.csv"), out=tmp_path / "out"))
    assert again == []


def test_exit_codes_of_the_command(messy, tmp_path, capsys):
    command = [sys.executable, str(SCRIPT), "--data", str(messy), "--examples", "1"]
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 1, bad.stderr
    assert "photos that cannot be read: 2" in bad.stdout
    assert "... and 1 more" in bad.stdout
    assert (tmp_path / "runs/finegrained/check-my photos/check.json").exists()
    shutil.rmtree(messy / "train")
    run_command(main, Config, ["--data", str(messy), "--out", str(tmp_path)])  # no errors: no exit
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_command(main, Config, ["--data", str(tmp_path / "nowhere")])
    assert stop.value.code == 2
    assert "there is no such folder or CSV file" in capsys.readouterr().err


def test_wrong_numbers(good):
    with pytest.raises(ValueError, match="examples must be 0 or more, got -1"):
        check(Config(data=str(good), examples=-1))


def test_real_photos(shared, tmp_path):
    """One class of the real data, with one photo of another class and split copied into it."""
    real = shared / "data/finegrained/grocery81"
    for split in ("train", "val", "test"):
        for name in ("Lemon", "Lime"):
            shutil.copytree(real / split / name, tmp_path / "data" / split / name)
    assert check(Config(data=str(tmp_path / "data"), out=tmp_path / "out")) == []
    photo = min((tmp_path / "data/train/Lemon").iterdir())
    shutil.copy(photo, tmp_path / "data/test/Lime/copy.jpg")
    found = {f.what: f.cases for f in check(Config(data=str(tmp_path / "data"), out=tmp_path / "out"))}
    assert set(found) == {"pictures with two labels", "pictures in more than one split"}
    assert photo.name in found["pictures with two labels"][0]


def test_photos_of_another_class_than_their_label_are_first(tmp_path, capsys):
    root = draw_fruit(tmp_path, "train", each=8)
    save_classifier(tmp_path / "best", root / "train")
    wrong = root / "train/aki/wrong.png"
    shutil.copy(root / "train/céru/0.png", wrong)
    shutil.rmtree(root / "train/bol, sour")
    with pytest.raises(SystemExit):  # the copy is an error
        run_command(
            main, Config, ["--data", str(root), "--checkpoint", str(tmp_path / "best"), "--out", str(root / "o")]
        )
    first, *_ = json.loads((root / "o/suspects.json").read_text())["suspects"]
    assert (first["file"], first["label"], first["predicted"]) == (str(wrong), "aki", "céru")
    assert first["score"] > 0.5
    assert "labelled aki, the model says céru" in (root / "o/suspects.html").read_text(encoding="utf-8")
    assert "other class" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run_command(main, Config, ["--data", str(root), "--checkpoint", str(root / "nowhere")])
    assert stop.value.code == 2
    assert "nowhere does not exist" in capsys.readouterr().err
