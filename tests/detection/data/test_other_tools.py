"""Annotations as other tools export them: each is read with the boxes that it means, or refused by name."""

import json
import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.detection.data.load import load_split, load_splits
from apps.detection.evaluation.metrics import coco_metrics, crowded_note
from tests.detection.data.test_coco_split import edit

WIDTH, HEIGHT = 80, 40
BOX = {"a": [16, 8, 48, 24], "b": [8, 4, 24, 12], "c": [40, 20, 72, 36]}  # xyxy in pixels
YOLO = {"a": "0 0.4 0.4 0.4 0.4\n", "b": "1 0.2 0.2 0.2 0.2\n", "c": "1 0.7 0.7 0.4 0.4\n"}


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path, format="JPEG")


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)


def boxes(split) -> dict[str, list[list[float]]]:
    return {r.path.stem: [[round(v, 3) for v in box] for box in r.boxes_xyxy_px.tolist()] for r in split.records}


ONE_BOX = {stem: [box] for stem, box in BOX.items()}


def yolo(root: Path, *, labels: str = "labels", photos: str = "images", text: str = "names: [cat, dog]") -> Path:
    for i, (stem, line) in enumerate(YOLO.items()):
        photo(root / photos / f"{stem}.jpg", i)
        write(root / labels / f"{stem}.txt", line)
    if text:
        write(root / "data.yaml", f"train: {photos}\n{text}\n")
    return root


@pytest.mark.parametrize("name", ["yes", "010", "1.10", "12:30"])
def test_yolo_class_names_are_as_written(tmp_path, name):
    for text in (f"names: [{name}, dog]", f"names:\n  0: {name}\n  1: dog"):
        assert load_split(yolo(tmp_path, text=text), "train", val_fraction=0).class_names == [name, "dog"]


