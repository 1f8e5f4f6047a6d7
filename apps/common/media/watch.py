"""The context of predict.py's loop: the source of frames, the folder for results, and the end of the loop.

The loop itself is in each script:

    from apps.common.media.answers import answered

    watch, table = Watch(["photos/"], out=None, app="detection", title="", page=""), FrameTable(["class"])
    with watch.results(table, write=write, file="found.csv") as (frames, showing):
        for frame, found in answered(frames, predictor.batch, batch_size=8, tally=watch.tally):
            table.add(frame, found)
            if not showing.put(frame, draw):
                break
"""

import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from apps.common.cli import say
from apps.common.media.frame_table import FrameTable
from apps.common.media.frames import Frame, Tally, read_frames
from apps.common.media.sinks import Showing, window_for_camera
from apps.common.media.sources import VIDEO_SUFFIXES, find_sources

RUNS = Path("runs")  # below the folder that one stands in


def new_folder(path: Path) -> Path:
    """Create the first of path-1, path-2, ... that does not exist; concurrent processes get different ones."""
    for number in count(1):
        folder = path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


def refuse_existing(path: Path) -> None:
    """Raise ValueError if labels would be overwritten."""
    if path.exists():
        raise ValueError(f"{path} is there, perhaps with corrected labels: give another --out")


class Watch:
    """A source that is watched: photos, videos or a camera.

    Args:
        sources: see `find_sources`.
        out: folder for the results; None for a new one, runs/<app>/predict-N, or for a camera to write nothing.
        title: of a camera's window.
        page: the script that shows a camera in a browser, for the message where there is no display.

    Attributes:
        live: whether it is a camera.
        out: folder for the results; None to write nothing, and before `results` has made a new one.
        tally: counts what was read; for `answered`.

    Raises:
        ValueError: there is no such source, no way to show a camera, or `out` is a file.
    """

    def __init__(self, sources: Sequence[str], *, out: Path | None, app: str, title: str, page: str) -> None:
        if out and out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is a file: give a folder")
        self.source = find_sources(sources, apart_from=out or RUNS)
        self.app = app
        self.live = self.source.camera is not None
        self.window = window_for_camera(title, out=out, page=page) if self.live else None
        self.out = out
        self.tally = Tally()

    @property
    def at_once(self) -> int:
        """Batches that are computed at once, see `answered`: one, where the next frame may be long in coming."""
        return 2 if isinstance(self.source.files, list) else 1

    def photos(self, flag: str) -> list[tuple[Path, Path]]:
        """The files of the source, all of them photos.

        Args:
            flag: the flag that requires photos, for the message.

        Raises:
            ValueError: it is a camera, or has a video.
        """
        files = list(self.source.files)
        videos = [path for path, _ in files if path.suffix.lower() in VIDEO_SUFFIXES]
        if self.live or videos:
            what = f"{videos[0]} is a video" if videos else f"{self.source.name} is none"
            raise ValueError(f"{flag} is for photos: {what}")
        self.source = dataclasses.replace(self.source, files=files)
        return files

    def save_as(self, name: str) -> None:
        """Check that --save-as can write `name` in the folder for results.

        Raises:
            ValueError: it is a camera, or has a video; or there is such a file or folder.
        """
        self.photos("--save-as")
        if self.out:
            refuse_existing(self.out / name)

    def leave_out_labelled(self, sources: Sequence[str], labelled_in: Callable[[Path], Iterable[Path]]) -> None:
        """Implement --only-unlabelled: remove the photos with labels from the source.

        Args:
            sources: as given; the folders among them are data sets.
            labelled_in: returns the photos of such a folder that have labels.

        Raises:
            ValueError: it is a camera, or has a video; no source is a data set; or no photo is left.
        """
        files = self.photos("--only-unlabelled")
        folders = [Path(source) for source in sources if Path(source).is_dir()]
        if not folders:
            raise ValueError(
                "--only-unlabelled needs the folder of a data set as source: its labels tell which photos have some"
            )
        labelled = {os.path.abspath(path) for folder in folders for path in labelled_in(folder)}
        left = [one for one in files if os.path.abspath(one[0]) not in labelled]
        if not left:
            raise ValueError(f"--only-unlabelled: all {len(files):,} photos have labels")
        say(f"{len(files) - len(left):,} of {len(files):,} photos have labels and are left out")
        self.source = dataclasses.replace(self.source, files=left)

    @contextmanager
    def results(
        self,
        table: FrameTable,
        *,
        write: Callable[[Path], str],
        file: str,
        every: int = 1,
        drawn: bool = True,
        ending: str = "",
        photos: bool = True,
    ) -> Iterator[tuple[Generator[Frame, None, None], Showing]]:
        """Frames to predict on, and the sink for drawn ones; results are written at the end, also if interrupted.

        Args:
            table: the table of results, with a line for each video.
            write: writes the results into a folder, and returns a sentence about them.
            file: the result that lists what could not be read.
            every: read every n-th frame of a video or camera.
            drawn: whether to write pictures and videos.
            ending, photos: see `Showing`.

        Raises:
            ValueError: at the end, if something could not be read.
            KeyboardInterrupt: photos or videos were stopped; a camera is always stopped.
        """
        stopped = False
        if self.out is None and not self.live:
            self.out = new_folder(RUNS / self.app / "predict")
        pictures = self.out if drawn else None
        try:
            with (
                closing(read_frames(self.source, every=every)) as frames,
                Showing(pictures, ending=ending, photos=photos, window=self.window, keep=self.source.known) as showing,
            ):
                yield frames, showing
        except KeyboardInterrupt:
            stopped = True
        except Exception:
            if self.out is not None:
                write(self.out)  # the results so far
            raise
        for line in table.of_videos():
            say(line)
        if self.out is not None:
            say(write(self.out))
        if stopped and not self.live:
            raise KeyboardInterrupt
        self.tally.check(file if self.out is None else f"{self.out / file}", source=self.source)
