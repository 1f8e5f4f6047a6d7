"""Between the page's own form of pictures and names and ours: nothing is decoded or written to the disk here.

Letters in shapes: H W height and width.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import ImageData

from apps.common.pictures import encode_jpeg
from demos.serving import new_result


def stored_apart(value: np.ndarray | None) -> ImageData | None:
    """A picture (H, W, 3) in a file of a name of its own.

    Gradio names files by their content and writes them anew each time, also while an equal one is being sent to
    another visitor, who then gets half of it.
    """
    if value is None:
        return None
    folder = new_result("").parent
    path = folder / f"{folder.name}.jpg"
    path.write_bytes(encode_jpeg(value))
    return ImageData(path=str(path), orig_name="result.jpg")


def not_stored(value: np.ndarray | None) -> ImageData | None:
    """A picture (H, W, 3) within the answer itself instead of in a file."""
    return None if value is None else ImageData(url=as_data_url(value))


def path_of(payload: ImageData | None) -> str | None:
    """The file of an uploaded photo, not opened yet."""
    if payload is None:
        return None
    if payload.path is None:
        raise gr.Error("Send the photo as a file.", print_exception=False)
    return payload.path


def raw_of(payload: ImageData | None) -> bytes | None:
    """The bytes of a webcam's picture, not decoded yet."""
    if payload is None:
        return None
    if payload.url and payload.url.startswith("data:"):
        try:
            return base64.b64decode(payload.url.partition(",")[2], validate=True)
        except binascii.Error:
            return b""
    return Path(payload.path).read_bytes() if payload.path else b""


def names_of(payload: Any) -> list[Any]:
    """Chosen names; those of another model than the page began with, too."""
    return [str(name) for name in payload or []]


def as_data_url(image: np.ndarray) -> str:
    """An image (H, W, 3) uint8 RGB as a JPEG in a URL."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image)).decode()