def test_nested_aliases_of_yaml_are_one_line_at_once(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    start = time.monotonic()
    for ask in ("names: *a11", "names: [cat, *a11]", "names: [cat, dog]\nval: *a11", "names: {0: cat, 1: *a11}"):
        with pytest.raises(ValueError, match=r"data\.yaml: (names|val) must be") as error:
            load_split(yolo(tmp_path, text="\n".join([*lines, ask])), "train")
        assert len(str(error.value)) < 1000
    assert time.monotonic() - start < 10


def test_label_files_of_every_name_are_found(tmp_path):
    root = yolo(tmp_path)
    (root / "labels/a.txt").rename(root / "labels/a.jpg.txt")
    (root / "labels/b.txt").rename(root / "labels/pe\u0302che.txt")
    (root / "images/b.jpg").rename(root / "images/p\u00eache.jpg")
    found = boxes(load_split(root, "train", val_fraction=0))
    assert found == {"a": [BOX["a"]], "p\u00eache": [BOX["b"]], "c": [BOX["c"]]}


@pytest.mark.parametrize("kind", ["nowhere", "itself", "device", "pipe", "folder"])
def test_a_text_file_that_is_none_does_not_make_its_photo_empty(tmp_path, kind):
    root = yolo(tmp_path)
    (text := root / "labels/a.txt").unlink()
    if kind == "pipe":
        os.mkfifo(text)
    elif kind == "folder":
        text.mkdir()
    else:
        text.symlink_to({"nowhere": "gone.txt", "itself": "a.txt", "device": "/dev/zero"}[kind])
    with pytest.raises(ValueError, match=r"labels/a\.txt (does not exist|cannot be read: )"):
        load_split(root, "train", val_fraction=0)


def test_a_number_of_yolo_with_an_underscore_is_none(tmp_path):
    write(yolo(tmp_path) / "labels/a.txt", "0 0.5 0.5 0_1 0.4")
    with pytest.raises(ValueError, match=r"a\.txt line 1 is not of numbers: '0 0\.5 0\.5 0_1 0\.4'"):
        load_split(tmp_path, "train", val_fraction=0)


@pytest.mark.parametrize("change", [str.upper, str.capitalize])
def test_suffixes_in_capitals_are_found(tmp_path, change):
    def renamed(root: Path) -> Path:
        for path in sorted(root.rglob("*.*")):
            path.rename(path.with_suffix(f".{change(path.suffix[1:])}"))
        return root

    write(yolo(tmp_path / "listed") / "list.txt", "images/a.jpg\nimages/b.jpg\nimages/c")
    write(tmp_path / "listed/data.yaml", "train: list.txt\nnames: [cat, dog]")
    write(yolo(tmp_path / "plain", text="") / "classes.txt", "cat\ndog")
    roots = [
        yolo(tmp_path / "yolo"),
        tmp_path / "listed",
        tmp_path / "plain",
        voc(tmp_path / "voc"),
        coco(tmp_path / "c"),
    ]
    write(tmp_path / "voc/ImageSets/Main/train.txt", "a\nb\nc")
    for root in roots:
        assert boxes(load_split(renamed(root), "train", val_fraction=0)) == ONE_BOX, root


def test_yolo_folders_in_capitals_are_found(tmp_path):
    root = yolo(tmp_path, labels="Labels", photos="Images")
    assert boxes(load_split(root, "train", val_fraction=0)) == ONE_BOX


def test_another_number_of_classes_than_yolo_names_is_refused(tmp_path):
    yolo(tmp_path, text="nc: 2\nnames: [cat, dog]")
    assert boxes(load_split(tmp_path, "train", val_fraction=0)) == ONE_BOX
    yolo(tmp_path, text="nc: 3\nnames: [cat, dog]")
    with pytest.raises(ValueError, match=r"data\.yaml: nc is '3', but names has 2 classes"):
        load_split(tmp_path, "train", val_fraction=0)


def test_label_files_without_a_photo_are_counted_whatever_numbers_they_have(tmp_path):
    root = yolo(tmp_path)
    for stem, line in {"x": "-1 0.5 0.5 0.1 0.1", "y": "0 5e-1 .5 .1 .1"}.items():
        write(root / "labels" / f"{stem}.txt", line)
    write(root / "labels/classes.txt", "cat\ndog\n")
    assert "2 text files of train have no photo" in load_split(root, "train", val_fraction=0).describe()


def test_one_label_file_of_two_photos_is_refused(tmp_path):
    root = yolo(tmp_path)
    photo(root / "images/a.png", 9)
    with pytest.raises(ValueError, match=r"labels/a\.txt may have the objects of a\.jpg and a\.png"):
        load_split(root, "train", val_fraction=0)
    split = load_split(root, "train", val_fraction=0, bad_data="skip")
    assert boxes(split) == {"b": [BOX["b"]], "c": [BOX["c"]]}
    write(root / "labels/a.png.txt", YOLO["b"])
    found = {r.path.name: r.labels.tolist() for r in load_split(root, "train", val_fraction=0).records}
    assert found == {"a.jpg": [1], "a.png": [2], "b.jpg": [2], "c.jpg": [2]}


KEYPOINTS = {
    "score and track id": "0 0.4 0.4 0.4 0.4 0.9 1",
    "one point": "0 0.4 0.4 0.4 0.4 0.45 0.5",
    "two points": "0 0.4 0.4 0.4 0.4 0.45 0.5 0.3 0.3",
    "five points": "0 0.4 0.4 0.4 0.4 0.3 0.3 0.5 0.3 0.4 0.4 0.3 0.5 0.5 0.5",
    "two points with flags": "0 0.4 0.4 0.4 0.4 0.3 0.3 1 0.5 0.5 1",
}


@pytest.mark.parametrize("kind", KEYPOINTS)
def test_what_follows_a_box_is_no_polygon(tmp_path, kind):
    root = yolo(tmp_path)
    write(root / "labels/a.txt", YOLO["b"] + KEYPOINTS[kind] + "\n")
    with pytest.raises(ValueError, match=r"labels/a\.txt line 2 has \d+ numbers, but reads as a box with more"):
        load_split(root, "train", val_fraction=0)
    assert boxes(load_split(root, "train", val_fraction=0, bad_data="skip"))["a"] == [BOX["b"]]


def test_outlines_stay_polygons(tmp_path):
    """A triangle, a turned box in the middle of the photo, and a circle of 40 points each have their own box."""
    root = yolo(tmp_path)
    circle = [(0.5 + 0.2 * math.cos(t), 0.5 + 0.2 * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 40, False)]
    lines = {
        "a": "0 0.2 0.2 0.8 0.2 0.5 0.8",
        "b": "0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5",
        "c": "1 " + " ".join(f"{v:.6f}" for point in circle for v in point),
    }
    expected = {"a": [16, 8, 64, 32], "b": [32, 16, 48, 24], "c": [24, 12, 56, 28]}
    for names in (["a"], ["b"], ["c"], ["a", "b", "c"]):
        for name, line in YOLO.items():
            write(root / f"labels/{name}.txt", lines[name] if name in names else line)
        found = boxes(load_split(root, "train", val_fraction=0))
        assert all(found[name][0] == pytest.approx(expected[name], abs=0.1) for name in names)


def test_yolo_without_a_yaml_is_read(tmp_path):
    """Label Studio (classes.txt), LabelImg (all in one folder), CVAT (obj.names, a list with a folder that is not)."""
    studio = yolo(tmp_path / "studio", text="")
    write(studio / "classes.txt", "cat\ndog\n")
    write(studio / "notes.json", '{"categories": []}')
    one = yolo(tmp_path / "one", labels=".", photos=".", text="")
    write(one / "classes.txt", "cat\ndog")
    cvat = yolo(tmp_path / "cvat", labels="obj_train_data", photos="obj_train_data", text="")
    write(cvat / "obj.names", "cat\ndog\n")
    write(cvat / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(cvat / "train.txt", "".join(f"data/obj_train_data/{stem}.jpg\n" for stem in YOLO))
    for root in (studio, one, cvat):
        split = load_split(root, "train", val_fraction=0)
        assert (boxes(split), split.class_names) == (ONE_BOX, ["cat", "dog"])
    assert "names are read without their first 1 folders" in split.describe()
    for name in ("train", "val"):
        (studio / "images" / name).mkdir()
    shutil.move(studio / "images/a.jpg", studio / "images/val")
    shutil.move(studio / "images/b.jpg", studio / "images/train")
    for name, stem in (("val", "a"), ("train", "b")):
        (studio / "labels" / name).mkdir()
        shutil.move(studio / f"labels/{stem}.txt", studio / "labels" / name)
    train, val = load_splits(studio, ("train", "val"))
    assert (boxes(train), boxes(val)) == ({"b": [BOX["b"]]}, {"a": [BOX["a"]]})


def test_windows_paths_of_yolo_are_read(tmp_path):
    root = yolo(tmp_path, photos="images/train", labels="labels/train")
    for train in ("images\\train", ".\\images\\train\\", "list.txt"):
        write(root / "data.yaml", f"train: '{train}'\nnames: [cat, dog]")
        write(root / "list.txt", "".join(f".\\images\\train\\{stem}.jpg\n" for stem in YOLO))
        assert boxes(load_split(root, "train", val_fraction=0)) == ONE_BOX


def coco(root: Path, change=lambda content: None, encoding: str = "utf-8") -> Path:
    images, annotations = [], []
    for i, (stem, (x0, y0, x1, y1)) in enumerate(BOX.items(), start=1):
        photo(root / "images" / f"{stem}.jpg", i)
        images.append({"id": i, "file_name": f"{stem}.jpg", "width": WIDTH, "height": HEIGHT})
        what = {"id": i, "image_id": i, "category_id": 2, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        annotations.append({**what, "area": (x1 - x0) * (y1 - y0)})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 2, "name": "pêche"}]}
    change(content)
    write(root / "annotations/instances_train.json", json.dumps(content, ensure_ascii=False), encoding)
    return root


