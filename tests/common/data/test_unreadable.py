"""Empty, cut and placeholder photos are left out, or named, before training begins; in the detector see its tests."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.faceattr.data import load as faces
from apps.faceattr.data.learning_photos import learning_photos
from apps.finegrained.data import load as classes

BAD = ("empty.jpg", "cut.jpg", "pointer.png")


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    return path


def spoil(folder: Path) -> list[Path]:
    """Three files that are no photos, in a folder."""
    whole = photo(folder / "cut.jpg", 99).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n")
    return [folder / name for name in BAD]


def test_a_classifier_trains_without_them(tmp_path):
    for i in range(12):
        photo(tmp_path / "ab"[i % 2] / f"{i}.jpg", i)
    spoil(tmp_path / "a")
    with pytest.raises(ValueError, match=r"cut\.jpg is truncated.*2 more such problems\); correct the data, or skip"):
        classes.load_splits(tmp_path, ("train", "val"), open_photos=True)
    train, val = classes.load_splits(tmp_path, ("train", "val"), bad_data="skip", open_photos=True)
    assert len(train.photos) + len(val.photos) == 12 and len(train.skipped) == 3
    assert not {one.path.name for one in (*train.photos, *val.photos)} & set(BAD)
    assert "skipped 3" in train.describe()


def test_faces_and_photos_without_labels_are_learnt_without_them(tmp_path, capsys):
    names = [photo(tmp_path / "f/images" / f"{i}.jpg", i).name for i in range(12)]
    spoil(tmp_path / "f/images")
    with open(tmp_path / "f/attributes.csv", "w", newline="") as file:
        rows = [[name, i % 2, ("train", "val")[i % 4 == 3]] for i, name in enumerate([*names, *BAD])]
        csv.writer(file).writerows([["file", "Smiling", "split"], *rows])
    data = [tmp_path / "f"]
    with pytest.raises(ValueError, match=r"correct the data, or skip its problems with --bad-data skip"):
        faces.load_splits(data, ("train", "val"), open_photos=True)
    train, val = faces.load_splits(data, ("train", "val"), bad_data="skip", open_photos=True)
    assert (len(train.paths), len(val.paths)) == (9, 3) and train.labels.shape == (9, 1)
    assert [int(path.stem) % 2 for path in train.paths] == train.labels[:, 0].tolist()
    assert len(train.skipped) + len(val.skipped) == 3

    good = photo(tmp_path / "u/deep/more.jpg", 50)
    spoil(tmp_path / "u")
    options = {"data": data, "withhold": 0.0, "seed": 0}
    with pytest.raises(ValueError, match=r"cut\.jpg is truncated.*and 2 more such problems"):
        learning_photos(train, [tmp_path / "u"], bad_data="refuse", **options)
    paths, labels, shards = learning_photos(train, [tmp_path / "u"], bad_data="skip", **options)
    assert paths[9:] == [good] and shards is None and labels[9:].tolist() == [[-1]]
    assert "photos without labels; skipped 3" in capsys.readouterr().out
