"""Reading COCO folders: the forms it takes, and every fault named with its file and object."""

import json
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from apps.detection.data.load import load_split, load_splits


def edit(root: Path, change, split: str = "train") -> Path:
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_ids_are_mapped_and_mapped_back(tiny_coco):
    split = load_split(tiny_coco, "train")
    assert split.class_names == ["red", "blue"]
    assert split.category_ids == [3, 7]
    assert len(split.records) == 8
    assert {label for record in split.records for label in record.labels} == {1, 2}
    assert split.describe() == "train: 8 images (0 without objects), 12 objects of 2 classes"


def test_no_annotation_has_the_id_zero_for_the_referee(tiny_coco):
    """pycocotools takes the id 0 for "not found"."""
    ids = [annotation["id"] for annotation in load_split(tiny_coco, "train").ground_truth["annotations"]]
    assert ids == list(range(1, 13))


@pytest.mark.parametrize("place", ["val2017", "images/val2017", "images", "."])
def test_places_of_the_images(tiny_coco, place):
    (tiny_coco / "annotations/instances_val.json").rename(tiny_coco / "annotations/instances_val2017.json")
    files = list((tiny_coco / "val").iterdir())
    (tiny_coco / place).mkdir(parents=True, exist_ok=True)
    for file in files:
        file.rename(tiny_coco / place / file.name)
    assert len(load_split(tiny_coco, "val").records) == 4


def test_a_split_without_an_object_to_measure_says_so(tiny_coco):
    edit(tiny_coco, lambda content: [one.update(iscrowd=1) for one in content["annotations"]], "val")
    assert load_split(tiny_coco, "val").describe().endswith("; without an object AP cannot be measured")
    assert "cannot be measured" not in load_split(tiny_coco, "train").describe()


def test_crowds_stay_for_the_referee(tiny_coco):
    edit(tiny_coco, lambda c: c["annotations"][0].update(iscrowd=1))
    split = load_split(tiny_coco, "train")
    assert sum(record.is_crowd.sum() for record in split.records) == 1
    assert sum(a["iscrowd"] for a in split.ground_truth["annotations"]) == 1
    assert "11 objects and 1 crowds" in split.describe()


def test_missing_area_and_iscrowd_are_filled_in(tiny_coco):
    def drop(content):
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"]

    for annotation in load_split(edit(tiny_coco, drop), "train").ground_truth["annotations"]:
        assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
        assert annotation["iscrowd"] == 0