def each(kind: str, change):
    """A change of every entry of a kind."""

    def apply(content) -> None:
        for entry in content[kind]:
            change(entry)

    return apply


def as_polygon(annotation) -> None:
    x, y, w, h = annotation.pop("bbox")
    annotation["segmentation"] = [[x, y, x + w / 2, y, x, y + h / 2], [x, y + h, x + w, y + h, x + w, y]]


COCO_FORMS = {
    "ids of text": lambda c: (
        each("images", lambda one: one.update(id=str(one["id"])))(c),
        each("annotations", lambda one: one.update(image_id=float(one["image_id"]), category_id="2"))(c),
    ),
    "ids that are words": lambda c: (
        each("images", lambda one: one.update(id=f"img_{one['id']}"))(c),
        each("annotations", lambda one: one.update(image_id=f"img_{one['image_id']}"))(c),
    ),
    "ids of both kinds": lambda c: (
        c["images"][0].update(id="x"),
        [one.update(image_id="x") for one in c["annotations"] if one["image_id"] == 1],
    ),
    "classes that are words": lambda c: (
        each("categories", lambda one: one.update(id="fish"))(c),
        each("annotations", lambda one: one.update(category_id="fish"))(c),
    ),
    "classes of text": each("categories", lambda one: one.update(id="2")),
    "classes with a point": each("categories", lambda one: one.update(id=2.0)),
    "addresses": each("images", lambda one: one.update(coco_url="http://x.org/train2017/" + one.pop("file_name"))),
    "polygons": each("annotations", as_polygon),
    "no suffix": each("images", lambda one: one.update(file_name=one["file_name"][:-4])),
    "windows": each("images", lambda one: one.update(file_name="images\\" + one["file_name"])),
    "elsewhere": each("images", lambda one: one.update(file_name="..\\..\\upload\\4\\" + one["file_name"])),
}


