"""Val out of train, copies together."""

import json
import shutil

import pytest

from apps.detection.data.load import load_splits


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
