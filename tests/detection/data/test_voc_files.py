"""Reading Pascal VOC folders as people have them: what may be missing or wrong, and what is named as a problem."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.detection.data.load import find_data, load_split, load_splits
from apps.detection.evaluation.metrics import coco_metrics

OBJECT = """<object><name>{name}</name>{extra}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax>
<ymax>{box[3]}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"""
SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"
DIFFICULT = "<difficult>1</difficult>"


def add(folder: Path, stem: str, *objects, filename: str | None = None, size: str = SIZE, photos: str = "JPEGImages"):
    """A photo of 60x40 pixels and its XML file with objects (name, box, further elements)."""
    for inner in ("Annotations", photos):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(list((folder / photos).iterdir()))).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(folder / photos / f"{stem}.jpg")
    found = "".join(OBJECT.format(name=name, box=box, extra="".join(extra)) for name, box, *extra in objects)
    name = f"<filename>{stem + '.jpg' if filename is None else filename}</filename>"
    text = f"<annotation>{name}{size}{found}</annotation>"
    (folder / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")


@pytest.fixture
def voc(tmp_path) -> Path:
    root = tmp_path / "my voc"
    add(root, "one", ("dog", (1, 1, 60, 40)), ("cat", (11, 6, 20, 30), DIFFICULT))
    add(root, "two words", ("cat", (0, 0, 10.5, 10)), filename="two words")
    add(root, "three", filename="other.png", size="")
    add(root, "four", ("ox", (5, 5, 9, 9), "<difficult>0</difficult>"), size=SIZE.replace("60", "0"))
    return root


def lists(root: Path, **stems: str) -> None:
    (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for split, lines in stems.items():
        (root / f"ImageSets/Main/{split}.txt").write_text(lines)


def test_what_is_read(voc):
    """A box of the format covers its first and last pixel, counted from 1: 1 to 60 is the width of 60 pixels."""
    split = load_split(voc, "train", val_fraction=0)
    assert split.class_names == ["cat", "dog", "ox"]
    records = {record.path.name: record for record in split.records}
    assert sorted(records) == ["four.jpg", "one.jpg", "three.jpg", "two words.jpg"]
    one = records["one.jpg"]
    assert one.boxes_xyxy_px.tolist() == [[0, 0, 60, 40], [10, 5, 20, 30]]
    assert (one.labels.tolist(), one.is_crowd.tolist()) == ([2, 1], [False, True])
    assert records["two words.jpg"].boxes_xyxy_px.tolist() == [[0, 0, 10.5, 10]]
    assert {(record.width, record.height) for record in split.records} == {(60, 40)}
    assert len(records["three.jpg"].labels) == 0
    assert split.skipped == []


def test_difficult_objects_neither_help_nor_harm(voc):
    split = load_split(voc, "train", val_fraction=0)
    ids = dict(zip(split.class_names, split.category_ids, strict=True))
    image_of = {image["file_name"]: image["id"] for image in split.ground_truth["images"]}
    one = image_of["JPEGImages/one.jpg"]
    dog = {"image_id": one, "category_id": ids["dog"], "bbox": [0, 0, 60, 40], "score": 0.9}
    cat = {"image_id": image_of["JPEGImages/two words.jpg"], "category_id": ids["cat"], "bbox": [0, 0, 10.5, 10]}
    ox = {"image_id": image_of["JPEGImages/four.jpg"], "category_id": ids["ox"], "bbox": [4, 4, 5, 5], "score": 0.9}
    difficult = {"image_id": one, "category_id": ids["cat"], "bbox": [10, 5, 10, 25], "score": 0.95}
    for results in ([dog, {**cat, "score": 0.5}, ox], [dog, {**cat, "score": 0.5}, ox, difficult]):
        assert coco_metrics(split, results).values["AP"] == pytest.approx(1)


@pytest.mark.parametrize("word, crowd", [("1.0", True), (" Yes ", True), ("True", True), ("0.0", False), ("no", False)])
def test_difficult_in_other_words(voc, word, crowd):
    add(voc, "five", ("cat", (2, 5, 20, 8), f"<difficult>{word}</difficult>"))
    (record,) = [one for one in load_split(voc, "train", val_fraction=0).records if one.path.stem == "five"]
    assert record.is_crowd.tolist() == [crowd]


def test_splits_by_lists_share_one_list_of_classes(voc):
    lists(voc, train="one\ntwo words\n", val="three  1\n\n", trainval="one\ntwo words\nthree\n", test="four -1")
    train, val, test = load_splits(voc, ("train", "val", "test"))
    assert [len(split.records) for split in (train, val, test)] == [2, 1, 1]
    assert train.class_names == val.class_names == test.class_names == ["cat", "dog", "ox"]
    assert test.records[0].labels.tolist() == [3]
    with pytest.raises(ValueError, match=r"no split 'x'; there are train \(ImageSets/Main/train\.txt\), val"):
        load_split(voc, "x")


def test_trainval_is_divided_where_there_is_no_val(voc):
    lists(voc, trainval="one\ntwo words\nthree\n", test="four\n")
    train, val, test = load_splits(voc, ("train", "val", "test"))
    assert [len(split.records) for split in (train, val, test)] == [2, 1, 1]
    lists(voc, trainval="one\ntwo words\n")
    assert "1 XML files are in no list of ImageSets/Main, as three.xml" in load_split(voc, "train").describe()


def test_xml_beside_the_photos_in_folders_of_splits(voc):
    for split, stems in (("train", ("one", "three", "four")), ("valid", ("two words",))):
        (voc / split).mkdir()
        for stem in stems:
            (voc / f"Annotations/{stem}.xml").rename(voc / split / f"{stem}.xml")
            (voc / f"JPEGImages/{stem}.jpg").rename(voc / split / f"{stem}.jpg")
    shutil.rmtree(voc / "Annotations")
    train, val = load_splits(voc, ("train", "val"))
    assert (len(train.records), len(val.records)) == (3, 1)
    assert train.class_names == val.class_names == ["cat", "dog", "ox"]


FAULTS = {
    "no area": (
        (("cat", (9, 5, 9, 8)),),
        r"Annotations/bad.xml object 1 \(cat, xmin 9 ymin 5 xmax 9 ymax 8\) has no area",
    ),
    "swapped": ((("cat", (9, 5, 3, 8)),), "has no area"),
    "outside": ((("cat", (2, 5, 70, 8)),), r"bad.xml object 1 .*lies outside the image \(60x40 pixels\)"),
    "no number": ((("cat", ("", 5, 70, 8)),), "bad.xml object 1 has <bndbox> with"),
    "nan": ((("cat", ("nan", 5, 20, 8)),), r"bad.xml object 1 .*must be four numbers"),
    "no name": (((" ", (2, 5, 20, 8)),), "has no <name>"),
    "difficult": ((("cat", (2, 5, 20, 8), "<difficult>2</difficult>"),), r"has <difficult> '2': wanted is 0 or 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_by_name_and_skipped_with_a_count(voc, fault):
    objects, message = FAULTS[fault]
    add(voc, "bad", *objects)
    with pytest.raises(ValueError, match=message):
        load_split(voc, "train", val_fraction=0)
    split = load_split(voc, "train", val_fraction=0, bad_data="skip")
    assert len(split.skipped) == 1
    assert len(split.records) == 5


def test_damaged_files_are_refused_by_name(voc):
    (voc / "Annotations/a.xml").write_text("<annotation>")
    (voc / "Annotations/b.xml").write_text("<annotations/>")
    (voc / "Annotations/c.xml").write_text("<annotation><filename>c.jpg</filename></annotation>")
    lists(voc, train="one\ngone\none\na\nb\nc\n", val="three\n")
    with pytest.raises(ValueError, match=r"a\.xml is not valid XML: no element found.* \(and 4 more such problems"):
        load_split(voc, "train")
    skipped = load_split(voc, "train", bad_data="skip").skipped
    assert [any(part in sentence for sentence in skipped) for part in (
        "b.xml is no Pascal VOC file: it begins with <annotations>",
        "c.xml: no photo of that name is in",
        "nor is its <filename> 'c.jpg'",
        "train.txt line 2: there is no gone.xml",
        "train.txt line 3: one is listed twice",
    )] == [True] * 5  # fmt: skip


def test_a_photo_belongs_to_the_xml_of_its_stem(voc):
    """Tools that copy XML files leave another photo's <filename> in them."""
    add(voc, "copy", ("dog", (1, 1, 9, 9)), filename="one.jpg")
    (voc / "JPEGImages/two words.jpg").rename(voc / "JPEGImages/renamed.jpg")
    text = (voc / "Annotations/two words.xml").read_text()
    (voc / "Annotations/two words.xml").write_text(
        text.replace("<filename>two words", "<filename>C:\\photos\\renamed.JPG")
    )
    names = [record.path.name for record in load_split(voc, "train", val_fraction=0).records]
    assert sorted(names) == ["copy.jpg", "four.jpg", "one.jpg", "renamed.jpg", "three.jpg"]


