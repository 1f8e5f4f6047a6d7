"""Small photos and videos."""

import re
from pathlib import Path

import cv2
import numpy as np

RATE = 12.5


def write_photo(path: Path, gray: int = 128, *, height: int = 20, width: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, np.full((height, width, 3), gray, np.uint8))
    assert done
    path.write_bytes(data)
    return path


def write_uneven_video(path: Path, milliseconds: list[int]) -> Path:
    """A Matroska file of `RATE`, whose frames are shown at these times; they are those of `write_video`."""
    data = bytearray(write_video(path, num_frames=len(milliseconds)).read_bytes())
    blocks = [found.start() for found in re.finditer(rb"\x81..\x80\xff\xd8\xff", bytes(data), re.DOTALL)]
    for block, time in zip(blocks, milliseconds, strict=True):
        data[block + 1 : block + 3] = time.to_bytes(2, "big")
    path.write_bytes(data)
    return path


def write_video(path: Path, *, num_frames: int = 10, width: int = 64, height: int = 48, codec: str = "MJPG") -> Path:
    """Frame i is gray of 10 + 20 * i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), RATE, (width, height))
    for i in range(num_frames):
        writer.write(np.full((height, width, 3), (10 + 20 * i) % 256, np.uint8))
    writer.release()
    return path
