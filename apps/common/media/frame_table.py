"""Results for photos and frames, as a CSV file and as a line for each video."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from apps.common.data.tables import write_csv
from apps.common.media.frames import Frame


class FrameTable:
    """Rows for photos and frames: the file, the app's cells, and the problem.

    For videos and cameras, the columns frame (from 0) and seconds give the time of each row.

    Args:
        header: names of the cells.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self.header = list(header)
        self._rows: list[tuple[Frame, Sequence[object]]] = []
        self._videos: dict[str, Counter[str]] = {}
        self._num_frames: Counter[str] = Counter()

    def add(self, frame: Frame, rows: Sequence[Sequence[object]], *, names: Iterable[str] = ()) -> None:
        """Add a photo or frame.

        Args:
            rows: cells for each result; without any, a row with empty cells is written.
            names: the names that are counted in a video.
        """
        bare = frame._replace(image=None)  # the table does not keep pictures in memory
        self._rows += [(bare, cells) for cells in rows or [[""] * len(self.header)]]
        if frame.number is not None and frame.image is not None:
            self._num_frames[frame.name] += 1
            self._videos.setdefault(frame.name, Counter()).update(names)

    @property
    def has_moving(self) -> bool:
        """Whether there are frames from a video or camera."""
        return any(frame.number is not None for frame, _ in self._rows)

    def of_videos(self) -> list[str]:
        """A line for each video or camera: its number of frames, and how often each object or class occurs."""
        return [
            f"{name}: {self._num_frames[name]:,} frames; in all of them "
            + (", ".join(f"{count:,} {what}" for what, count in counts.most_common()) or "nothing")
            for name, counts in self._videos.items()
        ]

    def write(self, path: Path) -> None:
        """Write the CSV file, completely or not at all."""
        moving = self.has_moving
        header = ["file", *(["frame", "seconds"] if moving else []), *self.header, "problem"]
        rows = ([frame.name, *(_moment(frame) if moving else []), *cells, frame.problem] for frame, cells in self._rows)
        write_csv(path, header, rows)


def _moment(frame: Frame) -> tuple[str, str]:
    return ("", "") if frame.number is None else (str(frame.number), f"{frame.seconds:.3f}")