def test_of_two_photos_of_a_stem_the_file_name_decides(voc):
    Image.new("RGB", (60, 40)).save(voc / "JPEGImages/one.png")
    split = load_split(voc, "train", val_fraction=0)
    assert "one.jpg" in {record.path.name for record in split.records}
    text = (voc / "Annotations/one.xml").read_text()
    (voc / "Annotations/one.xml").write_text(text.replace("one.jpg", "elsewhere.jpg"))
    with pytest.raises(ValueError, match=r"one\.xml: several photos of that name \(one\.jpg, one\.png\) are in"):
        load_split(voc, "train", val_fraction=0)


def test_of_two_photos_of_a_name_the_folder_decides(tmp_path):
    for folder, shade in (("x", 0), ("y", 99)):
        add(tmp_path, "1", ("dog", (1, 1, 9, 9)), photos=f"JPEGImages/{folder}")
        text = (
            (tmp_path / "Annotations/1.xml").read_text().replace("<filename>", f"<folder>{folder}</folder><filename>")
        )
        (tmp_path / f"Annotations/{folder}_1.xml").write_text(text)
        Image.new("RGB", (60, 40), (shade,) * 3).save(tmp_path / f"JPEGImages/{folder}/1.jpg")
    (tmp_path / "Annotations/1.xml").unlink()
    split = load_split(tmp_path, "train", val_fraction=0)
    assert [r.path.relative_to(tmp_path).as_posix() for r in split.records] == [
        "JPEGImages/x/1.jpg",
        "JPEGImages/y/1.jpg",
    ]


