"""Photos, videos and cameras as one stream of frames, decoded in other threads ahead of the network.

    from contextlib import closing
    from apps.common.media.sources import find_source

    source, tally = find_source("photos/"), Tally()
    with closing(read_frames(source)) as frames:
        for frame in frames:
            tally.note(frame)                           # its image is None where the frame has a problem
    tally.check("the table", source=source)

Letters in shapes: H W height and width.
"""

import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, NamedTuple

import cv2
import numpy as np

from apps.common.cli import printable, say
from apps.common.images import read_image
from apps.common.media.sources import ALLOWED, VIDEO_SUFFIXES, Source

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its messages do not name the file; read at its first use
AHEAD = 8  # frames decoded, or being decoded, ahead of the network
MOST_THREADS = 4
USUAL_RATE = 25.0  # frames a second, if a video or camera does not report it
LEAST_SHARE = (
    0.95  # share of the frames in a video's header, below which it counts as damaged; many headers are inexact
)


class Frame(NamedTuple):
    """A photo, or a frame of a video or camera.

    Attributes:
        name: for display: the path as given, or "camera 0".
        image: (H, W, 3) uint8 RGB; None if it could not be read.
        problem: a sentence that names the file, if it could not be read.
        path: the file; None for a camera.
        relative_path: path for results in their folder: the file's path relative to the source's folder.
        number: index of a video's or camera's frame, from 0; None for a photo, and for a video that cannot be opened.
        seconds: since the start of the video or camera.
        rate: frames per second that are read from the video.
        total: frames to read by the video's header; 0 if unknown.
    """

    name: str
    image: np.ndarray | None = None
    problem: str = ""
    path: Path | None = None
    relative_path: Path = Path()
    number: int | None = None
    seconds: float = 0.0
    rate: float = 0.0
    total: int = 0


class Tally:
    """Counts the files that were read, and those that were not.

    Attributes:
        num_files, num_frames: photos and videos in the source; photos and frames that could be read.
        problems: a sentence each.
        has_moving: whether there were frames of videos or cameras.
    """

    def __init__(self) -> None:
        self.num_files = 0
        self.num_frames = 0
        self.problems: list[str] = []
        self.has_moving = False

    def note(self, frame: Frame) -> None:
        """Count a frame; one that could not be read is reported on standard output."""
        self.num_files += frame.number in (None, 0)
        self.has_moving |= frame.number is not None
        if frame.image is None:
            self.problems.append(frame.problem)
            say(f"{frame.name}: " + ("skipped" if frame.number is None else "it ends here"))
        else:
            self.num_frames += 1

    def check(self, table: str, *, source: Source) -> None:
        """Raise an error about files that could not be read.

        Args:
            table: the file that lists all problems.

        Raises:
            ValueError: the source was empty, or something could not be read.
        """
        if not self.num_files:
            raise ValueError(f"{source.name}: there is nothing to read in it; {ALLOWED}")
        if self.problems:
            more = f"; and {len(self.problems) - 3:,} more, see {table}" if len(self.problems) > 3 else ""
            of_all = f"{len(self.problems):,} of {self.num_files:,}"
            what = f"{of_all} files not read, or not to the end" if self.has_moving else f"{of_all} photos skipped"
            what = f"{what}: " if source.camera is None else ""
            raise ValueError(f"{what}{'; '.join(self.problems[:3])}{more}")


