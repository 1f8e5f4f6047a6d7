"""Components that pass on pictures and names as they are sent: nothing is decoded or written to the disk here.

Gradio recreates a component from its class when an example is clicked or another model is chosen, so its behaviour must
be that of the class, not of the object. Letters in shapes: H W height and width.
"""

import base64
import binascii
import re
from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.component_meta import ComponentMeta
from gradio.data_classes import ImageData

from apps.common.pictures import encode_picture
from demos.rooms import new_result
from demos.uploads import MAX_PHOTO_BYTES
from demos.visitors import file_in_room

NOT_YOURS = "This file was not uploaded here by you: upload it first."
MAX_NAMES, MAX_LETTERS = 2000, 200  # that a visitor chooses of a model's classes, and of each
AS_A_FILE = "Send the photo as a file."
# What Markdown and HTML take for more than text. Most names have none of it and stay as they are.
SPECIAL = re.compile(
    r"[\\`*\[~]|<(?=[A-Za-z/!?])|&(?=[#\w]+;)|(?<![^\W_])_|_(?![^\W_])"  # code, bold, links, HTML
    r"|(?<=[A-Za-z]):(?=//)|(?<=[Ww]{3})\.|(?<=\S)@(?=\S)"  # addresses become links
    r"|^[-+=>#]|(?<=^\d)[.)](?=\s)"  # a list, a heading, a quotation
)


class AsParent(ComponentMeta):
    """The class of components that the browser shows as those they derive from, a class of Gradio's.

    Gradio's own writes a .pyi file beside the source of each new class; this one does not.
    """

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, {**attrs, "is_template": True})


class UploadedPhoto(gr.Image, metaclass=AsParent):
    """Gives the path of a photo's file, which is not opened yet: it is checked first."""

    def preprocess(self, payload: ImageData | None) -> Any:
        if payload is None:
            return None
        if payload.path is None:
            raise gr.Error(AS_A_FILE, print_exception=False)
        if file_in_room(payload.path) is None:
            raise gr.Error(NOT_YOURS, print_exception=False)
        return payload.path


class Camera(gr.Image, metaclass=AsParent):
    """Gives the bytes of a webcam's picture, not decoded yet."""

    def preprocess(self, payload: ImageData | None) -> Any:
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            try:
                return base64.b64decode(payload.url.partition(",")[2], validate=True)
            except binascii.Error:
                return b""
        if payload.path is None:
            return b""
        if (file := file_in_room(payload.path)) is None:
            raise gr.Error(NOT_YOURS, print_exception=False)
        with file.open("rb") as opened:
            return opened.read(MAX_PHOTO_BYTES)


class PictureInFile(gr.Image, metaclass=AsParent):
    """Shows a picture (H, W, 3) by a file of a name of its own, or one that is in a file.

    Gradio names files by their content and writes them again each time, even while an equal file is being sent to
    another visitor, who would then get half of it.
    """

    def postprocess(self, value: Any) -> ImageData | None:
        if value is None:
            return None
        if isinstance(value, Path):
            return ImageData(path=str(value), orig_name="result.jpg")
        folder = new_result("").parent
        path = folder / f"{folder.name}.jpg"
        path.write_bytes(encode_picture(value))
        return ImageData(path=str(path), orig_name="result.jpg")


class PictureInAnswer(gr.Image, metaclass=AsParent):
    """Shows a picture (H, W, 3) that is part of the answer instead of a file."""

    def postprocess(self, value: Any) -> ImageData | None:
        return None if value is None else ImageData(url=as_data_url(value))


class Names(gr.Dropdown, metaclass=AsParent):
    """Gives the chosen names, also if they belong to another model than the first one of the page."""

    def preprocess(self, payload: Any) -> Any:
        names = [] if payload is None else payload
        if not isinstance(names, list) or len(names) > MAX_NAMES or not all(isinstance(one, str) for one in names):
            raise gr.Error(f"Names are a list of at most {MAX_NAMES:,} texts.", print_exception=False)
        return [name[:MAX_LETTERS] for name in names]


class OneName(gr.Dropdown, metaclass=AsParent):
    """Gives one name: Gradio's takes lists, too."""

    def preprocess(self, payload: Any) -> Any:
        if isinstance(payload, list):
            raise gr.Error(f"{self.label} is one name, not a list.", print_exception=False)
        return super().preprocess(payload)


class Threshold(gr.Slider, metaclass=AsParent):
    """Gives a number that is one."""

    def preprocess(self, payload: Any) -> float:
        number = type(payload) in (int, float) and self.minimum <= payload <= self.maximum  # not so a NaN
        if not number:
            words = f"{self.label} is a number from {self.minimum} to {self.maximum}."
            raise gr.Error(words, print_exception=False)
        return payload


class Sentence(gr.Markdown, metaclass=AsParent):
    """Shows a sentence as it is: names in it, of classes or files, may come from anybody."""

    def postprocess(self, value: Any) -> str | None:
        return None if value is None else as_text(value)


def as_text(words: str) -> str:
    """Words that Gradio shows as these very words where it takes Markdown."""
    words = "".join(one if one.isprintable() else " " for one in words).strip()
    return SPECIAL.sub(lambda found: "\\" + found[0], words)


def as_data_url(image: np.ndarray) -> str:
    """An image (H, W, 3) uint8 RGB as a JPEG in a URL."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_picture(image)).decode()
