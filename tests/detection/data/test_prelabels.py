"""Data sets of predicted objects: our readers and those of other tools read what was found."""

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from apps.common.media.watch import Watch
from apps.detection.data import prelabels
from apps.detection.data.load import load_split
from apps.detection.data.prelabels import Labelled, labelled_photos, write_data_set
from tests.conftest import draw_tiny_coco

CLASSES = {"traffic light": 10, 'a "dog" & <cat>': 18, "yes": 3}
FOUND = {
    "plain.jpg": [("yes", (10.4, 5.6, 60.49, 39.51)), ("traffic light", (0.0, 0.0, 80.0, 40.0))],
    "turned.jpg": [('a "dog" & <cat>', (3.3, 50.2, 30.7, 79.9))],
    "Day 1/péche 夜.JPG": [("yes", (79.7, 39.8, 80.0, 40.0))],
    "Day 1/plain.jpg": [("yes", (-1.0, 2.0, 20.0, 90.0))],
    "PLAIN.png": [],
    "classes.jpg": [("traffic light", (1, 1, 9, 9))],
    "images/12:30?.jpg": [("yes", (20, 20, 40, 30))],
    "no suffix": [("yes", (30, 20, 40, 30))],
}


@pytest.fixture
def photos(tmp_path) -> list[Labelled]:
    """Photos of 80x40 pixels, one stored so and turned by EXIF to 40x80."""
    made = []
    for i, (name, objects) in enumerate(FOUND.items()):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "turned.jpg" else 1
        noise = np.random.default_rng(i).integers(0, 255, (40, 80, 3), np.uint8)
        Image.fromarray(noise).save(path, format="PNG" if path.suffix == ".png" else "JPEG", exif=exif)
        size = (40, 80) if name == "turned.jpg" else (80, 40)
        made.append(Labelled(path, Path(name), *size, objects))
    return made


def expected(photo: Labelled) -> list[tuple[str, list[float]]]:
    """Names and boxes as far as they are in the photo."""
    limits = (photo.width, photo.height) * 2
    return [
        (name, [min(max(v, 0.0), most) for v, most in zip(box, limits, strict=True)]) for name, box in photo.objects
    ]