def test_a_box_that_sticks_out_by_rounding_is_clipped(tiny_coco):
    split = load_split(edit(tiny_coco, lambda c: c["annotations"][0].update(bbox=[-0.5, 10, 97.2, 30.0])), "train")
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
    "negative size": (lambda c: c["images"][1].update(width=-96), "must be whole pixels above 0"),
    "broken size": (lambda c: c["images"][1].update(width=96.5), "must be whole pixels above 0"),
    "image of no id": (lambda c: c["images"][1].pop("id"), "an image without a whole-number id"),
    "image is a word": (lambda c: c["images"].append("oops"), "an image without a whole-number id .* oops"),
    "annotation is a word": (lambda c: c["annotations"].append("oops"), "an annotation is no object: oops"),
    "endless size": (lambda c: c["images"][1].update(width=float("inf")), "must be whole pixels above 0"),
    "list as id": (lambda c: c["images"][1].update(id=[2]), "an image without a whole-number id"),
    "list as image id": (lambda c: c["annotations"][2].update(image_id=[2]), r"no image with id \[2\]"),
    "list as class": (lambda c: c["annotations"][2].update(category_id=[2]), r"category id \[2\] is not declared"),
    "crowd or not": (lambda c: c["annotations"][2].update(iscrowd="no"), "iscrowd must be 0 or 1, got 'no'"),
    "endless crowd": (lambda c: c["annotations"][2].update(iscrowd=float("nan")), "iscrowd must be 0 or 1, got 'nan'"),
    "too large a number": (lambda c: c["annotations"][2].update(bbox=[5, 5, 9, 10**400]), "must be four numbers"),
    "too large a size": (lambda c: c["images"][1].update(width=10**400), "must be whole pixels above 0"),
    "same id": (lambda c: c["images"][1].update(id=1), "image id 1 twice: '001.png' and '002.png'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_by_name_and_skipped_with_a_count(tiny_coco, fault):
    change, message = FAULTS[fault]
    edit(tiny_coco, change)
    with pytest.raises(ValueError, match=message) as error:
        load_split(tiny_coco, "train")
    assert "instances_train.json" in str(error.value)
    assert "\n" not in str(error.value)
    split = load_split(tiny_coco, "train", bad_data="skip")
    assert len(split.skipped) >= 1
    assert f"skipped {len(split.skipped)}" in split.describe()
    kept = sum(len(r.labels) for r in split.records)
    assert kept == len(split.ground_truth["annotations"])
    assert kept == 12 if fault.endswith("word") else kept < 12


def test_several_faults_are_counted(tiny_coco):
    def spoil(content):
        for annotation in content["annotations"][:4]:
            annotation["category_id"] = 99

    with pytest.raises(ValueError, match=r"and 3 more such problems\); correct the data, or .* --bad-data skip"):
        load_split(edit(tiny_coco, spoil), "train")


def test_wrong_folders_and_files(tiny_coco, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: there is no such folder or file"):
        load_split(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match=r"did you mean .*tiny\?"):
        load_split(tmp_path / "tinny", "train")
    with pytest.raises(
        ValueError, match=r"no split 'test'; there are train \(annotations/instances_train\.json\), val"
    ):
        load_split(tiny_coco, "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no annotated photos: wanted is COCO's"):
        load_split(tmp_path / "empty", "train")
    with pytest.raises(ValueError, match=r"did you mean --data .*tiny\?"):
        load_split(tmp_path, "train")
    annotations = tiny_coco / "annotations/instances_train.json"
    given = annotations.read_text()
    for content, message in (
        ("{oops", "is not valid JSON"),
        ("[1, 2]", "has no list 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        (given.replace(".png", ".gif"), "none of its images was found in"),
        (given.replace('"id": 7, ', ""), r"a category needs a whole-number id and a name, got \{'name': 'blue'\}"),
        (given.replace('"id": 7, ', '"id": 3, '), "category id 3 is both 'red' and 'blue'"),
    ):
        annotations.write_text(content)
        with pytest.raises(ValueError, match=message):
            load_split(tiny_coco, "train")


def test_a_size_that_is_missing_is_read_from_the_photo_as_exif_turns_it(tiny_coco):
    image = Image.open(tiny_coco / "train/001.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tiny_coco / "train/turned.jpg", exif=exif)

    def drop(content):
        content["images"][0].update(file_name="turned.jpg", width=None)
        content["images"][1].pop("height")
        content["images"][2].update(width=0, height=0)

    split = load_split(edit(tiny_coco, drop), "train", bad_data="skip")
    assert [(record.width, record.height) for record in split.records[:3]] == [(64, 96), (96, 64), (96, 64)]
    assert len(split.records) == 8
    (tiny_coco / "train/002.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"image '002.png' \(id 2\): no width and height, and none can be read in"):
        load_split(tiny_coco, "train")


def test_splits_by_other_words_and_names(tiny_coco):
    annotations = tiny_coco / "annotations"
    (annotations / "instances_val.json").rename(annotations / "instances_minival2014.json")
    (annotations / "instances_train.json").rename(annotations / "instances_train2017.json")
    (tiny_coco / "val").rename(tiny_coco / "minival2014")
    (annotations / "captions_val2017.json").write_text("{}")
    (annotations / "person_keypoints_train2017.json").write_text("{}")
    assert len(load_split(tiny_coco, "train2017").records) == 6  # val is taken out of it, since there is none
    assert len(load_split(tiny_coco, "minival2014").records) == 4
    with pytest.raises(ValueError, match=r"no split 'train2014'; there are train .*, val, minival2014 \(annotations/"):
        load_split(tiny_coco, "train2014")
    (annotations / "instances_train2014.json").write_bytes((annotations / "instances_train2017.json").read_bytes())
    with pytest.raises(ValueError, match=r"has several splits that begin with 'train'; there are .*train2014"):
        load_split(tiny_coco, "train")
    assert len(load_split(tiny_coco, "train2017").records) == 8


def test_roboflow_exports_lie_beside_the_images(tiny_coco):
    """train/, valid/ with _annotations.coco.json, and a class 0 of the same name as the real one."""
    (tiny_coco / "val").rename(tiny_coco / "valid")
    for split, folder in (("train", "train"), ("val", "valid")):
        path = edit(tiny_coco, lambda c: c["categories"].insert(0, {"id": 0, "name": "red"}), split)
        (path / f"annotations/instances_{split}.json").rename(tiny_coco / folder / "_annotations.coco.json")
    (tiny_coco / "annotations").rmdir()
    train, val = load_splits(tiny_coco, ("train", "val"))
    assert (len(train.records), len(val.records)) == (8, 4)
    assert train.class_names == val.class_names == ["red", "blue"]
    assert train.category_ids == [0, 7]
    assert {annotation["category_id"] for annotation in train.ground_truth["annotations"]} == {0, 7}
    assert load_split(tiny_coco, "valid").name == "val"


@pytest.mark.parametrize(
    "name", ["annotations/instances.json", "_annotations.coco.json", "annotations/instances_default.json"]
)
def test_one_file_without_splits_is_divided(tiny_coco, name):
    (tiny_coco / "annotations/instances_val.json").unlink()
    (tiny_coco / "annotations/instances_train.json").rename(tiny_coco / name)
    (tiny_coco / "train").rename(tiny_coco / "images")
    train, val = load_splits(tiny_coco, ("train", "val"))
    assert (len(train.records), len(val.records)) == (6, 2)
    assert {r.image_id for r in train.records} | {r.image_id for r in val.records} == set(range(1, 9))
    assert sum(len(split.ground_truth["annotations"]) for split in (train, val)) == 12
    assert "val is 20% of train, chosen by seed 0" in val.describe()
    assert [r.image_id for r in load_split(tiny_coco / name, "val").records] == [r.image_id for r in val.records]
    assert len(load_split(tiny_coco, "train", val_fraction=0).records) == 8
    with pytest.raises(ValueError, match="no split 'val'"):
        load_split(tiny_coco, "val", val_fraction=0)


def test_one_file_whose_images_say_their_split(tiny_coco):
    def tell(content):
        for image in content["images"]:
            image["split"] = "valid" if image["id"] in (2, 5) else "train"

    edit(tiny_coco, tell)
    (tiny_coco / "annotations/instances_train.json").rename(tiny_coco / "all of it.json")
    (tiny_coco / "train").rename(tiny_coco / "images")
    train, val = load_splits(tiny_coco / "all of it.json", ("train", "val"))
    assert [record.image_id for record in val.records] == [2, 5]
    assert len(train.records) == 6
    assert sum(len(record.labels) for record in (*train.records, *val.records)) == 12


def one_file(root: Path, change, *, val_from: int = 101) -> Path:
    """Both splits in one file, val numbered from `val_from` on; `change` is made to each image."""
    parts = [json.loads((root / f"annotations/instances_{split}.json").read_text()) for split in ("train", "val")]
    (root / "images").mkdir()
    for split, part in zip(("train", "val"), parts, strict=True):
        for image in part["images"]:
            name = f"{split}-{image['file_name']}"
            (root / split / image["file_name"]).rename(root / "images" / name)
            image |= {"file_name": name, "split": split}
            change(image)
        if split == "val":
            for entry, key in [(one, "id") for one in part["images"]] + [(a, "image_id") for a in part["annotations"]]:
                entry[key] += val_from - 1
    content = {key: parts[0][key] + parts[1][key] for key in ("images", "annotations")}
    path = root / "all.json"
    path.write_text(json.dumps(content | {"categories": parts[0]["categories"]}))
    return path


@pytest.mark.parametrize(
    "words", [("Train", "VAL"), ("training", "valid"), ("train2017", "val2017"), (" train ", "Dev")]
)
def test_one_file_may_say_the_splits_in_other_words(tiny_coco, words):
    path = one_file(tiny_coco, lambda image: image.update(split=words[image["split"] == "val"]))
    train, val = load_splits(path, ("train", "val"))
    assert (len(train.records), len(val.records)) == (8, 4)
    assert "val is" not in train.describe()


def test_one_file_may_have_splits_of_other_names(tiny_coco):
    path = one_file(tiny_coco, lambda image: image.update(split="minival") if image["file_name"][-5] == "1" else None)
    assert [len(split.records) for split in load_splits(path, ("train", "val", "minival"))] == [7, 3, 2]


def test_a_word_for_all_is_no_split(tiny_coco):
    path = one_file(tiny_coco, lambda image: image.update(split="Default"))
    assert [len(split.records) for split in load_splits(path, ("train", "val"))] == [10, 2]


def test_a_box_of_one_pixel_is_one_where_others_are_in_pixels(tiny_coco):
    split = load_split(edit(tiny_coco, lambda c: c["annotations"][2].update(bbox=[0, 0, 1, 1])), "train")
    assert split.skipped == []

    def shrink(content):
        for annotation in content["annotations"]:
            annotation["bbox"] = [0.2, 0.2, 0.5, 0.4]

    with pytest.raises(
        ValueError, match=r"annotation 0 .* lies within a pixel, as all do here; they must be in pixels"
    ):
        load_split(edit(tiny_coco, shrink), "train")


def test_an_image_without_a_split_is_not_put_into_any(tiny_coco):
    path = one_file(tiny_coco, lambda image: image.pop("split") if image["file_name"] == "train-003.png" else None)
    with pytest.raises(ValueError, match=r"all\.json: image 'train-003\.png' \(id 3\) says no split, as others do"):
        load_splits(path, ("train", "val"))
    train, val = load_splits(path, ("train", "val"), bad_data="skip")
    assert (len(train.records), len(val.records), len(train.skipped), len(val.skipped)) == (7, 4, 1, 0)
    with pytest.raises(ValueError, match="says no split"):
        load_split(path, "val")


def test_an_id_of_two_splits_in_one_file_takes_both_images_out(tiny_coco):
    path = one_file(tiny_coco, lambda image: None, val_from=7)
    with pytest.raises(ValueError, match=r"image id 7 twice: .train-007\.png. and .val-001\.png."):
        load_splits(path, ("train", "val"))
    train, val = load_splits(path, ("train", "val"), bad_data="skip")
    assert (len(train.records), len(val.records), len(train.skipped), len(val.skipped)) == (6, 2, 2, 2)
    assert {annotation["image_id"] for annotation in train.ground_truth["annotations"]} == set(range(1, 7))


def test_ids_that_are_there_twice_are_found_before_a_file_is_divided(tiny_coco):
    path = one_file(tiny_coco, lambda image: image.pop("split"), val_from=1)
    with pytest.raises(ValueError, match=r"image id 1 twice: .* \(and 7 more such problems\)"):
        load_split(path, "train")
    splits = load_splits(path, ("train", "val"), bad_data="skip")
    assert [len(split.records) for split in splits] == [3, 1]
    assert sum(len(split.skipped) for split in splits) == 8


def test_an_image_that_is_listed_twice_stays_once(tiny_coco):
    split = load_split(edit(tiny_coco, lambda c: c["images"].append(c["images"][0])), "train", bad_data="skip")
    assert (len(split.records), len(split.skipped)) == (8, 1)


@pytest.mark.parametrize(("given", "crowds"), [("0", 0), ("1", 1), (True, 1), (None, 0), (1.0, 1)])
def test_crowds_in_other_words(tiny_coco, given, crowds):
    split = load_split(edit(tiny_coco, lambda c: c["annotations"][2].update(iscrowd=given)), "train")
    assert sum(record.is_crowd.sum() for record in split.records) == crowds


def test_one_list_of_classes_though_files_number_them_differently(tiny_coco):
    def renumber(content):
        content["categories"] = [{"id": 1, "name": "blue"}, {"id": 2, "name": "green"}, {"id": 9, "name": "red"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = {3: 9, 7: 1}[annotation["category_id"]]

    before = load_split(tiny_coco, "val")
    train, val = load_splits(edit(tiny_coco, renumber, "val"), ("train", "val"))
    assert train.class_names == val.class_names == ["red", "blue", "green"]
    assert (train.category_ids, val.category_ids) == ([3, 7, 10], [9, 1, 2])
    assert [r.labels.tolist() for r in val.records] == [r.labels.tolist() for r in before.records]
    assert [category["name"] for category in val.ground_truth["categories"]] == val.class_names


def test_areas_and_boxes_as_words_do_not_reach_the_referee(tiny_coco):
    edit(tiny_coco, lambda c: c["annotations"][0].update(area=None, bbox=["5", 5, 10, 20]))
    first = load_split(tiny_coco, "train").ground_truth["annotations"][0]
    assert (first["area"], first["bbox"]) == (200, [5.0, 5, 10, 20])


def test_real_photos_read_without_a_problem(shared):
    for root, split, images, crowds in (
        ("coco_mini", "train", 543, 64),
        ("coco_mini", "val", 106, 12),
        ("voc2007", "train", 2600, 1551),
        ("voc2007", "val", 400, 229),
    ):
        data = load_split(shared / "data/detection" / root, split)
        assert len(data.records) == images
        assert sum(record.is_crowd.sum() for record in data.records) == crowds


def test_photos_that_training_could_not_read_are_found_at_once(tiny_coco):
    """Truncated, and of another size; one that is annotated as it is stored, not as EXIF turns it, is good."""
    cut, turned = tiny_coco / "train/002.png", tiny_coco / "train/004.png"
    cut.write_bytes(cut.read_bytes()[:-50])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(turned).save(turned, exif=exif)
    Image.new("RGB", (64, 96)).save(tiny_coco / "train/003.png")
    with pytest.raises(ValueError, match=r"002\.png is truncated.* \(and 1 more such problem\); correct the data"):
        load_split(tiny_coco, "train")
    split = load_split(tiny_coco, "train", bad_data="skip")
    assert [record.path.name for record in split.records] == [f"{i:03d}.png" for i in (1, 4, 5, 6, 7, 8)]
    assert {image["id"] for image in split.ground_truth["images"]} == {1, 4, 5, 6, 7, 8}
    assert {annotation["image_id"] for annotation in split.ground_truth["annotations"]} == {1, 4, 5, 6, 7, 8}
    assert split.skipped[0].endswith("002.png is truncated: its end is missing (" + str(cut.stat().st_size) + " bytes)")
    assert split.skipped[1].endswith("003.png has 64x96 pixels, its annotation says 96x64")
    assert "skipped 2: image" in split.describe()


def test_a_part_of_a_split_has_the_same_images_in_both_forms(tiny_coco):
    """In the order that was asked for; what is asked for twice is one image for the referee."""
    whole = load_split(tiny_coco, "train")
    before = json.dumps(whole.ground_truth)
    for indices in ([2, 0, 2], [3, 1], []):
        part = whole.take(iter(indices))
        ids = [whole.records[i].image_id for i in indices]
        assert [record.image_id for record in part.records] == ids
        everything, referee = COCO(), COCO()
        everything.dataset, referee.dataset = whole.ground_truth, part.ground_truth
        everything.createIndex()
        referee.createIndex()
        assert sorted(referee.getImgIds()) == sorted(set(ids))
        assert set(referee.getAnnIds()) == {i for image_id in ids for i in everything.getAnnIds(imgIds=[image_id])}
        assert len(part.ground_truth["images"]) == len(set(ids))
    assert json.dumps(whole.ground_truth) == before
