"""Video files, frame by frame. Sound is dropped; results are WebM (VP8), which browsers play.

Letters in shapes: H W height and width.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from demos.uploads import MAX_FRAME_PIXELS, fit

MAX_FRAMES = 1800  # a minute at 30 frames a second
SIDE = 960  # longer side of the result, pixels


def is_video(path: Path) -> bool:
    """Whether a file starts as MP4, MOV, WebM, Matroska or AVI; playlists, which refer to other files, do not."""
    with path.open("rb") as file:
        start = file.read(12)
    return (
        start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
        or start.startswith(b"\x1aE\xdf\xa3")
        or (start.startswith(b"RIFF") and start[8:12] == b"AVI ")
    )


def annotate(
    source: Path,
    out: Path,
    look: Callable[[np.ndarray], np.ndarray],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Write a video of the pictures that `look` makes of each frame.

    Args:
        source: the uploaded file.
        out: the .webm file to write.
        look: from a frame (H, W, 3) uint8 RGB to a picture.
        progress: called with frames done and in all (0 if not known).

    Returns:
        Frames written, and frames that the file says it has.

    Raises:
        ValueError: no video that can be read, or its frames are too large.
    """
    if not is_video(source):
        raise ValueError(f"{source.name} is no video that can be read (supported: MP4, MOV, WebM, MKV, AVI)")
    video = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG)
    writer: cv2.VideoWriter | None = None
    size, done = (0, 0), 0
    try:
        width, height = (int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_FRAME_PIXELS:
            raise ValueError(f"{source.name} has frames of {width} x {height} pixels; smaller ones are read, up to 2k")
        total, rate = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))), video.get(cv2.CAP_PROP_FPS)
        rate = rate if 1 <= rate <= 120 else 25.0
        while done < MAX_FRAMES:
            there, frame = video.read()
            if not there:
                break
            picture, _ = fit(look(np.ascontiguousarray(frame[..., ::-1])), side=SIDE)
            if writer is None:
                size = picture.shape[1] & ~1, picture.shape[0] & ~1  # VP8 wants even sides
                writer = cv2.VideoWriter(str(out), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), rate, size)
                if min(size) < 2 or not writer.isOpened():
                    raise ValueError("this machine's OpenCV cannot write WebM videos of this size")
            writer.write(np.ascontiguousarray(cv2.resize(picture, size)[..., ::-1]))
            done += 1
            progress(done, min(total, MAX_FRAMES))
    finally:
        video.release()
        if writer is not None:
            writer.release()
    if not done:
        raise ValueError(f"{source.name}: no frame of it can be decoded; it is damaged or of an unknown codec")
    return done, total