@pytest.mark.parametrize("form", COCO_FORMS)
def test_coco_of_other_tools_is_read(tmp_path, form):
    split = load_split(coco(tmp_path, COCO_FORMS[form]), "train", val_fraction=0)
    assert (boxes(split), split.class_names, split.skipped) == (ONE_BOX, ["pêche"], [])


def test_a_word_that_is_no_id_of_an_image_or_class_is_named(tmp_path):
    for field, message in (
        ("image_id", "there is no image with id other"),
        ("category_id", "category id other is not"),
    ):
        root = coco(tmp_path, each("annotations", lambda one, field=field: one.update({field: "other"})))
        with pytest.raises(ValueError, match=rf"instances_train\.json: annotation 1.*{message}"):
            load_split(root, "train", val_fraction=0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_coco_in_other_encodings_is_read(tmp_path, encoding):
    assert boxes(load_split(coco(tmp_path, encoding=encoding), "train", val_fraction=0)) == ONE_BOX


def test_a_photo_of_two_entries_is_refused_for_each_lacks_the_other_ones_objects(tmp_path):
    def twice(content) -> None:
        content["images"].append({**content["images"][0], "id": 9, "file_name": "./a.jpg"})

    root = coco(tmp_path / "coco", twice)
    with pytest.raises(ValueError, match=r"'\./a\.jpg' and 'a\.jpg' are|several entries are about a\.jpg"):
        load_split(root, "train", val_fraction=0)
    root = coco(tmp_path / "again", lambda content: content["images"].append({**content["images"][0], "id": 9}))
    with pytest.raises(ValueError, match=r"image 'a\.jpg' \(id 1\): several entries are about a\.jpg"):
        load_split(root, "train", val_fraction=0)
    split = load_split(root, "train", val_fraction=0, bad_data="skip")
    assert (sorted(boxes(split)), len(split.skipped)) == (["b", "c"], 2)
    root = voc(tmp_path / "voc")
    shutil.copy(root / "Annotations/a.xml", root / "Annotations/a.jpg.xml")
    with pytest.raises(ValueError, match=r"Annotations/a(\.jpg)?\.xml: several entries are about JPEGImages/a\.jpg"):
        load_split(root, "train", val_fraction=0)


def test_one_coco_class_in_both_forms_of_unicode_is_one(tmp_path):
    root = coco(tmp_path)
    content = json.loads((root / "annotations/instances_train.json").read_text(encoding="utf-8"))
    content["categories"][0]["name"] = "pe\u0302che "
    write(root / "annotations/instances_val.json", json.dumps(content))
    (root / "annotations/instances_test.json").mkdir()  # is no file
    train, val = load_splits(root, ("train", "val"))
    assert train.class_names == val.class_names == ["p\u00eache"]
    assert "3 of them are in train, too" in val.describe()


@pytest.mark.parametrize("name, known", [(0, "0"), (7, "7"), (" x ", "x"), ("  ", None), (False, None), ([], None)])
def test_coco_class_names_are_words_or_numbers(tmp_path, name, known):
    root = coco(tmp_path, each("categories", lambda one: one.update(name=name)))
    if known is None:
        with pytest.raises(ValueError, match="a category needs a whole-number id and a name"):
            load_split(root, "train", val_fraction=0)
    else:
        assert load_split(root, "train", val_fraction=0).class_names == [known]


@pytest.mark.parametrize("name", ["a\0.jpg", "a" * 5000 + ".jpg", "/dev/zero", "..", ".", "f.jpg", "d.jpg"])
def test_names_that_no_file_has_or_that_never_end_are_named(tmp_path, name):
    root = coco(tmp_path, lambda content: content["images"][0].update(file_name=name))
    os.mkfifo(root / "images/f.jpg")
    (root / "images/d.jpg").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"instances_train\.json: image .* is not in .*images") as error:
        load_split(root, "train", val_fraction=0)
    assert len(str(error.value)) < 1000 and str(error.value).isprintable()
    split = load_split(root, "train", val_fraction=0, bad_data="skip")
    assert (sorted(boxes(split)), len(split.skipped)) == (["b", "c"], 1)
    assert len(split.describe()) < 1000


