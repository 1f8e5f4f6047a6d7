"""Known data sets: tiny copies of their files' layout, read by torchvision's own classes; nothing is downloaded."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from torchvision import datasets

from apps.finegrained.data.known_sets import NAMED, list_named
from apps.finegrained.data.load import load_split

PICTURE = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def fill(root: Path, files: list[str]) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PICTURE + file.encode())  # no two of them are copies
    return root


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def named(split) -> list[str]:
    return sorted(f"{photo.path.name}={split.class_names[photo.label]}" for photo in split.photos)


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def pets(root: Path) -> None:
    base = fill(
        root / "oxford-iiit-pet", [f"images/{n}_{i}.jpg" for n in ("Birman", "great_pyrenees") for i in range(5)]
    )
    write(
        base / "annotations/trainval.txt",
        [f"{n}_{i} {k} 1 1" for k, n in ((1, "Birman"), (2, "great_pyrenees")) for i in range(4)],
    )
    write(base / "annotations/test.txt", ["Birman_4 1 1 1", "great_pyrenees_4 2 2 1"])


def aircraft(root: Path) -> None:
    base = fill(root / "fgvc-aircraft-2013b/data", [f"images/{i}.jpg" for i in range(4)])
    write(base / "variants.txt", ["737-200", "A300 B4"])
    write(base / "images_variant_train.txt", ["0 737-200", "1 A300 B4"])
    write(base / "images_variant_val.txt", ["2 A300 B4"])
    write(base / "images_variant_test.txt", ["3 737-200"])


def food(root: Path) -> None:
    base = fill(
        root / "food-101", [f"images/pizza/{i}.jpg" for i in range(6)] + ["images/ramen/9.jpg", "images/ramen/8.jpg"]
    )
    for split, content in (
        ("train", {"pizza": ["pizza/0", "pizza/1", "pizza/2", "pizza/3", "pizza/4"], "ramen": ["ramen/9"]}),
        ("test", {"pizza": ["pizza/5"], "ramen": ["ramen/8"]}),
    ):
        write(base / f"meta/{split}.json", [json.dumps(content)])


def flowers(root: Path) -> None:
    io = pytest.importorskip("scipy.io")
    base = fill(root / "flowers-102", [f"jpg/image_{i:05d}.jpg" for i in range(1, 7)])
    io.savemat(base / "imagelabels.mat", {"labels": np.array([[1, 2, 1, 2, 1, 2]])})
    io.savemat(base / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]})


def cars(root: Path) -> None:
    io = pytest.importorskip("scipy.io")
    base = fill(root / "stanford_cars", [f"cars_{s}/{i:05d}.jpg" for s in ("train", "test") for i in range(1, 5)])
    (base / "devkit").mkdir()
    kind = [("fname", "O"), ("class", "O")]
    for path in ("devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"):
        rows = np.array([[(f"{i:05d}.jpg", 1 + i % 2) for i in range(1, 5)]], dtype=kind)
        io.savemat(base / path, {"annotations": rows})
    io.savemat(base / "devkit/cars_meta.mat", {"class_names": np.array([["Audi A5", "BMW M3"]], dtype=object)})


@pytest.mark.parametrize(
    ("name", "make", "counts", "test"),
    [
        ("oxford-iiit-pet", pets, [[3, 3], [1, 1]], ["Birman_4.jpg=Birman", "great_pyrenees_4.jpg=Great Pyrenees"]),
        ("fgvc-aircraft", aircraft, [[1, 1], [0, 1]], ["3.jpg=737-200"]),
        ("food101", food, [[4, 1], [1, 0]], ["5.jpg=pizza", "8.jpg=ramen"]),
        (
            "flowers102",
            flowers,
            [[1, 1], [1, 1]],
            ["image_00005.jpg=pink primrose", "image_00006.jpg=hard-leaved pocket orchid"],
        ),
        (
            "stanford-cars",
            cars,
            [[1, 1], [1, 1]],
            [f"{i:05d}.jpg={'BMW M3' if i % 2 else 'Audi A5'}" for i in range(1, 5)],
        ),
    ],
)
def test_sets_that_torchvision_reads(tmp_path, monkeypatch, no_network, name, make, counts, test):
    make(tmp_path)
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)  # it knows the real lists' MD5
    splits = [load_split(name, split, download_dir=tmp_path) for split in ("train", "val", "test")]
    assert named(splits[2]) == sorted(test)
    assert [sorted(split.counts) for split in splits[:2]] == [sorted(c) for c in counts]
    assert not {p.path for p in splits[0].photos} & {p.path for p in splits[1].photos}
    assert all(split.class_names == splits[0].class_names == sorted(splits[0].class_names) for split in splits)


def test_a_set_that_is_half_unpacked_names_the_missing_photo(tmp_path, no_network):
    pets(tmp_path)
    (tmp_path / "oxford-iiit-pet/images/Birman_4.jpg").unlink()
    with pytest.raises(ValueError, match=r"Birman_4\.jpg does not exist; correct the data"):
        load_split("oxford-iiit-pet", "test", download_dir=tmp_path)


@pytest.mark.parametrize("name", ["oxford-iiit-pet", "flowers102", "fgvc-aircraft", "food101"])
def test_without_network_one_line_says_what_to_do(tmp_path, no_network, name):
    with pytest.raises(
        ValueError, match=rf"{name} cannot be downloaded or read \(.*no network.*\).*unpack the"
    ) as error:
        list_named(name, tmp_path / "cache")
    assert NAMED[name].folder in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_had(tmp_path):
    with pytest.raises(
        ValueError, match=r"no longer offered .*put devkit/, cars_train/, .* into .*stanford_cars yourself"
    ):
        list_named("stanford-cars", tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'birds'; allowed are oxford-iiit-pet, flowers102"):
        list_named("birds", tmp_path)


@pytest.fixture
def cub(tmp_path) -> Path:
    files = [
        f"{c}/{c[4:]}_{i:04d}.jpg" for c in ("001.Black_footed_Albatross", "002.Laysan_Albatross") for i in range(6)
    ]
    root = fill(tmp_path / "CUB_200_2011", [f"images/{file}" for file in files])
    write(root / "images.txt", [f"{i} {file}" for i, file in enumerate(files, start=1)])
    write(root / "image_class_labels.txt", [f"{i} {1 + (i > 6)}" for i in range(1, 13)])
    write(root / "train_test_split.txt", [f"{i} {int(i % 6 != 0)}" for i in range(1, 13)])
    write(root / "classes.txt", ["1 001.Black_footed_Albatross", "2 002.Laysan_Albatross"])
    return root


def test_cub(cub):
    train, val, test = (load_split(cub, split) for split in ("train", "val", "test"))
    assert train.class_names == ["Black footed Albatross", "Laysan Albatross"]
    assert (train.counts, val.counts, test.counts) == ([4, 4], [1, 1], [1, 1])
    expected = ["Black_footed_Albatross_0005.jpg=Black footed Albatross", "Laysan_Albatross_0005.jpg=Laysan Albatross"]
    assert named(test) == expected
    with pytest.raises(ValueError, match=r"did you mean --data .*CUB_200_2011\?"):
        load_split(cub.parent, "train")


def test_damaged_lists_of_cub(cub):
    write(cub / "image_class_labels.txt", ["1 1", "2"])
    with pytest.raises(ValueError, match=r"image_class_labels\.txt is damaged: its lines must be a number, a blank"):
        load_split(cub, "train")
    write(cub / "image_class_labels.txt", ["1 1"])
    with pytest.raises(ValueError, match=r"image '2' of images\.txt has no split or no class"):
        load_split(cub, "train")
    (cub / "train_test_split.txt").unlink()
    with pytest.raises(ValueError, match=r"train_test_split\.txt is missing: unpack CUB-200-2011 again"):
        load_split(cub, "train")


@pytest.fixture
def dogs(tmp_path) -> Path:
    breeds = ("n02085620-Chihuahua", "n02086240-Shih-Tzu", "n02085782-Japanese_spaniel")
    return fill(tmp_path / "dogs", [f"Images/{b}/{b[:9]}_{i}.jpg" for b in breeds for i in range(10)])


def test_dogs_without_lists_are_class_folders(dogs):
    train, val = (load_split(dogs, split) for split in ("train", "val"))
    assert train.class_names == ["Chihuahua", "Japanese spaniel", "Shih-Tzu"]
    assert (train.counts, val.counts) == ([8, 8, 8], [2, 2, 2])
    assert load_split(dogs / "Images", "val").class_names == train.class_names


@pytest.mark.parametrize("kind", ["txt", "lists/txt", "mat"])
def test_dogs_with_lists(dogs, kind):
    files = sorted(path.relative_to(dogs / "Images").as_posix() for path in dogs.glob("Images/*/*.jpg"))
    lists = {"train": [f for f in files if f[-5] < "5"], "test": [f for f in files if f[-5] >= "6"]}
    for split, names in lists.items():
        if kind == "mat":
            io = pytest.importorskip("scipy.io")
            io.savemat(dogs / f"{split}_list.mat", {"file_list": np.array([[n] for n in names], dtype=object)})
        else:
            write(dogs / kind.removesuffix("txt") / f"{split}_list.txt", names)
    train, val, test = (load_split(dogs, split) for split in ("train", "val", "test"))
    assert (train.counts, val.counts, test.counts) == ([4, 4, 4], [1, 1, 1], [4, 4, 4])
    assert sorted(photo.path.relative_to(dogs / "Images").as_posix() for photo in test.photos) == lists["test"]
    (dogs / "Images" / lists["test"][0]).unlink()
    with pytest.raises(ValueError, match=r"_6\.jpg does not exist"):
        load_split(dogs, "test")


def test_damaged_or_unreadable_lists_of_dogs(dogs, monkeypatch):
    for split in ("train", "test"):
        write(dogs / f"{split}_list.txt", [f"n02085620-Chihuahua/{name}.jpg" for name in ("n02085620_0", "a" * 5000)])
    with pytest.raises(ValueError, match=r"a\.jpg does not exist"):
        load_split(dogs, "train")
    for split in ("train", "test"):
        (dogs / f"{split}_list.txt").unlink()
    (dogs / "train_list.mat").write_bytes(b"no such thing")
    pytest.importorskip("scipy.io")
    with pytest.raises(ValueError, match=r"train_list\.mat is damaged"):
        load_split(dogs, "train")
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(ValueError, match=r"train_list\.mat needs scipy: python -m pip install scipy"):
        load_split(dogs, "train")