def test_two_xml_files_of_one_photo_are_named(voc):
    shutil.copy(voc / "Annotations/one.xml", voc / "Annotations/one.XML")
    with pytest.raises(ValueError, match=r"one\.xml and one\.XML are of one photo: leave one of them"):
        load_split(voc, "train", val_fraction=0)


def test_a_number_with_an_underscore_is_none(voc):
    text = (voc / "Annotations/one.xml").read_text()
    (voc / "Annotations/one.xml").write_text(text.replace("<xmax>60<", "<xmax>6_0<"))
    with pytest.raises(ValueError, match=r"one\.xml object 1 has <bndbox> with .*'xmax': '6_0'"):
        load_split(voc, "train", val_fraction=0)


@pytest.mark.parametrize("encoding", ["ansi", "hex", "punycode"])
def test_an_encoding_that_is_not_read_is_told_by_file(voc, encoding):
    text = (voc / "Annotations/one.xml").read_text()
    (voc / "Annotations/one.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?>{text}')
    with pytest.raises(ValueError, match=r"one\.xml is not valid XML: .*encoding"):
        load_split(voc, "train", val_fraction=0)
    assert len(load_split(voc, "train", val_fraction=0, bad_data="skip").records) == 3


def test_a_list_in_another_encoding_is_told_by_file(voc):
    lists(voc, train="one\n", val="three\n")
    (voc / "ImageSets/Main/val.txt").write_bytes("caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"val\.txt is not text in UTF-8: .*byte 0xe9"):
        load_split(voc, "val")


def test_xml_in_capitals_counts_and_photos_without_are_told(voc):
    for split, stems in (("train", ("one", "three")), ("valid", ("two words", "four"))):
        (voc / split).mkdir()
        for stem in stems:
            (voc / f"Annotations/{stem}.xml").rename(voc / split / f"{stem}{'.XML' if stem == 'one' else '.xml'}")
            (voc / f"JPEGImages/{stem}.jpg").rename(voc / split / f"{stem}.jpg")
    shutil.rmtree(voc / "Annotations")
    (voc / "valid/four.xml").unlink()
    train, val = load_splits(voc, ("train", "val"))
    assert (len(train.records), len(val.records)) == (2, 1)
    assert val.notes == ("1 photos without an XML file are not used, as valid/four.jpg",)


def test_photos_in_no_list_and_without_xml_are_told(voc):
    lists(voc, train="one\ntwo words\nthree\n", val="four\n")
    assert "not used" not in load_split(voc, "train").describe()
    Image.new("RGB", (60, 40)).save(voc / "JPEGImages/lonely.jpg")
    note = "1 photos without an XML file are not used, as JPEGImages/lonely.jpg"
    assert load_split(voc, "train").notes == (note,)


def test_the_raccoons_as_published(shared):
    train, val = load_splits(shared / "data/detection/raccoon_voc", ("train", "val"))
    assert (len(train.records), len(val.records)) == (48, 12)
    assert train.class_names == val.class_names == ["raccoon"]
    assert not {record.path for record in train.records} & {record.path for record in val.records}
    first = next(record for record in (*train.records, *val.records) if record.path.name == "raccoon-1.jpg")
    assert (first.width, first.height) == (650, 417)
    assert first.boxes_xyxy_px.tolist() == [[80, 87, 522, 408]]


def test_the_json_of_other_tools_beside_it_is_passed_by(voc):
    for name in ("train_log.json", "package.json", "result.json", "annotations.json"):
        (voc / name).write_text('{"name": "a", "epochs": [1, 2]}')
    assert find_data(voc).name == "Pascal VOC XML"
    (voc / "instances_train.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert find_data(voc).name == "COCO json"


def test_a_rotation_with_a_comma_is_a_number(tmp_path):
    """A quarter turn of a box of 20 x 10 pixels about its centre (30, 20) is one of 10 x 20."""
    turned = "<attributes><attribute><name>rotation</name><value>90,0</value></attribute></attributes>"
    add(tmp_path, "one", ("dog", (21, 16, 40, 25), turned))
    add(tmp_path, "two", ("dog", (1, 1, 9, 9)))
    lists(tmp_path, train="one\n", val="two\n")
    boxes = load_split(tmp_path, "train").records[0].boxes_xyxy_px
    np.testing.assert_allclose(boxes, [[25, 10, 35, 30]], atol=1e-4)