def test_coco_names_that_say_nothing_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"instances_train\.json: its images have no file_name"):
        load_split(coco(tmp_path, each("images", lambda one: one.pop("file_name"))), "train")
    same = each("images", lambda one: one.update(file_name=f"{one['id']}/a.jpg"))
    with pytest.raises(ValueError, match=r"'2/a\.jpg' and '1/a\.jpg' are .*a\.jpg"):
        load_split(coco(tmp_path, same), "train")
    photo(tmp_path / "images/a.png", 7)
    with pytest.raises(ValueError, match=r"'a' may be any of a\.jpg, a\.png"):
        load_split(coco(tmp_path, COCO_FORMS["no suffix"]), "train", val_fraction=0)


def test_a_polygon_that_is_none_has_no_box(tmp_path):
    for wrong in ([[1, 2, 3, 4]], [[1, 2, 3, 4, 5, "6"]], {"counts": [1, 2]}, [[1, 2, 3, 4, 5, float("nan")]]):
        change = each("annotations", lambda one, wrong=wrong: (one.pop("bbox"), one.update(segmentation=wrong)))
        with pytest.raises(ValueError, match="bbox must be four numbers"):
            load_split(coco(tmp_path, change), "train")


VOC = (
    "<annotation><filename>{stem}.jpg</filename><size><width>80</width><height>40</height></size>{objects}</annotation>"
)
BNDBOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def voc_box(stem: str) -> str:
    x0, y0, x1, y1 = BOX[stem]
    return BNDBOX.format(x0 + 1, y0 + 1, x1, y1)


def voc(root: Path, labels: str = "Annotations", photos: str = "JPEGImages", *, name: str = "dog", head="", **coding):
    for i, stem in enumerate(BOX):
        photo(root / photos / f"{stem}.jpg", i)
        text = VOC.format(stem=stem, objects=f"<object><name>{name}</name>{voc_box(stem)}</object>")
        write(root / labels / f"{stem}.xml", head + text, **coding)
    return root