def read_frames(
    source: Source, *, every: int = 1, ahead: int = AHEAD, num_threads: int | None = None
) -> Generator[Frame, None, None]:
    """All frames of a source in order, decoded in other threads while the caller works; close it after use.

    A file that cannot be read gives a frame without an image. A camera gives its newest frame; frames that arrived
    while the caller worked are dropped, so that the picture is never delayed.

    Args:
        every: read every n-th frame of a video or camera.
        ahead: the largest number of photos or frames decoded in advance.
        num_threads: threads that decode photos; a video is decoded by one.

    Raises:
        ValueError: `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be 1 (all frames) or more, got {every}")
    ready: Queue = Queue(maxsize=ahead if source.camera is None else 1)
    stop = Event()
    with ThreadPoolExecutor(num_threads or min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        feeder = Thread(target=_feed, args=(source, every, pool, ready, stop), daemon=True)
        feeder.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item.result() if isinstance(item, Future) else item
        finally:
            stop.set()
            feeder.join(timeout=2)  # it may hang in reading standard input: it is a daemon
            pool.shutdown(cancel_futures=True)


def _feed(source: Source, every: int, pool: ThreadPoolExecutor, ready: Queue, stop: Event) -> None:
    """Put frames, or futures of frames, into `ready`; at the end None, or the exception that ended it."""
    end = None
    try:
        if source.camera is not None:
            _feed_newest(source, every, ready, stop)
        for path, relative_path in source.files:
            if stop.is_set():
                return
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                _put(ready, pool.submit(_read_photo, path, relative_path), stop)
                continue
            for frame in read_video(path, relative_path, every=every):
                if not _put(ready, frame, stop):
                    return
    except BaseException as error:  # it is raised in the caller
        end = error
    _put(ready, end, stop)


def _put(ready: Queue, item: Any, stop: Event) -> bool:
    """Wait for room; False if reading was stopped."""
    while not stop.is_set():
        with suppress(Full):
            ready.put(item, timeout=0.1)
            return True
    return False


def _feed_newest(source: Source, every: int, ready: Queue, stop: Event) -> None:
    began, number = time.monotonic(), 0
    rate = rate_of(source.camera) / every
    try:
        while not stop.is_set():
            there, image = source.camera.read()
            if not there:
                _put(ready, Frame(source.name, problem=f"{source.name} gives no more pictures", number=number), stop)
                return
            if number % every == 0:
                with suppress(Empty):
                    ready.get_nowait()
                seconds = time.monotonic() - began
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                ready.put(Frame(source.name, image, number=number, seconds=seconds, rate=rate))
            number += 1
    finally:
        source.camera.release()


def _read_photo(path: Path, relative_path: Path) -> Frame:
    frame = Frame(printable(path), path=path, relative_path=relative_path)
    try:
        return frame._replace(image=read_image(path))
    except ValueError as error:
        return frame._replace(problem=printable(str(error)))


def read_video(path: Path, relative_path: Path, *, every: int = 1) -> Iterator[Frame]:
    """Frames of a video file; the last one has no image if the file cannot be read to its end."""
    frame = Frame(printable(path), path=path, relative_path=relative_path)
    if not path.is_file():
        yield frame._replace(problem=f"video {frame.name} " + ("is no file" if path.exists() else "does not exist"))
        return
    if not is_text(path):  # OpenCV would crash
        yield frame._replace(problem=f"video {frame.name}: its name is not UTF-8, rename it")
        return
    video = open_video(path)
    number = 0
    try:
        rate, total = rate_of(video), max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        frame = frame._replace(rate=rate / every, total=-(-total // every))
        seconds = 0.0
        while video.grab():
            seconds = max(seconds, seconds_of(video))
            if number % every == 0:
                image = cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB)
                yield frame._replace(image=image, number=number, seconds=seconds)
            number += 1
    finally:
        video.release()
    if not number:
        yield frame._replace(problem=f"video {frame.name} is damaged, empty, or of a format that OpenCV does not read")
    elif number < LEAST_SHARE * total:
        said = f"video {frame.name} is damaged: {number:,} of its {total:,} frames can be read"
        yield frame._replace(problem=said, number=number, seconds=seconds)


def is_text(path: Path) -> bool:
    """Whether a path is valid UTF-8."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def open_video(path: Path) -> Any:
    """A `cv2.VideoCapture` of a file with any name."""
    return cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)  # FFmpeg takes "12:30.mp4" for an address


def seconds_of(video: Any) -> float:
    """The time of the last frame that was read: the rate need not be constant."""
    return float(video.get(cv2.CAP_PROP_POS_MSEC)) / 1000


def rate_of(video: Any) -> float:
    """Frames a second that a video or camera reports."""
    rate = float(video.get(cv2.CAP_PROP_FPS))
    return rate if 0.05 <= rate <= 1000 else USUAL_RATE
