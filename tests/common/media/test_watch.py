"""What stands around predict's loop writes the results however the loop ends."""

from pathlib import Path

import numpy as np
import pytest

from apps.common.media.answers import answered
from apps.common.media.frame_table import FrameTable
from apps.common.media.watch import Watch
from tests.common.media_files import write_photo


def watched(folder: Path, *, fail: BaseException | None = None, new: bool = False) -> None:
    """Predict on the photos of a folder; `fail` is raised at the second; results are in its out/, or a new folder."""
    watch = Watch([str(folder / "photos")], out=None if new else folder / "out", app="moths", title="", page="")
    table = FrameTable(["class"])

    def write(out: Path) -> str:
        table.write(out / "table.csv")
        return f"the table is in {out}"

    def find(images: list[np.ndarray]) -> list[list[list[str]]]:
        return [[["cat"]] for _ in images]

    with watch.results(table, write=write, file="table.csv") as (frames, showing):
        for i, (frame, found) in enumerate(answered(frames, find, batch_size=1, tally=watch.tally)):
            if fail is not None and i == 1:
                raise fail
            table.add(frame, found or [])
            if found is not None:
                assert showing.put(frame, lambda image: image)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_photo(tmp_path / f"photos/{name}.jpg")
    return tmp_path


def written(folder: Path) -> tuple[int, list[str]]:
    """Rows of the table, and names of the pictures."""
    lines = (folder / "out/table.csv").read_text().splitlines()
    return len(lines) - 1, sorted(path.name for path in (folder / "out").glob("*.jpg"))


def test_whole(photos, capsys):
    watched(photos)
    assert written(photos) == (2, ["a.jpg", "b.jpg"])
    assert capsys.readouterr().out == f"the table is in {photos / 'out'}\n"


def test_stopped(photos, capsys):
    with pytest.raises(KeyboardInterrupt):
        watched(photos, fail=KeyboardInterrupt())
    assert written(photos) == (1, ["a.jpg"])
    assert "the table is in" in capsys.readouterr().out


def test_failed(photos, capsys):
    with pytest.raises(ValueError, match="disk is full"):
        watched(photos, fail=ValueError("disk is full"))
    assert written(photos) == (1, ["a.jpg"])
    assert "the table is in" not in capsys.readouterr().out


def test_unreadable_is_said_at_the_end(photos):
    (photos / "photos/a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 2 photos skipped: image \S+a\.jpg is empty"):
        watched(photos)
    assert written(photos) == (2, ["b.jpg"])


def test_results_without_a_folder_get_a_new_one_each_time_which_is_no_source(photos, monkeypatch, capsys):
    monkeypatch.chdir(photos / "photos")
    for number in (1, 2):
        watched(Path(".."), new=True)
        folder = Path(f"runs/moths/predict-{number}")
        assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "b.jpg", "table.csv"]
        assert capsys.readouterr().out == f"the table is in {folder}\n"


def test_a_file_in_place_of_the_folder_is_named_before_anything_is_predicted(photos: Path) -> None:
    (photos / "out").write_text("notes")
    with pytest.raises(ValueError, match="out is a file: give a folder"):
        Watch([str(photos / "photos")], out=photos / "out", app="moths", title="", page="")
    assert (photos / "out").read_text() == "notes"
