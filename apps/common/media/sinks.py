"""Outputs for drawn frames: a picture for each photo, a video for each video, a window for a camera.

    from functools import partial

    with Showing(Path("found/"), window=None) as showing:      # window="Objects" shows what is drawn, too
        for frame, found in frames:
            if not showing.put(frame, partial(draw, found=found)):
                break                                           # the window was closed

Letters in shapes: H W height and width.
"""

import contextlib
import math
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from apps.common.cli import printable
from apps.common.media.frames import Frame, is_text
from apps.common.pictures import RESULT_QUALITY, write_lines, write_picture
from backbone.files import numbered, written_whole

CODEC = "mp4v"  # MPEG-4, which every build of OpenCV writes fast
KEPT_SUFFIXES = (".jpg", ".jpeg", ".png")  # results of photos with these endings keep the name
MOST_RATE = 240.0  # frames a second of drawn videos: some files report the fineness of their clock, such as 1000
LONGEST_GAP = 600.0  # seconds between two frames; longer ones are made so long
PROBE = "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"


class Showing:
    """Writes drawn frames and shows them; a context manager.

    A video gets its final name after its last frame. If the block ends by Ctrl-C, it contains the frames so far; if it
    ends by an error, it is removed.

    Args:
        out: folder for pictures and videos; None to write none.
        ending: appended to the name of a file: "faces" turns photo.jpg into photo.jpg.faces.jpg. Without it, .jpg, .png
            and .mp4 keep their names, and clip.avi becomes clip.avi.mp4.
        photos: whether to write pictures of photos.
        window: title of a window that shows all frames; None for none.
        keep: absolute paths of files that must not be replaced.
    """

    def __init__(
        self,
        out: Path | None,
        *,
        ending: str = "",
        photos: bool = True,
        window: str | None = None,
        keep: Collection[str] = (),
    ) -> None:
        self.out = out
        self.ending = ending
        self.photos = photos
        self.window = window
        self.keep = keep
        self._video: Recording | None = None
        self._of: Frame | None = None
        self._sources: dict[Path, Path | None] = {}
        self._bar: Any = None
        self._shown: deque[float] = deque(maxlen=30)

    def __enter__(self) -> "Showing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(keep=kind in (None, KeyboardInterrupt))
        if self.window is not None:
            cv2.destroyAllWindows()

    def put(self, frame: Frame, draw: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Write and show a frame.

        Args:
            frame: one with an image.
            draw: from its image to its picture (H, W, 3) uint8 RGB, of constant size in a video; called if needed.

        Returns:
            Whether to go on: False when the window was closed, or q or Esc pressed in it.

        Raises:
            ValueError: the picture would replace its source, or a video cannot be written.
        """
        moving = frame.number is not None
        if self._of is None or self._of.path != frame.path or frame.number in (None, 0):
            self._finish()
            self._begin(frame)
        wanted = self.window is not None or (self.out is not None and (moving or self.photos))
        assert frame.image is not None
        picture = draw(frame.image) if wanted else None
        if picture is not None and self.out is not None:
            if self._video is not None:
                self._video.write(picture, seconds=frame.seconds)
            else:
                write_picture(self._target(frame), picture, quality=RESULT_QUALITY)
        if self._bar is not None:
            self._bar.update()
        return picture is None or self.window is None or self._show(picture)

    def _begin(self, frame: Frame) -> None:
        if frame.number is None:
            return
        self._of = frame
        if frame.path is not None:
            self._bar = tqdm(total=frame.total or None, desc=frame.name, unit="frame", leave=False, disable=None)
        if self.out is not None:
            self._video = Recording(self._target(frame), rate=min(frame.rate, MOST_RATE))

    def _finish(self, *, keep: bool = True) -> None:
        video, bar, self._video, self._bar, self._of = self._video, self._bar, None, None, None
        if bar is not None:
            bar.close()
        if video is not None:
            video.close(keep=keep)

    def _target(self, frame: Frame) -> Path:
        """The path of a frame's picture or video."""
        assert self.out is not None
        if frame.path is None:
            return self.out / f"{frame.name.replace(' ', '-')}-{time.strftime('%Y%m%d-%H%M%S')}.mp4"
        kept, suffix = (KEPT_SUFFIXES, ".jpg") if frame.number is None else ((".mp4",), ".mp4")
        name = frame.relative_path.name
        if self.ending or frame.relative_path.suffix.lower() not in kept:
            name += f".{self.ending}{suffix}" if self.ending else suffix
        target = self.out / frame.relative_path.with_name(name)
        if target.exists() and target.samefile(frame.path):
            raise ValueError(f"--out {self.out}: the drawn {target.name} would replace its source; give another folder")
        free = (path for path in numbered(target) if os.path.abspath(path) not in self.keep)
        return next(
            path for path in free if self._sources.setdefault(path, frame.path) == frame.path
        )  # a.bmp, a.bmp.jpg

    def _show(self, picture: np.ndarray) -> bool:
        assert self.window is not None
        if not self._shown:
            cv2.namedWindow(self.window, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)  # no tool bar
        self._shown.append(time.monotonic())
        spent = self._shown[-1] - self._shown[0]
        rate = f"{(len(self._shown) - 1) / spent:.1f} frames/s" if spent else ""
        cv2.imshow(self.window, cv2.cvtColor(write_lines(picture, [rate] if rate else []), cv2.COLOR_RGB2BGR))
        return (
            cv2.waitKey(1) & 0xFF not in (27, ord("q"))
            and cv2.getWindowProperty(self.window, cv2.WND_PROP_VISIBLE) >= 1
        )


class Recording:
    """A video file that is being written.

    Args:
        path: the .mp4 file, or one that fits the codec.
        rate: frames per second.
        longest_gap: longest time between two frames in seconds; longer gaps are shortened; default `LONGEST_GAP`.

    Raises:
        ValueError: this OpenCV cannot write it; raised with the first frame.
    """

    def __init__(self, path: Path, *, rate: float, codec: str = CODEC, longest_gap: float | None = None) -> None:
        self.path = path
        self.rate = rate
        self.codec = codec
        self.longest_gap = LONGEST_GAP if longest_gap is None else longest_gap
        self.num_frames = 0
        self._began = 0.0
        self._last: np.ndarray | None = None
        self._size = (0, 0)
        self._writer: Any = None
        self._room = contextlib.ExitStack()

    def write(self, picture: np.ndarray, *, seconds: float) -> None:
        """Add a frame (H, W, 3) uint8 RGB.

        Args:
            seconds: its time: to keep the rate, the previous frame is repeated, or this one dropped.
        """
        if self._writer is None:
            height, width = picture.shape[:2]
            self._size = width, height
            if not is_text(self.path):  # OpenCV would crash
                raise ValueError(f"{printable(self.path)}: videos are not written to names that are not UTF-8")
            temporary = self._room.enter_context(written_whole(self.path))
            fourcc = cv2.VideoWriter.fourcc(*self.codec)
            self._writer = cv2.VideoWriter(str(temporary), cv2.CAP_FFMPEG, fourcc, self.rate, self._size)
            if not self._writer.isOpened():
                raise ValueError(f"{self.path}: this OpenCV cannot write a video of {width} x {height} pixels")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = cv2.resize(picture, self._size)  # the frames of a video may change their size
        frame = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        before, self._last = self._last, frame
        if before is None:
            self._began = seconds
        number = math.floor((seconds - self._began) * self.rate + 0.5)
        if (excess := number - self.num_frames - self.longest_gap * self.rate) > 0:
            self._began, number = self._began + excess / self.rate, number - math.floor(excess)
        while self.num_frames <= number:
            self._writer.write(frame if before is None or self.num_frames == number else before)
            self.num_frames += 1

    def close(self, *, keep: bool = True) -> None:
        """Give the file its name, or remove it; one without frames is always removed."""
        if self._writer is not None:
            self._writer.release()
        if keep and self.num_frames:
            self._room.close()
        else:
            abandoned = RuntimeError("abandoned")  # makes `written_whole` remove the file
            self._room.__exit__(type(abandoned), abandoned, None)


def has_display() -> bool:
    """Whether a window can be opened; tried in another process, since a failure in Qt ends the process."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        tried = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=30)
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def window_for_camera(title: str, *, out: Path | None, page: str) -> str | None:
    """The title of a camera's window; None where there is no display, but a folder to record into.

    Args:
        page: the script that shows the same in a browser.

    Raises:
        ValueError: neither.
    """
    if has_display():
        return title
    if out is None:
        raise ValueError(
            f"there is no display to show the camera on: use `python {page}` in a browser, or record with --out FOLDER"
        )
    return None
