"""Val out of train: a function of seed and names, in the share that is asked for, copies together."""

import json
import shutil

import pytest

from apps.common.data.copies import find_copies
from apps.detection.data.load import load_splits
from apps.detection.data.splits import choose_val

NAMES = [f"photo {i}.jpg" for i in range(100)]


def chosen(names, seed=0, fraction=0.2, copies=()):
    return {names[i] for i in choose_val(names, copies, fraction, seed)}


def test_the_choice_is_one_of_seed_and_names():
    some = chosen(NAMES)
    assert len(some) == 20
    assert chosen(NAMES[::-1]) == some
    assert chosen(NAMES, seed=1) != some
    assert chosen(NAMES, fraction=0.3) > some
    fewer = [name for name in NAMES if name not in NAMES[:5]]
    assert len(chosen(fewer) & some) >= len(some) - 6  # others stay where they were


@pytest.mark.parametrize(
    ("number", "fraction", "expected"), [(1, 0.2, 0), (2, 0.01, 1), (2, 0.99, 1), (10, 0, 0), (7, 0.5, 4)]
)
def test_small_numbers_leave_something_on_both_sides(number, fraction, expected):
    assert len(chosen(NAMES[:number], fraction=fraction)) == expected


def test_copies_go_together():
    pairs = [[i, i + 50] for i in range(50)]
    for seed in range(5):
        picked = choose_val(NAMES, pairs, 0.2, seed)
        assert len(picked) == 20
        assert all((i in picked) == (i + 50 in picked) for i in range(50))
    assert choose_val(NAMES[:4], [[0, 1, 2]], 0.25, 0) in ({3}, {0, 1, 2})


def test_copies_are_files_of_the_same_bytes(tmp_path):
    contents = [b"a" * 9000, b"b" * 9000, b"a" * 9000, b"", b"", b"a" * 8999 + b"c", b"b" * 9000]
    paths = [tmp_path / f"{i} x.jpg" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert find_copies([*paths, tmp_path / "gone.jpg"]) == [[0, 2], [1, 6]]


def test_copies_in_data_without_splits(tiny_coco):
    """Each photo twice, under names that say nothing: none may be learnt and measured."""
    path = tiny_coco / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    for image in list(content["images"]):
        name = f"z{image['id'] * 37 % 8}.png"
        shutil.copy(tiny_coco / "train" / image["file_name"], tiny_coco / "train" / name)
        content["images"].append({**image, "id": image["id"] + 100, "file_name": name})
    path.write_text(json.dumps(content))
    (tiny_coco / "annotations/instances_val.json").unlink()
    train, val = load_splits(tiny_coco, ("train", "val"), val_fraction=0.25)
    assert (len(train.records), len(val.records)) == (12, 4)
    in_val = {record.path.read_bytes() for record in val.records}
    assert not in_val & {record.path.read_bytes() for record in train.records}


def test_wrong_fractions(tiny_coco):
    (tiny_coco / "annotations/instances_val.json").unlink()
    for fraction in (1, -0.1, 1.5):
        with pytest.raises(ValueError, match=f"val_fraction must be from 0 .* got {fraction}"):
            load_splits(tiny_coco, ("train", "val"), val_fraction=fraction)
