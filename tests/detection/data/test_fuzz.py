"""Damaged annotations of every kind: a result, or a ValueError of one line, in bounded memory."""

import functools
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from apps.detection.data.load import load_split
from apps.faceattr.data.layouts import list_faces
from apps.finegrained.data.layouts import list_photos
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


def read_coco(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), annotations__instances_train_dot_json=data)
    load_split(folder, "train", val_fraction=0)
    load_split(folder, "train", val_fraction=0, bad_data="skip")


def coco_samples() -> list[bytes]:
    image = {"id": 1, "file_name": "a.png", "width": 80, "height": 40}
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 128, "iscrowd": 0}
    polygon = {**one, "id": 2, "segmentation": [[1, 2, 30, 2, 30, 20]], "attributes": {"rotation": 30.0}}
    content = {"images": [image], "annotations": [one, polygon], "categories": [{"id": 1, "name": "cat"}]}
    return [json.dumps(content, indent=indent).encode(coding) for indent, coding in ((None, "utf-8"), (1, "utf-16"))]


def read_voc(data: bytes, folder: Path) -> None:
    put(folder, JPEGImages__a_dot_png=picture(), Annotations__a_dot_xml=data)
    load_split(folder, "train", val_fraction=0)


def voc_samples() -> list[bytes]:
    text = VOC.format(stem="a", objects=f"<object><name>dog</name>{voc_box('a')}{voc_box('b')}</object>")
    return [text.encode(), ('<?xml version="1.0" encoding="gb2312"?>' + text.replace("dog", "桃子")).encode("gb2312")]


def read_yolo_yaml(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), labels__a_dot_txt="0 0.5 0.5 0.2 0.2", data_dot_yaml=data)
    load_split(folder / "data.yaml", "train", val_fraction=0)


def read_yolo_lines(data: bytes, folder: Path) -> None:
    put(folder, images__a_dot_png=picture(), labels__a_dot_txt=data, data_dot_yaml="names: [cat, dog]\ntrain: images")
    load_split(folder, "train", val_fraction=0)


def read_csv(data: bytes, folder: Path) -> None:
    put(folder, a_dot_png=picture(), b_dot_png=picture(), t_dot_csv=data)
    list_photos(folder / "t.csv")
    list_faces(folder / "t.csv")


def read_celeba(data: bytes, folder: Path) -> None:
    put(folder, img_align_celeba__1_dot_jpg=picture(), img_align_celeba__2_dot_jpg=picture())
    put(folder, list_attr_celeba_dot_txt=data)
    list_faces(folder)


FORMATS = {
    "COCO json": Format(coco_samples, read_coco),
    "Pascal VOC XML": Format(voc_samples, read_voc),
    "YOLO yaml": Format(lambda: [b"path: .\nnames: {0: cat, 1: dog}\ntrain: images\n"], read_yolo_yaml),
    "YOLO txt": Format(lambda: [b"0 0.5 0.5 0.2 0.2\n1 0.1 0.2 0.5 0.2 0.5 0.6 0.3 0.8\n"], read_yolo_lines),
    "CSV": Format(lambda: [b"file,label,split\na.png,1,train\nb.png,0,val\n"], read_csv),
    "CelebA": Format(lambda: [b"2\nMale Bald\n1.jpg 1 -1\n2.jpg -1 1\n"], read_celeba),
}


def test_damaged_annotations(request):
    fuzz(__name__, request.config)
