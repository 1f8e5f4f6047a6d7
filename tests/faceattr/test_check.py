"""The data doctor on labelled faces with one of every fault, and what its clean table leaves."""

import contextlib
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
from apps.faceattr.check import Config, check, main
from apps.faceattr.data.findings import CONTRADICTIONS
from apps.faceattr.data.load import load_splits
from apps.faceattr.sample import ATTRIBUTES
from tests.faceattr.blob_faces import draw_faces, save_tagger

SCRIPT = Path(__file__).resolve().parents[2] / "apps/faceattr/check.py"
HEADER = ["file", "Bald", "Bangs", "Cap", "Smiling", "split", "identity"]


def save(path: Path, seed: int, *, mode: str = "RGB", size: int = 70, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size, size + 10, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **options)


def write(root: Path, rows: list[list[str]], header: list[str] = HEADER) -> None:
    with (root / "attributes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def rows(tmp_path) -> list[list[str]]:
    """Twelve good rows: each attribute has both answers in train (8 photos) and in val (4)."""
    for i in range(12):
        save(tmp_path / f"my faces/images/{i:02d}.png", i)
    rows = []
    for i in range(12):
        bald, bangs, cap, smiling = i % 4 == 0, i % 4 == 1, i % 4 > 1, i % 2 == 0
        labels = ["1" if label else "-1" for label in (bald, bangs, cap, smiling)]
        rows.append([f"{i:02d}.png", *labels, "train" if i < 8 else "val", f"p{i}"])
    write(tmp_path / "my faces", rows)
    return rows


@pytest.fixture
def good(rows, tmp_path) -> Path:
    return tmp_path / "my faces"


@pytest.fixture
def messy(good, rows) -> Path:
    """The good data and one case of every finding."""
    images = good / "images"

    def add(file: str, labels: str, split: str = "train", identity: str = "") -> None:
        rows.append([file, *(labels.split() if labels else [""] * 4), split, identity])

    (images / "text.jpg").write_text("hello")
    add("text.jpg", "-1 -1 1 1")
    whole = (images / "00.png").read_bytes()
    (images / "cut Ü.PNG").write_bytes(whole[: len(whole) // 2])
    add("cut Ü.PNG", "-1 -1 1 1")
    shutil.copy(images / "00.png", images / "leaked.png")
    add("leaked.png", "1 -1 -1 1", "val")
    shutil.copy(images / "01.png", images / "other label.png")
    add("other label.png", "-1 1 1 -1")
    shutil.copy(images / "02.png", images / "twice.png")
    add("twice.png", "-1 -1 1 1")
    save(images / "person.png", 30)
    add("person.png", "-1 -1 1 1", "val", "p3")
    save(images / "gray.png", 31, mode="L")
    add("gray.png", "-1 -1 1 1")
    save(images / "small.png", 32, size=20)
    add("small.png", "1 1 -1 1")
    save(images / "bare.png", 33)
    add("bare.png", "")
    add("gone.png", "-1 -1 1 1")
    save(images / "unlisted.png", 34)
    for row in rows:  # Tie is known to be absent on two photos, Hood as Cap, Young on the gray photo, Old in val
        gray, val = row[0] == "gray.png", row[-2] == "val"
        row[5:5] = ["-1" if row[0] in ("02.png", "03.png") else "", row[3], "1" * gray, "1" * val]
    write(good, rows, [*HEADER[:5], "Tie", "Hood", "Young", "Old", *HEADER[5:]])
    return good


EXPECTED = {
    ("error", "photos that cannot be read"): ["text.jpg is not an image", "cut Ü.PNG is truncated"],
    ("error", "rows, photos or columns that cannot be used"): ["gone.png does not exist"],
    ("error", "pictures with contradicting labels"): ["other label.png (train): Cap, Hood"],
    ("error", "pictures in more than one split"): ["leaked.png (val)"],
    ("error", "people in more than one split"): ["p3: 1 in train, 1 in val"],
    ("error", "attributes without a label in train"): ["Old"],
    ("warning", "attributes without a label in val"): ["Tie", "Young"],
    ("warning", "attributes that are the same on all photos of train"): ["Tie: absent on all 2", "Young: present"],
    ("warning", "attributes that are the same on all photos of val"): ["Old: present on all 6"],
    ("warning", "attributes known on fewer than 8 photos of val"): ["Bald: 6", "Bangs: 6", "Cap: 6", "Sm", "Hood"],
    ("warning", "attributes that fewer than 4 photos of train have or lack"): ["Bald: 3 have it"],
    ("warning", "attributes together that contradict each other"): ["Bald and Bangs: 1, as "],
    ("warning", "attributes that say the same"): ["Cap and Hood always agree"],
    ("warning", "attributes known mostly on gray photos, among photos in colour"): ["Young: 100%"],
    ("warning", "photos without any label"): ["bare.png"],
    ("warning", "pictures twice in one split"): ["02.png (train) = "],
    ("warning", "photos with a side below 64 pixels"): ["small.png: 30x20"],
    ("note", "gray photos"): ["gray.png"],
    ("note", "about the lists"): ["1 photos in"],
}


def test_every_fault_is_found_once_and_nothing_else(messy, tmp_path, capsys):
    findings = check(Config(data=(str(messy),), out=tmp_path / "out", min_known=8, min_rarer=4))
    found = {(finding.level, finding.what): finding.cases for finding in findings}
    assert set(found) == set(EXPECTED)
    for key, wanted in EXPECTED.items():
        assert len(found[key]) == len(wanted), (key, found[key])
        assert all(any(part in case for case in found[key]) for part in wanted), found[key]
    report = json.loads((tmp_path / "out/check.json").read_text())
    assert [(f["level"], f["what"], f["cases"], f["count"]) for f in report["findings"]] == [
        (f.level, f.what, f.cases, len(f.cases)) for f in findings
    ]
    assert report["num_photos"] == {"train": 15, "val": 6}
    assert report["attributes"]["Bald"] == {
        "train": {"known": 14, "positive": 3},
        "val": {"known": 6, "positive": 2},
    }
    text = capsys.readouterr().out
    assert text.index("ERRORS") < text.index("WARNINGS") < text.index("NOTES")


def test_good_data_has_no_finding(good, tmp_path, capsys):
    assert check(Config(data=(str(good),), out=tmp_path / "out", min_known=4, min_rarer=1)) == []
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for line in (["photos", "8", "4"], ["people", "8", "4"], ["Bald", "8", "25.0%", "4", "25.0%"]):
        assert line in lines


def test_the_clean_table_is_read_and_has_no_errors_left(messy, tmp_path):
    before = {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()}
    check(Config(data=(str(messy),), out=tmp_path / "out", fix=True))
    assert {path: path.read_bytes() for path in messy.rglob("*") if path.is_file()} == before
    table = messy.parent / "my faces-clean.csv"
    rows = {Path(row["file"]).name: row for row in csv.DictReader(table.open(encoding="utf-8"))}
    train = {"02.png", "04.png", "05.png", "06.png", "07.png", "gray.png", "small.png", "bare.png"}
    val = {"08.png", "09.png", "10.png", "11.png", "leaked.png", "person.png"}
    assert {name for name, row in rows.items() if row["split"] == "train"} == train
    assert {name for name, row in rows.items() if row["split"] == "val"} == val
    assert rows["04.png"]["file"] == "my faces/images/04.png"
    assert [rows["04.png"][name] for name in ("Bald", "Bangs", "Tie", "identity")] == ["1", "-1", "", "p4"]
    errors = [f for f in check(Config(data=(str(table),), out=tmp_path / "again")) if f.level == "error"]
    assert [f.cases for f in errors] == [["Old"]]  # which no cleaning can mend
    got = load_splits([table], ("train", "val"), bad_data="skip")
    assert [{path.name for path in split.paths} for split in got] == [train, val]


def test_made_splits_and_celeba(tmp_path):
    """Copies and people stay together, also here; the header's count is wrong."""
    names = [f"{i:06d}.jpg" for i in range(20)]
    for i, name in enumerate(names):
        save(tmp_path / "celeba/img_align_celeba" / name, i % 15)
    text = "".join(f"{name} {(-1) ** i:2d} {(-1) ** (i // 2):2d}\n" for i, name in enumerate(names))
    (tmp_path / "celeba/list_attr_celeba.txt").write_text("21\nMale Young\n" + text)
    (tmp_path / "celeba/identity_CelebA.txt").write_text("".join(f"{name} {i // 2}\n" for i, name in enumerate(names)))
    out = tmp_path / "out"
    found = {f.what: f.cases for f in check(Config(data=(str(tmp_path / "celeba"),), out=out, fix=True))}
    assert "says that it has 21 photos, it has 20" in found["about the lists"][0]
    assert "chosen by seed 0" in found["about the lists"][1]
    assert not {"pictures in more than one split", "people in more than one split"} & set(found)
    assert len(found["pictures with contradicting labels"]) == 5
    with (tmp_path / "celeba-clean.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10


def test_exit_codes_of_the_command(messy, tmp_path, capsys):
    command = [sys.executable, str(SCRIPT), "--data", str(messy), "--examples", "1"]
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 1, bad.stderr
    assert "photos that cannot be read: 2" in bad.stdout
    assert "... and 1 more" in bad.stdout
    assert (tmp_path / "runs/faceattr/check-my faces/check.json").exists()
    with pytest.raises(SystemExit) as stop:
        run_command(main, Config, ["--data", str(tmp_path / "nowhere")])
    assert stop.value.code == 2
    assert "there is no such folder or CSV file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="min_known must be 0 or more, got -1"):
        check(Config(data=(str(messy),), min_known=-1))


def test_contradictions_are_of_attributes_that_exist(shared):
    known = {"Child", "Senior", *ATTRIBUTES}
    known |= set((shared / "data/faces/celeba32/list_attr_celeba.txt").read_text().splitlines()[1].split())
    assert {name for pair in CONTRADICTIONS for name in pair} <= known


def test_real_faces(shared, tmp_path):
    """What is true of 200 photos of LFW: no faults but small ones, most gray."""
    real = shared / "data/faces/lfw_smiling"
    with (real / "attributes.csv").open() as file:
        rows = [row for row in csv.reader(file) if row[2] != "train"][1:]
    (tmp_path / "lfw").mkdir()
    (tmp_path / "lfw/images").symlink_to(real / "images")
    write(tmp_path / "lfw", rows, ["file", "Smiling", "split"])
    found = check(Config(data=(str(tmp_path / "lfw"),), out=tmp_path / "out"))
    assert [f.what for f in found if f.level == "error"] == []
    assert {f.what for f in found} == {"photos with a side below 64 pixels", "gray photos", "about the lists"}


def test_attributes_that_a_model_sees_otherwise_are_first(tmp_path, capsys):
    root = draw_faces(tmp_path / "faces", each=12)
    table = root / "attributes.csv"
    lines = list(csv.reader(table.open(encoding="utf-8")))
    hat = lines[0].index("Hat")
    row = next(row for row in lines if row[hat] == "1")
    row[hat] = "-1"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    given = ["--data", str(root), "--out", str(tmp_path / "out"), "--min-known", "0", "--min-rarer", "0"]
    tagger = save_tagger(tmp_path / "best")
    with contextlib.suppress(SystemExit):
        run_command(main, Config, [*given, "--checkpoint", str(tagger)])
    suspects = json.loads((tmp_path / "out/suspects.json").read_text())["suspects"]
    (found,) = (one for one in suspects if one["file"].endswith(row[0]) and one["object"] == "Hat")
    assert (found["label"], found["predicted"], found["kind"]) == ("absent", "present", "attribute")
    assert found["rank"] <= len(suspects) / 2
    assert all(one["score"] > 0.5 for one in suspects)
    rename = table.read_text(encoding="utf-8").replace("Hat", "x1").replace("Male", "x2").replace("Smïling", "x3")
    table.write_text(rename.replace("Eye glasses, dark", "x4"), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        run_command(main, Config, [*given, "--checkpoint", str(tagger)])
    assert stop.value.code == 2
    assert "has none of the model's attributes Hat, Eye glasses, dark, Smïling, ..." in capsys.readouterr().err
