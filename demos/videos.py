"""Video files, frame by frame, with their original timing. Sound is dropped; results are WebM (VP8), which browsers
play.

Letters in shapes: H W height and width.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from apps.common.media.frames import open_video, rate_of, seconds_of
from apps.common.media.sinks import Recording
from demos.uploads import MAX_FRAME_PIXELS, fit

MAX_FRAMES = 1800  # a minute at 30 frames a second
MAX_WRITTEN = 3 * MAX_FRAMES  # with those that are repeated, since they are shown longer than others
MOST_RATE, LONGEST_GAP = 120.0, 10.0  # frames a second of the result; seconds between two of its frames
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
    video, writer = open_video(source), None
    done, seconds = 0, 0.0
    try:
        width, height = (int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        _check_size(width, height, source)
        total, rate = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))), min(rate_of(video), MOST_RATE)
        writer = Recording(out, rate=rate, codec="VP80", longest_gap=LONGEST_GAP)
        while done < MAX_FRAMES and writer.num_frames < MAX_WRITTEN:
            there, frame = video.read()
            if not there:
                break
            _check_size(frame.shape[1], frame.shape[0], source)  # it may change
            seconds = max(seconds, seconds_of(video))
            picture, _ = fit(look(np.ascontiguousarray(frame[..., ::-1])), side=SIDE)
            _write(writer, picture, seconds)
            done += 1
            progress(done, min(total, MAX_FRAMES))
    finally:
        video.release()
        if writer is not None:
            writer.close(keep=bool(done))
    if not done:
        raise ValueError(f"{source.name}: no frame of it can be decoded; it is damaged or of an unknown codec")
    return done, total


def _check_size(width: int, height: int, source: Path) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise ValueError(f"{source.name} has frames of {width} x {height} pixels; smaller ones are read, up to 2k")


def _write(writer: Recording, picture: np.ndarray, seconds: float) -> None:
    height, width = (side & ~1 for side in picture.shape[:2])  # VP8 wants even sides
    try:
        writer.write(cv2.resize(picture, (max(width, 2), max(height, 2))), seconds=seconds)
    except ValueError:  # which names the server's folder
        raise ValueError("this machine's OpenCV cannot write WebM videos of this size") from None