@pytest.mark.parametrize(
    "rooms", [("annots", "images"), ("XML", "imgs"), ("Annotations/day", "JPEGImages/day"), ("labels", "Images")]
)
def test_voc_folders_of_other_names_are_read(tmp_path, rooms):
    assert boxes(load_split(voc(tmp_path, *rooms), "train", val_fraction=0)) == ONE_BOX


def test_voc_folders_within_are_told_apart(tmp_path):
    voc(tmp_path, "Annotations/day", "JPEGImages/day")
    voc(tmp_path, "Annotations/night", "JPEGImages/night", name="cat")
    for i, stem in enumerate(BOX):
        photo(tmp_path / f"JPEGImages/night/{stem}.jpg", 100 + i)
    split = load_split(tmp_path, "train", val_fraction=0)
    named = {r.path.relative_to(tmp_path).as_posix(): r.labels.tolist() for r in split.records}
    assert named == {f"JPEGImages/{room}/{s}.jpg": [n] for room, n in (("day", 2), ("night", 1)) for s in BOX}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb2312", "gbk"])
def test_voc_in_other_encodings_is_read(tmp_path, encoding):
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n' if encoding.startswith("gb") else ""
    split = load_split(voc(tmp_path, name="桃子", head=head, encoding=encoding), "train", val_fraction=0)
    assert (boxes(split), split.class_names) == (ONE_BOX, ["桃子"])


def test_every_box_of_a_voc_object_is_read(tmp_path):
    root = voc(tmp_path)
    several = f"<object><name>dog</name>{''.join(map(voc_box, BOX))}</object>"
    write(root / "Annotations/a.xml", VOC.format(stem="a", objects=several))
    assert boxes(load_split(root, "train", val_fraction=0))["a"] == list(BOX.values())


@pytest.mark.parametrize("again", ["name", "xmin", "filename"])
def test_other_elements_that_are_there_twice_are_named(tmp_path, again):
    root = voc(tmp_path)
    text = (root / "Annotations/a.xml").read_text()
    first = text[text.index(f"<{again}>") : text.index(f"</{again}>")] + f"</{again}>"
    write(root / "Annotations/a.xml", text.replace(first, first * 2))
    with pytest.raises(ValueError, match=rf"a\.xml.* has <{again}> more than once"):
        load_split(root, "train", val_fraction=0)


def corners(x0: float, y0: float, x1: float, y1: float, degrees: float) -> list[float]:
    """The box around the four turned corners, by complex numbers."""
    middle = complex((x0 + x1) / 2, (y0 + y1) / 2)
    turn = np.exp(1j * math.radians(degrees))
    points = [middle + (complex(x, y) - middle) * turn for x in (x0, x1) for y in (y0, y1)]
    x, y = [p.real for p in points], [p.imag for p in points]
    return [max(min(x), 0), max(min(y), 0), min(max(x), WIDTH), min(max(y), HEIGHT)]


@pytest.mark.parametrize("degrees", [90, 30, -75.5, 200, 725, "30", "12,5"])
def test_turned_boxes_of_cvat_are_upright_around_them(tmp_path, degrees):
    angle = float(str(degrees).replace(",", "."))
    expected = {stem: [pytest.approx(corners(*box, angle), abs=1e-3)] for stem, box in BOX.items()}
    turned = coco(tmp_path / "coco", each("annotations", lambda one: one.update(attributes={"rotation": degrees})))
    split = load_split(turned, "train", val_fraction=0)
    assert boxes(split) == expected
    assert "3 boxes with a rotation are the upright ones around them" in split.describe()
    kept = [(box[2] - box[0]) * (box[3] - box[1]) for box in (corners(*box, angle) for box in BOX.values())]
    areas = [one["area"] for one in split.ground_truth["annotations"]]
    assert areas == pytest.approx(np.minimum(kept, [512, 128, 512]).tolist())
    assert "cannot be right" not in split.describe()
    root = voc(tmp_path / "voc")
    for path in (root / "Annotations").iterdir():
        attribute = f"<attribute><name>rotation</name><value>{degrees}</value></attribute>"
        write(path, path.read_text().replace("</object>", f"<attributes>{attribute}</attributes></object>"))
    assert boxes(load_split(root, "train", val_fraction=0)) == expected