@pytest.mark.parametrize("save_as", ["coco", "yolo", "voc"])
def test_what_is_written_is_read_again(photos, tmp_path, save_as):
    write_data_set(tmp_path / "set", save_as, photos, CLASSES)
    split = load_split(tmp_path / "set", "train", val_fraction=0)
    rows = (tmp_path / "set/photos.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(split.records) == len(rows) == len(photos)
    assert split.skipped == []
    by_bytes = {record.path.read_bytes(): record for record in split.records}
    for photo in photos:
        record = by_bytes[photo.path.read_bytes()]
        assert f"{record.path.name}," in "\n".join(rows)
        assert (record.width, record.height) == (photo.width, photo.height)
        found = sorted(
            zip([split.class_names[k - 1] for k in record.labels], record.boxes_xyxy_px.tolist(), strict=True)
        )
        for (name, box), (wanted, at) in zip(found, sorted(expected(photo)), strict=True):
            assert name == wanted
            np.testing.assert_allclose(box, at, atol=0.5 if at[2] - at[0] > 1 else 2.0)
    stems = [Path(row.split(",")[0]).stem.casefold() for row in rows]
    assert len(set(stems)) == len(stems) and "classes" not in stems
    plain = {"plain.jpg", "turned.jpg", "Day_1_péche_夜.JPG", "Day_1_plain.jpg", "PLAIN-2.png", "classes-2.jpg"}
    assert {record.path.name for record in split.records} == {*plain, "images_12_30_.jpg", "no_suffix.jpg"}


def test_coco_is_read_by_pycocotools(photos, tmp_path):
    write_data_set(tmp_path / "set", "coco", photos, CLASSES)
    coco = COCO(str(tmp_path / "set/annotations/instances_default.json"))
    assert {one["name"]: one["id"] for one in coco.loadCats(coco.getCatIds())} == CLASSES
    (turned,) = (one for one in coco.dataset["images"] if one["file_name"] == "turned.jpg")
    assert (turned["width"], turned["height"]) == (40, 80)
    (box,) = coco.loadAnns(coco.getAnnIds(imgIds=[turned["id"]]))
    assert box["bbox"] == pytest.approx([3.3, 50.2, 27.4, 29.7])
    assert box["area"] == pytest.approx(27.4 * 29.7, abs=0.01)


def test_yolo_is_read_as_labelimg_and_label_studio_do(photos, tmp_path):
    """LabelImg takes classes.txt beside the text files, Label Studio the one beside their folder."""
    write_data_set(tmp_path / "set", "yolo", photos, CLASSES)
    for room in ("", "labels"):
        names = (tmp_path / "set" / room / "classes.txt").read_text(encoding="utf-8").strip("\n").split("\n")
        assert names == list(CLASSES)
    (line,) = (tmp_path / "set/labels/turned.txt").read_text().splitlines()
    label, cx, cy, w, h = line.split(" ")
    assert names[int(label)] == 'a "dog" & <cat>'
    box = [(float(cx) - float(w) / 2) * 40, (float(cy) - float(h) / 2) * 80, float(w) * 40, float(h) * 80]
    assert box == pytest.approx([3.3, 50.2, 27.4, 29.7], abs=0.01)
    assert len(list((tmp_path / "set/labels").iterdir())) == len(photos) + 1


def test_voc_is_read_as_labelimg_and_cvat_do(photos, tmp_path):
    """LabelImg takes whole numbers; CVAT looks for the list of photos."""
    write_data_set(tmp_path / "set", "voc", photos, CLASSES)
    root = ElementTree.parse(tmp_path / "set/Annotations/plain.xml").getroot()
    assert root.findtext("filename") == "plain.jpg"
    boxes = [[int(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")] for box in root.iter("bndbox")]
    assert boxes == [[11, 7, 60, 40], [1, 1, 80, 40]]  # from 1, the last pixel inside
    listed = (tmp_path / "set/ImageSets/Main/default.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(listed) == sorted(path.stem for path in (tmp_path / "set/Annotations").iterdir())


def test_photos_are_copied_where_they_cannot_be_linked(photos, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("another disk")

    write_data_set(tmp_path / "linked", "yolo", photos, CLASSES)
    assert os.path.samefile(tmp_path / "linked/images/plain.jpg", photos[0].path)
    monkeypatch.setattr(prelabels.os, "link", refuse)
    write_data_set(tmp_path / "copied", "yolo", photos, CLASSES)
    assert not os.path.samefile(tmp_path / "copied/images/plain.jpg", photos[0].path)
    assert (tmp_path / "copied/images/plain.jpg").read_bytes() == photos[0].path.read_bytes()


def test_nothing_is_left_of_a_data_set_that_fails_and_none_is_written_over(photos, tmp_path):
    with pytest.raises(FileNotFoundError):
        write_data_set(tmp_path / "out/set", "coco", [photos[0]._replace(path=tmp_path / "gone.jpg")], CLASSES)
    assert list((tmp_path / "out").iterdir()) == []
    write_data_set(tmp_path / "out/set", "coco", photos, CLASSES)
    with pytest.raises(ValueError, match="is there, perhaps with corrected labels"):
        write_data_set(tmp_path / "out/set", "coco", photos, CLASSES)


def unlabelled(*sources: str) -> list[Path]:
    watch = Watch(sources, out=None, app="detection", title="", page="")
    watch.leave_out_labelled(sources, labelled_photos)
    return sorted(path for path, _ in watch.source.files)


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc"])
def test_photos_with_labels_are_left_out(photos, tmp_path, capsys, layout):
    """A label file without objects is one; a photo that no entry or file is about has none."""
    root = tmp_path / "set"
    write_data_set(root, layout, photos, CLASSES)
    folder = root / ("JPEGImages" if layout == "voc" else "images")
    if layout == "coco":
        path = root / "annotations/instances_default.json"
        content = json.loads(path.read_text())
        gone = [one["id"] for one in content["images"] if one["file_name"] in ("turned.jpg", "plain.jpg")]
        content["images"] = [one for one in content["images"] if one["id"] not in gone]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in gone]
        path.write_text(json.dumps(content))
    else:
        suffix = {"yolo": "labels/{}.txt", "voc": "Annotations/{}.xml"}[layout]
        for stem in ("turned", "plain"):
            (root / suffix.format(stem)).unlink()
    left = unlabelled(str(root))
    assert left == [folder / "plain.jpg", folder / "turned.jpg"]
    assert "6 of 8 photos have labels and are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="needs the folder of a data set"):
        unlabelled(*map(str, left))
    for path in left:
        path.unlink()
    with pytest.raises(ValueError, match="all 6 photos have labels"):
        unlabelled(str(root))


def test_a_photo_of_a_coco_file_with_splits_has_labels(tmp_path):
    root = draw_tiny_coco(tmp_path / "tiny")
    photos = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))
    new = root / "new.jpg"
    Image.new("RGB", (8, 8)).save(new)
    assert unlabelled(*map(str, photos), str(root)) == [new]
