"""The drawn sample set of moths: the same for everybody, balanced, and told by its marks alone."""

import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.cli import parse
from apps.common.drawing.sample_set import PROJECT, Slot
from apps.finegrained import sample
from apps.finegrained.moths.moth import EYESPOT_PLACES, UNIT, Marks, Moth
from apps.finegrained.moths.scene import draw_scene

PLAIN = Marks(band="whole", eyespots=2, tail=False)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def draw(seed: int, marks: Marks) -> np.ndarray:
    return draw_scene(np.random.default_rng(seed), marks)


def changed(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The pixels (H, W) that differ to the eye."""
    return np.abs(one.astype(int) - two).max(2) > 12


def test_species_are_all_combinations_of_the_marks() -> None:
    combinations = {
        Marks(band=b, eyespots=e, tail=t) for b in ("whole", "broken") for e in (1, 2, 3) for t in (False, True)
    }
    assert len(sample.SPECIES) == 12 and set(sample.SPECIES.values()) == combinations
    assert list(sample.SPECIES) == sorted(sample.SPECIES)  # the order that folders of classes are read in


def test_a_picture_is_a_function_of_its_seed() -> None:
    assert np.array_equal(draw(1, PLAIN), draw(1, PLAIN))
    assert changed(draw(1, PLAIN), draw(2, PLAIN)).mean() > 0.5


def test_layout_and_balance(tmp_path: Path) -> None:
    root = sample.make_sample(tmp_path / "my moths", num_train=30, num_val=12, num_workers=1)
    counts = Counter(tuple(Path(name).parts[:2]) for name in contents(root) if name.endswith(".jpg"))
    assert {name for split, name in counts if split == "train"} == set(sample.SPECIES)
    assert [counts["train", name] for name in sample.SPECIES] == [3] * 6 + [2] * 6
    assert [counts["val", name] for name in sample.SPECIES] == [1] * 12
    assert sorted(path.name for path in (root / "train" / "Beadle").iterdir()) == [
        "00001.jpg",
        "00002.jpg",
        "00003.jpg",
    ]
    assert len(set(contents(root).values())) == 30 + 12 + 1  # no picture twice, and what it was drawn with
    assert np.asarray(cv2.imread(str(root / "val" / "Warrener" / "00001.jpg"))).shape == (160, 176, 3)


def test_processes_draw_the_same_files_as_one(tmp_path: Path) -> None:
    numbers = {"num_train": 12, "num_val": 12}
    alone = sample.make_sample(tmp_path / "alone", **numbers, num_workers=1)
    assert contents(alone) == contents(sample.make_sample(tmp_path / "shared", **numbers, num_workers=2))


def test_a_species_comes_with_its_marks_whatever_the_split() -> None:
    for split_index, split in enumerate(("train", "val")):
        drawn = sample.draw_picture(Slot(5, split, split_index, 20, 999))
        assert drawn.name == f"{split}/Sexton/00002.jpg"
        expected = draw_scene(np.random.default_rng((5, split_index, 20)), sample.SPECIES["Sexton"])
        assert np.array_equal(drawn.image, expected)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_two_species_differ_by_their_marks_alone(seed: int) -> None:
    """From one generator, little of the picture differs between any two, and something between all."""
    pictures = [draw(seed, marks) for marks in sample.SPECIES.values()]
    for one, two in itertools.combinations(pictures, 2):
        assert 0.002 < changed(one, two).mean() < 0.12


@pytest.mark.parametrize(
    "other",
    [
        Marks(band="broken", eyespots=2, tail=False),
        Marks(band="whole", eyespots=1, tail=False),
        Marks(band="whole", eyespots=3, tail=False),
        Marks(band="whole", eyespots=2, tail=True),
    ],
    ids=["broken-band", "one-eyespot", "three-eyespots", "tail"],
)
def test_each_mark_can_be_seen_at_the_networks_resolution(other: Marks) -> None:
    """On both sides of most moths it changes a patch of six by six pixels or more."""
    sizes = []
    for seed in range(9):
        pair = [
            cv2.resize(draw(seed, marks)[:, 8:-8], (128, 128), interpolation=cv2.INTER_AREA) for marks in (PLAIN, other)
        ]
        patches = cv2.connectedComponentsWithStats(changed(*pair).astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
        sizes.append(sorted(patches)[-2] if len(patches) > 1 else 0)
    assert sample.SAMPLE_RESOLUTION == 128 and np.median(sizes) >= 6 * 6


@pytest.mark.parametrize("number", EYESPOT_PLACES)
def test_as_many_eyespots_as_the_marks_say(number: int) -> None:
    """Counted as the pupils on the flat wing, painted in colours that nothing else has."""
    for seed in range(8):
        moth = Moth(np.random.default_rng(seed))
        moth.fore = moth.hind = (200.0, 40.0, 40.0)
        moth.pale = moth.iris = (0.0, 255.0, 0.0)
        marks = Marks(band="whole", eyespots=number, tail=False)  # type: ignore[arg-type]
        pixels = moth.wings(marks).pixels[UNIT:].astype(int)  # below the roots: the hindwing
        green = (pixels[..., 1] - pixels[..., 0] > 90).astype(np.uint8)
        areas = cv2.connectedComponentsWithStats(green)[2][1:, cv2.CC_STAT_AREA]
        assert np.count_nonzero(areas > 100) == number


def test_colours_and_places_do_not_tell_the_species() -> None:
    """The mean colour of a picture varies by chance; by species it hardly does, as drawn from one set of seeds."""
    means = np.array([[draw(seed, marks).mean((0, 1)) for seed in range(6)] for marks in sample.SPECIES.values()])
    assert means.mean(1).std(0).max() < 0.1 * means.std(1).mean()


def test_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    first = sample.make_sample(num_train=12, num_val=12)
    assert capsys.readouterr().out == f"drawing the sample set (12 + 12 pictures) into {first}\n"
    assert sample.make_sample(num_train=12, num_val=12) == first
    assert capsys.readouterr().out == ""
    assert first.parent == tmp_path and first.name.startswith("finegrained-sample-v1-")


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="exists and is not this sample set: give a folder that is new or empty"):
        sample.make_sample(tmp_path, num_train=12, num_val=12)
    with pytest.raises(ValueError, match="num_val is 11, it must be 12 or more"):
        sample.make_sample(tmp_path / "new", num_train=12, num_val=11)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "moths", tmp_path / "sheet.png"
    flags = ["--num-train", "24", "--num-val", "12", "--contact-sheet", str(sheet), "--out", str(out)]
    sample.main(parse(sample.Config, flags))
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.shape == (4 * 160, 6 * 176, 3)


def test_drawing_needs_no_torch() -> None:
    code = "import sys; import apps.finegrained.sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, cwd=PROJECT).returncode == 0
