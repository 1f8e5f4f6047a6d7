"""Damaged annotations of every kind: sane data, or a ValueError of one line, in bounded memory."""

import functools
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from apps.detection.data.coco_split import CocoSplit
from apps.detection.data.load import load_split
from apps.faceattr.data.layouts import list_faces
from apps.finegrained.data.known_sets import list_packed
from apps.finegrained.data.layouts import list_photos
from tests.damage import in_json, in_lines, in_xml, in_yaml
from tests.detection.data.test_other_tools import VOC, voc_box
from tests.fuzzing import Format, fuzz

BOX = [8, 4, 16, 8]


@functools.cache
def picture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(out, format="PNG")
    return out.getvalue()


def put(folder: Path, **files: bytes | str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def check(split: CocoSplit) -> None:
    assert len(split.class_names) == len(set(split.class_names)) and split.records
    assert split.describe().isprintable(), split.describe()
    for record in split.records:
        boxes, sides = np.asarray(record.boxes_xyxy_px), (record.width, record.height) * 2
        assert boxes.shape == (len(record.labels), 4) and np.isfinite(boxes).all(), boxes
        assert (boxes >= 0).all() and (boxes <= sides).all() and (boxes[:, 2:] > boxes[:, :2]).all(), boxes
        assert all(1 <= label <= len(split.class_names) for label in record.labels)


def read_coco(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), annotations__instances_train_dot_json=data)
    for bad_data in ("skip", "refuse"):
        check(load_split(folder, "train", val_fraction=0, bad_data=bad_data))


def coco_samples() -> list[bytes]:
    image = {"id": 1, "file_name": "a.png", "width": 80, "height": 40}
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 128, "iscrowd": 0}
    polygon = {**one, "id": 2, "segmentation": [[1, 2, 30, 2, 30, 20]], "attributes": {"rotation": 30.0}}
    content = {"images": [image], "annotations": [one, polygon], "categories": [{"id": 1, "name": "cat"}]}
    return [json.dumps(content, indent=indent).encode(coding) for indent, coding in ((None, "utf-8"), (1, "utf-16"))]


def read_voc(data: bytes, folder: Path) -> None:
    put(folder, JPEGImages__a_dot_png=picture(), Annotations__a_dot_xml=data)
    check(load_split(folder, "train", val_fraction=0))


def voc_samples() -> list[bytes]:
    text = VOC.format(stem="a", objects=f"<object><name>dog</name>{voc_box('a')}{voc_box('b')}</object>")
    return [text.encode(), ('<?xml version="1.0" encoding="gb2312"?>' + text.replace("dog", "桃子")).encode("gb2312")]


def read_yolo_yaml(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), labels__a_dot_txt="0 0.5 0.5 0.2 0.2", data_dot_yaml=data)
    check(load_split(folder / "data.yaml", "train", val_fraction=0))


def read_yolo_lines(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), labels__a_dot_txt=data, data_dot_yaml="names: [cat, dog]\ntrain: images")
    check(load_split(folder, "train", val_fraction=0))


def read_yolo_names(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), labels__a_dot_txt="0 0.5 0.5 0.2 0.2", classes_dot_txt=data)
    check(load_split(folder, "train", val_fraction=0))


def read_yolo_list(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), labels__a_dot_txt="0 0.5 0.5 0.2 0.2", train_dot_txt=data)
    put(folder, data_dot_yaml="names: [cat]\ntrain: train.txt")
    check(load_split(folder, "train", val_fraction=0))


def read_csv(data: bytes, folder: Path) -> None:
    put(folder, a_dot_png=picture(), b_dot_png=picture(), t_dot_csv=data)
    read_faces(folder / "t.csv")
    assert all(entry.class_name.strip() for entry in list_photos(folder / "t.csv").entries)


def read_attributes(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), images__b_dot_png=picture(), attributes_dot_csv=data)
    read_faces(folder)


def read_faces(source: Path) -> None:
    found = list_faces(source)
    assert found.labels.shape == (len(found.paths), len(found.attributes)) and np.isin(found.labels, (-1, 0, 1)).all()
    assert len(set(found.attributes)) == len(found.attributes) and all(found.attributes)
    assert len(found.splits) == len(found.identities) == len(found.paths)


def read_celeba(data: bytes, folder: Path) -> None:
    put(folder, img_align_celeba__1_dot_jpg=picture(), img_align_celeba__2_dot_jpg=picture())
    put(folder, list_attr_celeba_dot_txt=data)
    read_faces(folder)


def read_celeba_pairs(data: bytes, folder: Path) -> None:
    for name in ("list_eval_partition_dot_txt", "identity_CelebA_dot_txt"):
        put(folder, img_align_celeba__1_dot_jpg=picture(), img_align_celeba__2_dot_jpg=picture(), **{name: data})
    put(folder, list_attr_celeba_dot_txt="2\nMale Bald\n1.jpg 1 -1\n2.jpg -1 1\n")
    read_faces(folder)


CUB = {"images": b"1 a.png\n2 b.png\n", "image_class_labels": b"1 1\n2 2\n", "classes": b"1 001.Gull\n2 002.Tern\n"}


def read_cub(data: bytes, folder: Path) -> None:
    for name in (*CUB, "train_test_split"):
        lists = {**CUB, "train_test_split": b"1 1\n2 0\n", name: data}
        put(folder, images__a_dot_png=picture(), **{f"{key}_dot_txt": content for key, content in lists.items()})
        found = list_packed(folder)
        assert found and all(entry.class_name.strip() for entry in found.entries)


def read_dogs(data: bytes, folder: Path) -> None:
    photo = "Images__n02085620-Chihuahua__a_dot_png"
    put(folder, **{photo: picture()}, train_list_dot_txt=data, test_list_dot_txt=data)
    list_packed(folder)


FORMATS = {
    "COCO json": Format(coco_samples, read_coco, damage=in_json),
    "Pascal VOC XML": Format(voc_samples, read_voc, damage=in_xml),
    "YOLO yaml": Format(lambda: [b"path: .\nnames: {0: cat, 1: dog}\ntrain: images\n"], read_yolo_yaml, damage=in_yaml),
    "YOLO txt": Format(
        lambda: [b"0 0.5 0.5 0.2 0.2\n1 0.1 0.2 0.5 0.2 0.5 0.6 0.3 0.8\n"], read_yolo_lines, damage=in_lines
    ),
    "YOLO names": Format(lambda: [b"cat\ndog\n"], read_yolo_names, damage=in_lines, runs=50),
    "YOLO list": Format(lambda: [b"images/a.png\n./images/a.png\n"], read_yolo_list, damage=in_lines, runs=50),
    "CSV": Format(lambda: [b"file,label,split\na.png,1,train\nb.png,0,val\n"], read_csv, damage=in_lines),
    "attributes.csv": Format(
        lambda: [b"file,Hat,Smile,split,person\na.png,1,,train,7\nb.png,0,1,val,8\n"], read_attributes, damage=in_lines
    ),
    "CelebA": Format(lambda: [b"2\nMale Bald\n1.jpg 1 -1\n2.jpg -1 1\n"], read_celeba, damage=in_lines),
    "CelebA pairs": Format(lambda: [b"1.jpg 0\n2.jpg 1\n"], read_celeba_pairs, damage=in_lines, runs=50),
    "CUB list": Format(lambda: [b"1 1\n2 2\n"], read_cub, damage=in_lines, runs=50),
    "Stanford Dogs list": Format(lambda: [b"n02085620-Chihuahua/a.png\n"], read_dogs, damage=in_lines, runs=50),
}


def test_damaged_annotations(request):
    fuzz(__name__, request.config)
