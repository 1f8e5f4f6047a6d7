"""The drawn sample set: the same for everybody, complete, and true to its labels."""

import csv
import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.cli import parse
from apps.common.drawing.sample_set import PROJECT, Slot
from apps.faceattr import sample
from apps.faceattr.portraits.canvas import Chance
from apps.faceattr.portraits.hair import STYLES, Hair
from apps.faceattr.portraits.scene import SIDE, draw_portrait

COUNTS = {"num_train": 24, "num_val": 10, "num_test": 5, "num_unlabelled": 6}
# https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, list_attr_celeba.txt
CELEBA = """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones
Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young""".split()
PLAIN = dict.fromkeys(sample.SHARES, False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.make_sample(tmp_path_factory.mktemp("sample") / "my faces", **COUNTS, num_workers=1)


def read_rows(root: Path) -> list[dict[str, str]]:
    with open(root / "attributes.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def draw(number: int, *, hair: str = "brown", **wears: bool) -> tuple[np.ndarray, set[str]]:
    return draw_portrait(Chance(5, number), Chance(6, number), hair_colour=hair, wears=PLAIN | wears)


def with_hair(style: str, *, covers_ears: bool) -> int:
    """The number of a person whose hair is so."""
    for number in range(500):
        hair = Hair.drawn(Chance(5, number), colour="brown")
        if (hair.style, hair.covers_ears) == (style, covers_ears):
            return number
    raise AssertionError(f"nobody has {style}")


def test_processes_draw_the_same_files_as_one(root: Path, tmp_path: Path) -> None:
    shared = sample.make_sample(tmp_path / "shared", **COUNTS, num_workers=2)
    assert contents(root) == contents(shared)
    other = sample.make_sample(tmp_path / "other", **COUNTS, seed=1, num_workers=1)
    assert contents(root).keys() == contents(other).keys()
    assert not set(contents(root).values()) & set(contents(other).values())


def test_layout(root: Path) -> None:
    files = [
        *(f"images/{number:06d}.jpg" for number in range(1, 40)),
        *(f"unlabelled/{n:06d}.jpg" for n in range(1, 7)),
    ]
    assert sorted(contents(root)) == sorted([*files, "attributes.csv", "sample.json"])
    assert len(set(contents(root).values())) == len(files) + 2, "two pictures are the same"
    for file in files:
        assert np.asarray(cv2.imread(str(root / file))).shape == (SIDE, SIDE, 3)


def test_labels_file(root: Path) -> None:
    header = (root / "attributes.csv").read_text().splitlines()[0].split(",")
    assert header == ["file", *sample.ATTRIBUTES, "split", "identity"]
    assert len(sample.ATTRIBUTES) == 12 and set(sample.ATTRIBUTES) < set(CELEBA)
    rows = read_rows(root)
    assert [row["file"] for row in rows] == [f"{number:06d}.jpg" for number in range(1, 40)]
    assert [row["split"] for row in rows] == ["train"] * 24 + ["val"] * 10 + ["test"] * 5
    assert {row[name] for row in rows for name in sample.ATTRIBUTES} == {"1", "-1", ""}


def test_no_person_is_in_two_splits(root: Path) -> None:
    people: dict[str, list[str]] = {}
    for row in read_rows(root):
        people.setdefault(row["identity"], []).append(row["split"])
    assert all(len(set(splits)) == 1 for splits in people.values())
    assert [len(splits) for splits in people.values()] == [4] * 6 + [4, 4, 2] + [4, 1]


def test_a_person_keeps_what_belongs_to_the_face(root: Path) -> None:
    rows = read_rows(root)
    for name in sample.HAIR_NAMES:
        for identity in {row["identity"] for row in rows}:
            assert len({row[name] for row in rows if row["identity"] == identity} - {""}) <= 1
    changing = [{row[name] for row in rows[:24]} for name in ("Smiling", "Eyeglasses", "Bangs", "Wearing_Hat")]
    assert all({"1", "-1"} <= values for values in changing)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """(1200, 12) of 1, -1 and 0 for unknown, of a set that is not drawn."""
    table = np.zeros((1200, len(sample.ATTRIBUTES)), np.int8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "draw_portrait", lambda *args, **kwargs: (None, set()))
        for number, row in enumerate(table):
            labels = sample.draw_picture(Slot(3, "train", 0, number, number + 1)).record["labels"]
            row[:] = [labels.get(name, 0) for name in sample.ATTRIBUTES]
    return table


def test_a_share_of_the_labels_is_left_out_by_chance(labels: np.ndarray) -> None:
    assert 0.14 < np.mean(labels == 0) < 0.16
    by_attribute, by_picture = np.mean(labels == 0, axis=0), np.mean(labels == 0, axis=1)
    assert by_attribute.min() > 0.1 and by_attribute.max() < 0.2
    assert by_picture.max() < 0.7


def test_attributes_are_independent(labels: np.ndarray) -> None:
    hair = {sample.ATTRIBUTES.index(name) for name in sample.HAIR_NAMES}
    for one, two in itertools.combinations(range(len(sample.ATTRIBUTES)), 2):
        both = labels[(labels[:, one] != 0) & (labels[:, two] != 0)][:, [one, two]]
        if {one, two} <= hair:
            assert not (both == 1).all(axis=1).any(), "hair of two colours"
        else:
            assert abs(np.corrcoef(both.T)[0, 1]) < 0.17, (sample.ATTRIBUTES[one], sample.ATTRIBUTES[two])
    shares = np.mean(labels == 1, axis=0) / np.mean(labels != 0, axis=0)
    assert shares.min() > 0.15 and shares.max() < 0.6


# Where the change may be, as shares of the picture: left, top, right, bottom; and how much of it changes at least.
PLACES = {
    "Bangs": (0.1, 0.0, 0.9, 0.6, 0.02),
    "Eyeglasses": (0.1, 0.2, 0.9, 0.75, 0.02),
    "Goatee": (0.2, 0.6, 0.8, 0.95, 0.008),
    "Mouth_Slightly_Open": (0.2, 0.45, 0.8, 0.9, 0.003),
    "Mustache": (0.2, 0.4, 0.8, 0.85, 0.004),
    "Wearing_Earrings": (0.0, 0.3, 1.0, 0.85, 0.002),
    "Wearing_Hat": (0.0, 0.0, 1.0, 0.65, 0.05),
    "Wearing_Necktie": (0.0, 0.6, 1.0, 1.0, 0.01),
    "Smiling": (0.1, 0.2, 0.9, 0.95, 0.01),
}


@pytest.mark.parametrize("name", PLACES)
def test_an_attribute_changes_the_picture_at_its_place_alone(name: str) -> None:
    left, top, right, bottom, least = PLACES[name]
    number = with_hair("bun", covers_ears=False)
    without, having = draw(number)[0].astype(int), draw(number, **{name: True})[0].astype(int)
    changed = np.abs(without - having).max(2) > 8
    rows, columns = np.flatnonzero(changed.any(1)) / SIDE, np.flatnonzero(changed.any(0)) / SIDE
    assert left <= columns[0] and columns[-1] <= right and top <= rows[0] and rows[-1] <= bottom
    assert changed.mean() > least


@pytest.mark.parametrize("style", STYLES)
def test_every_cut_of_hair_has_its_colour(style: str) -> None:
    number = with_hair(style, covers_ears=False)
    skull = (slice(0, SIDE // 3), slice(SIDE // 4, 3 * SIDE // 4))
    black, gray = (draw(number, hair=colour)[0][skull].mean() for colour in ("black", "gray"))
    assert gray > black + 25


def test_what_a_picture_cannot_show_is_said() -> None:
    bun, covered = with_hair("bun", covers_ears=False), with_hair("long", covers_ears=True)
    assert draw(bun)[1] <= {"Wearing_Necktie"}
    assert draw(bun, Wearing_Hat=True)[1] >= {"Bangs"}
    assert "Wearing_Earrings" in draw(covered)[1]
    for number, name in ((bun, "Bangs"), (covered, "Wearing_Earrings")):
        wears = {"Wearing_Hat": number == bun}
        without, having = draw(number, **wears), draw(number, **wears, **{name: True})
        assert name in without[1] and name in having[1]
        assert np.array_equal(without[0], having[0]), f"{name} shows, but is called hidden"


def test_labels_leave_out_what_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "UNKNOWN_SHARE", 0.0)
    for number in range(12):
        slot = Slot(0, "train", 0, number, number + 1)
        labels = sample.draw_picture(slot).record["labels"]
        assert ("Bangs" in labels) == (labels["Wearing_Hat"] == -1)


def test_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    numbers = {"num_train": 2, "num_val": 1, "num_test": 1, "num_unlabelled": 1}
    first = sample.make_sample(**numbers)
    assert capsys.readouterr().out == f"drawing the sample set (2 + 1 + 1 + 1 pictures) into {first}\n"
    assert sample.make_sample(**numbers) == first
    assert capsys.readouterr().out == ""
    assert first.parent == tmp_path and first.name.startswith("faceattr-sample-v1-")
    assert sample.make_sample(**numbers, seed=1) != first


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="exists and is not this sample set: give a folder that is new or empty"):
        sample.make_sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="num_unlabelled is 0, it must be 1 or more"):
        sample.make_sample(tmp_path / "new", num_unlabelled=0)
    with pytest.raises(ValueError, match="seed is -1, it must be 0 or more"):
        sample.make_sample(tmp_path / "new", seed=-1)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "faces", tmp_path / "my sheet.png"
    flags = ["--num-train", "3", "--num-val", "1", "--num-test", "1", "--num-unlabelled", "1"]
    sample.main(parse(sample.Config, [*flags, "--contact-sheet", str(sheet), "--out", str(out)]))
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.shape[1] > 3 * SIDE
    assert len(read_rows(out)) == 5


def test_drawing_needs_no_torch() -> None:
    code = "import sys; import apps.faceattr.sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, cwd=PROJECT).returncode == 0
