"""Reading COCO folders: the forms it takes, and every fault named with its file and object."""

import json
from pathlib import Path

import pytest

from apps.detection.coco import load_coco_split


def edit(root: Path, change, split: str = "train") -> Path:
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_ids_are_mapped_and_mapped_back(tiny_coco):
    split = load_coco_split(tiny_coco, "train")
    assert split.class_names == ["red", "blue"]
    assert split.category_ids == [3, 7]
    assert len(split.records) == 8
    assert {label for record in split.records for label in record.labels} == {1, 2}
    assert split.describe() == "train: 8 images (0 without objects), 12 objects of 2 classes"


def test_no_annotation_has_the_id_zero_for_the_referee(tiny_coco):
    """pycocotools takes the id 0 for "not found"."""
    ids = [annotation["id"] for annotation in load_coco_split(tiny_coco, "train").ground_truth["annotations"]]
    assert ids == list(range(1, 13))


@pytest.mark.parametrize("place", ["val2017", "images/val2017", "images", "."])
def test_places_of_the_images(tiny_coco, place):
    (tiny_coco / "annotations/instances_val.json").rename(tiny_coco / "annotations/instances_val2017.json")
    files = list((tiny_coco / "val").iterdir())
    (tiny_coco / place).mkdir(parents=True, exist_ok=True)
    for file in files:
        file.rename(tiny_coco / place / file.name)
    assert len(load_coco_split(tiny_coco, "val").records) == 4


def test_crowds_stay_for_the_referee(tiny_coco):
    edit(tiny_coco, lambda c: c["annotations"][0].update(iscrowd=1))
    split = load_coco_split(tiny_coco, "train")
    assert sum(record.is_crowd.sum() for record in split.records) == 1
    assert sum(a["iscrowd"] for a in split.ground_truth["annotations"]) == 1
    assert "11 objects and 1 crowds" in split.describe()


def test_missing_area_and_iscrowd_are_filled_in(tiny_coco):
    def drop(content):
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"]

    for annotation in load_coco_split(edit(tiny_coco, drop), "train").ground_truth["annotations"]:
        assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
        assert annotation["iscrowd"] == 0


def test_a_box_that_sticks_out_by_rounding_is_clipped(tiny_coco):
    split = load_coco_split(edit(tiny_coco, lambda c: c["annotations"][0].update(bbox=[-0.5, 10, 97.2, 30.0])), "train")
    assert split.records[0].boxes_xyxy_px[0].tolist() == [0, 10, 96, 40]
    assert split.skipped == []


FAULTS = {
    "box of no width": (lambda c: c["annotations"][2].update(bbox=[5, 5, 0, 9]), r"annotation 2 \(image '\d+\.png'\)"),
    "negative height": (lambda c: c["annotations"][2].update(bbox=[5, 5, 9, -3]), "has no area"),
    "outside": (lambda c: c["annotations"][2].update(bbox=[90, 5, 40, 9]), r"outside the image \(96x64 pixels\)"),
    "far outside": (lambda c: c["annotations"][2].update(bbox=[500, 5, 40, 9]), "lies outside the image"),
    "three numbers": (lambda c: c["annotations"][2].update(bbox=[5, 5, 9]), "must be four numbers"),
    "not a number": (lambda c: c["annotations"][2].update(bbox=[5, 5, 9, float("nan")]), "must be four numbers"),
    "no box": (lambda c: c["annotations"][2].pop("bbox"), "must be four numbers .* got None"),
    "words": (lambda c: c["annotations"][2].update(bbox=["a", "b", "c", "d"]), "must be four numbers"),
    "undeclared class": (lambda c: c["annotations"][2].update(category_id=5), "category id 5 is not declared"),
    "unknown image": (lambda c: c["annotations"][2].update(image_id=99), "there is no image with id 99"),
    "missing file": (lambda c: c["images"][1].update(file_name="gone.jpg"), r"image 'gone.jpg' \(id 2\) is not in"),
    "no size": (lambda c: c["images"][1].update(width=0), "must be whole pixels above 0"),
    "same id": (lambda c: c["images"][1].update(id=1), "image id 1 twice: '001.png' and '002.png'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_by_name_and_skipped_with_a_count(tiny_coco, fault):
    change, message = FAULTS[fault]
    edit(tiny_coco, change)
    with pytest.raises(ValueError, match=message) as error:
        load_coco_split(tiny_coco, "train")
    assert "instances_train.json" in str(error.value)
    assert "\n" not in str(error.value)
    split = load_coco_split(tiny_coco, "train", bad_data="skip")
    assert len(split.skipped) >= 1
    assert f"skipped {len(split.skipped)}" in split.describe()
    assert sum(len(r.labels) for r in split.records) == len(split.ground_truth["annotations"]) < 12


def test_several_faults_are_counted(tiny_coco):
    def spoil(content):
        for annotation in content["annotations"][:4]:
            annotation["category_id"] = 99

    with pytest.raises(ValueError, match=r"and 3 more such problems\); mend the data, or .* --bad-data skip"):
        load_coco_split(edit(tiny_coco, spoil), "train")


def test_wrong_folders_and_files(tiny_coco, tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        load_coco_split(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match=r"no annotations/instances_test\.json; there are instances_train\.json"):
        load_coco_split(tiny_coco, "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"there is no instances_\*\.json"):
        load_coco_split(tmp_path / "empty", "train")
    annotations = tiny_coco / "annotations/instances_train.json"
    for content, message in (
        ("{oops", "is not valid JSON"),
        ("[1, 2]", "has no list 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        (annotations.read_text().replace(".png", ".gif"), "none of its images was found in"),
    ):
        annotations.write_text(content)
        with pytest.raises(ValueError, match=message):
            load_coco_split(tiny_coco, "train")


def test_real_photos_read_without_a_problem(shared):
    for root, split, images, crowds in (
        ("coco_mini", "train", 543, 64),
        ("coco_mini", "val", 106, 12),
        ("voc2007", "train", 2600, 1551),
        ("voc2007", "val", 400, 229),
    ):
        data = load_coco_split(shared / "data/detection" / root, split)
        assert len(data.records) == images
        assert sum(record.is_crowd.sum() for record in data.records) == crowds