def test_a_rotation_of_nothing_turns_nothing(tmp_path):
    for rotation in (0, 0.0, 360, None, "", "0,0"):
        plain = coco(tmp_path, each("annotations", lambda one, r=rotation: one.update(attributes={"rotation": r})))
        assert boxes(load_split(plain, "train", val_fraction=0)) == ONE_BOX


@pytest.mark.parametrize("given", ["left", [90], float("nan"), 1e300, {"a": 1}])
def test_a_rotation_that_is_no_angle_is_named(tmp_path, given):
    root = coco(tmp_path, each("annotations", lambda one: one.update(attributes={"rotation": given})))
    with pytest.raises(ValueError, match=r"json: annotation 1 .*attributes\.rotation must be a number of degrees, got"):
        load_split(root, "train", val_fraction=0)


def test_a_box_as_a_word_is_named(tmp_path):
    for given in ("1234", {"1": 0, "2": 0, "3": 0, "4": 0}, "[1, 2, 3, 4]"):
        with pytest.raises(ValueError, match=r"annotation 1 .*bbox must be four numbers"):
            load_split(
                coco(tmp_path, each("annotations", lambda one, g=given: one.update(bbox=g))), "train", val_fraction=0
            )


@pytest.mark.parametrize("area", [-5, 0, 1, 0.16, 1e11, "512", 513 * 4])
def test_an_area_that_cannot_be_right_is_that_of_the_box_and_said(tmp_path, area):
    split = load_split(coco(tmp_path, each("annotations", lambda one: one.update(area=area))), "train", val_fraction=0)
    assert [one["area"] for one in split.ground_truth["annotations"]] == [512, 128, 512]
    assert "3 areas that cannot be right are those of the boxes" in split.describe()
    split = load_split(coco(tmp_path, each("annotations", lambda one: one.update(area=70.5))), "train", val_fraction=0)
    assert [one["area"] for one in split.ground_truth["annotations"]] == [70.5] * 3


def shifted(split) -> list[dict]:
    """Detections two pixels off, with unequal scores."""
    return [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": [one["bbox"][0] + 2, one["bbox"][1], *one["bbox"][2:]],
            "score": 0.9 - one["id"] / 100,
        }
        for one in split.ground_truth["annotations"]
    ]


def test_metrics_do_not_depend_on_how_large_the_ids_are(tmp_path):
    """Ids on both sides of 2^63, as hashes of names are; NumPy rounds such a mixture to doubles."""
    large = {1: 5, 2: 9223372036867121485, 3: 18446201141186068481}

    def rename(content) -> None:
        each("images", lambda one: one.update(id=large[one["id"]]))(content)
        each("annotations", lambda one: one.update(image_id=large[one["image_id"]], category_id=2**63 + 11))(content)
        each("categories", lambda one: one.update(id=2**63 + 11))(content)

    small = load_split(coco(tmp_path / "small"), "train", val_fraction=0)
    big = load_split(coco(tmp_path / "big", rename), "train", val_fraction=0)
    expected = coco_metrics(small, shifted(small)).values
    assert 0.5 < expected["AP"] < 1
    assert coco_metrics(big, shifted(big)).values == expected


def test_more_objects_than_coco_counts_are_told(tiny_coco):
    def add(content) -> None:
        content["annotations"] += [{**content["annotations"][0], "id": 100 + i} for i in range(150)]

    split = load_split(edit(tiny_coco, add), "train")
    counts = [len(record.labels) for record in split.records]
    assert crowded_note("train", counts).startswith("1 photos of train have more than 100 objects, up to 15")
    assert crowded_note("train", [100, 3]) == ""
