"""What --source may be, how frames of it flow, and where drawn frames go."""

import csv
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Barrier

import cv2
import numpy as np
import pytest

from apps.common.data.photos import glance_at_photo, inspect_photo
from apps.common.images import read_image
from apps.common.media import sinks as showing_module
from apps.common.media.answers import answered
from apps.common.media.frame_table import FrameTable
from apps.common.media.frames import Frame, Tally, read_frames
from apps.common.media.sinks import Recording, Showing, has_display, window_for_camera
from apps.common.media.sources import Source, find_source, find_sources
from tests.common.media_files import RATE, write_photo, write_uneven_video, write_video


def places(source: Source) -> list[str]:
    return [place.as_posix() for _, place in source.files]


def all_of(source: Source, **options) -> list[Frame]:
    with closing(read_frames(source, **options)) as frames:
        return list(frames)


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "my phötos"
    for i, name in enumerate(("b.png", "a b.jpg", "deep/er/ü.jpg", "deep/x [1].png", ".hidden.jpg", ".cache/c.jpg")):
        write_photo(root / name, 40 * i)
    write_photo(root / "found/drawn.png")
    write_video(root / "deep/clip.avi")
    (root / "notes.txt").write_text("no photo")
    return root


def test_a_folder_is_all_in_it_but_hidden_files_and_the_results(folder):
    source = find_source(folder, apart_from=folder / "found")
    assert places(source) == ["a b.jpg", "b.png", "deep/clip.avi", "deep/er/ü.jpg", "deep/x [1].png"]
    assert [path for path, _ in source.files] == [folder / place for place in places(source)]
    assert len(places(find_source(folder))) == 6
    assert len(places(find_source(folder, apart_from=folder))) == 6  # all would be apart
    assert places(find_source(folder / "found", apart_from=folder)) == ["drawn.png"]


def test_a_pattern_and_names_that_only_look_like_one(folder):
    assert places(find_source(f"{folder}/*.[jp][pn]g")) == ["a b.jpg", "b.png"]
    assert places(find_source(f"{folder}/**/*.jpg")) == ["a b.jpg", "deep/er/ü.jpg"]
    whole = places(find_source(f"{folder}/d*", apart_from=folder / "found"))
    assert whole == ["deep/clip.avi", "deep/er/ü.jpg", "deep/x [1].png"]
    assert sorted(places(find_source(f"{folder}/**"))) == sorted(set(places(find_source(folder))))
    assert places(find_source(folder / "deep/x [1].png")) == ["x [1].png"]


def test_a_number_is_a_camera_unless_a_folder_bears_it(folder, monkeypatch):
    (folder / "0").mkdir()
    write_photo(folder / "0/a.png")
    monkeypatch.chdir(folder)
    assert places(find_source("0")) == ["a.png"]
    with pytest.raises(ValueError, match=r"camera 97 cannot be opened: it is missing, in use, .* demos/app.py"):
        find_source("97")


def test_several_sources_are_one_after_the_other(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_photo(folder / "deep/er/b.png")
    source = find_sources(["deep/er", "b.png", "*.png", "deep/er/b.png"])
    assert [path.as_posix() for path, _ in source.files] == ["deep/er/b.png", "deep/er/ü.jpg", "b.png"]
    assert places(source) == ["b.png", "ü.jpg", "b-2.png"]
    assert places(find_sources(["deep/er"])) == places(find_source("deep/er"))
    for given, message in (
        ([], "nothing to look at: give a photo, a video"),
        (["b.png", "0"], "0: a camera, or a list on standard input, goes without other sources"),
        (["b.png", "-"], "-: a camera, or a list on standard input, goes without other sources"),
        (["b.png", "gone.png"], r"gone\.png: there is no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            find_sources(given)


def test_what_is_no_source_is_one_line(folder):
    (folder / "empty").mkdir()
    for given, message in (
        (folder / "nowhere.jpg", r"nowhere.jpg: there is no such file or folder; give a photo, a video, .* or - for"),
        (folder / "empty", r"empty: no photos or videos in it \(read are .3gp, .avi, "),
        (f"{folder}/*.gif", r"\*.gif: no photos or videos in it"),
        ("https://example.org/a.jpg", "addresses are not read"),
    ):
        with pytest.raises(ValueError, match=message):
            find_source(given)


def test_a_list_on_standard_input_is_read_as_it_comes(folder, monkeypatch):
    read, write = os.pipe()
    monkeypatch.chdir(folder)
    with os.fdopen(read) as stdin, os.fdopen(write, "wb", buffering=0) as to_it:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = find_source("-")
        with closing(read_frames(source)) as frames:
            to_it.write(b"a b.jpg\r\n\n")
            first = next(frames)
            assert first.image is not None and first.name == "a b.jpg"
            to_it.write(os.fsencode(f"{folder}/deep/er/ü.jpg\ngone.jpg"))
            to_it.close()
            second, third = frames
    assert (second.relative_path.as_posix(), second.problem) == ("deep/er/ü.jpg", "")
    assert third.image is None and third.problem == "image gone.jpg does not exist"


def test_photos_on_a_list_have_places_of_their_own(folder, monkeypatch, tmp_path):
    (tmp_path / "list").write_text("../deep/x.jpg\ndeep/x.jpg\n../deep/x.jpg\n.\n..\n")
    monkeypatch.chdir(folder)
    with (tmp_path / "list").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert places(find_source("-")) == ["deep/x.jpg", "deep/x-2.jpg", "deep/x.jpg", ".", "."]


def test_links_in_a_folder_are_followed(folder, tmp_path):
    write_photo(tmp_path / "elsewhere/z.jpg")
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "link/z.jpg" in places(find_source(folder))


def test_what_is_no_file_is_counted_as_skipped(tmp_path, capsys):
    write_photo(tmp_path / "a.png")
    for name in ("b.jpg", "c.mp4"):
        (tmp_path / name).symlink_to("gone")
    (tmp_path / "d.jpg").symlink_to("d.jpg")
    os.mkfifo(tmp_path / "e.jpg")
    source, tally = find_source(tmp_path), Tally()
    with closing(read_frames(source)) as frames:
        assert (
            sum(frame.image is not None for frame, _ in answered(frames, len_of_each, batch_size=8, tally=tally)) == 1
        )
    with pytest.raises(
        ValueError, match=r"^4 of 5 photos skipped: .*b\.jpg does not exist; video .*c\.mp4 does not exist; "
    ):
        tally.check("the table", source=source)
    assert tally.problems[2:] == [
        f"image {tmp_path}/d.jpg cannot be read: Too many levels of symbolic links",
        f"image {tmp_path}/e.jpg cannot be read: it is a pipe or a device",
    ]
    for name in ("b.jpg", "d.jpg", "e.jpg"):
        assert glance_at_photo(tmp_path / name).problem and inspect_photo(tmp_path / name).problem


def len_of_each(images: list[np.ndarray]) -> list[int]:
    return [len(image) for image in images]


def test_a_folder_that_cannot_be_entered_is_named(tmp_path, capsys, monkeypatch):
    write_photo(tmp_path / "open/a.png")
    write_photo(tmp_path / "closed/b.png")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):  # a superuser may enter all
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert places(find_source(tmp_path)) == ["open/a.png"]
    assert (
        capsys.readouterr().err
        == f"note: {tmp_path}/closed cannot be entered (Permission denied): what is in it is skipped\n"
    )


@pytest.mark.parametrize("at_once", [1, 2])
def test_frames_keep_their_order_and_what_cannot_be_read_is_named(tmp_path, capsys, at_once):
    for i in range(30):
        write_photo(tmp_path / f"{i:02d}.png", i, height=10 + 300 * (i % 3 == 0), width=400)
    (tmp_path / "07.png").write_bytes((tmp_path / "08.png").read_bytes()[:40])
    (tmp_path / "09.heic").write_bytes(b"a phone's")
    (tmp_path / "12.mp4").write_bytes(b"no video")
    source, tally = find_source(tmp_path), Tally()
    sizes: list[int] = []

    def find(images: list[np.ndarray]) -> list[int]:
        sizes.append(len(images))
        return [int(image[0, 0, 0]) for image in images]

    with closing(read_frames(source, num_threads=4, ahead=3)) as frames:
        seen = list(answered(frames, find, batch_size=8, tally=tally, at_once=at_once))
    assert [frame.path.name for frame, _ in seen] == [path.name for path, _ in source.files]
    for frame, found in seen:
        assert found == (None if frame.image is None else int(frame.path.stem))
    assert sorted(sizes) == [6, 7, 8, 8]
    assert (tally.num_files, tally.num_frames) == (32, 29)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{tmp_path / name}: skipped" for name in ("07.png", "09.heic", "12.mp4")]
    with pytest.raises(
        ValueError, match=r"3 of 32 photos skipped: image .*07.png is truncated.*09.heic .*12.mp4 is dam"
    ):
        tally.check("table.csv", source=source)


def test_batches_are_computed_at_once_but_no_further_ahead():
    frames = [Frame(str(i), np.full((1, 1, 3), i, np.uint8)) for i in range(20)]
    computed, both = [], Barrier(2)

    def find(images: list[np.ndarray]) -> list[int]:
        if len(computed) < 2:
            both.wait(timeout=20)  # broken, unless two are computed at once
        computed.append(len(images))
        return [int(image[0, 0, 0]) for image in images]

    running = answered(frames, find, batch_size=2, tally=Tally(), at_once=2)
    assert next(running)[1] == 0
    running.close()  # waits for those that have begun
    assert len(computed) <= 3
    assert [found for _, found in answered(frames, find, batch_size=3, tally=Tally(), at_once=2)] == list(range(20))


def test_a_batch_that_fails_ends_the_loop_where_it_stands():
    frames = [Frame(str(i), np.full((1, 1, 3), i, np.uint8)) for i in range(6)]
    seen = []

    def find(images: list[np.ndarray]) -> list[int]:
        if images[0][0, 0, 0] == 2:
            raise ValueError("the third")
        return [0] * len(images)

    with pytest.raises(ValueError, match="the third"):
        for frame, _ in answered(frames, find, batch_size=1, tally=Tally(), at_once=2):
            seen.append(frame.name)
    assert seen == ["0", "1"]


def test_nothing_to_read_is_a_mistake_and_many_problems_are_counted():
    source, tally = Source(name="standard input"), Tally()
    with pytest.raises(ValueError, match="standard input: there is nothing to read in it; give a photo"):
        tally.check("table.csv", source=source)
    for i in range(5):
        tally.note(Frame(f"{i}.jpg", problem=f"image {i}.jpg is empty"))
    with pytest.raises(ValueError, match=r"^5 of 5 photos skipped: .*2.jpg is empty; and 2 more, see table.csv$"):
        tally.check("table.csv", source=source)
    tally.problems.clear()
    tally.check("table.csv", source=source)


def test_no_more_is_read_ahead_than_allowed_and_no_thread_is_left(tmp_path):
    photo = write_photo(tmp_path / "a.png")
    asked: list[int] = []

    def files() -> Iterator[tuple[Path, Path]]:
        for i in range(1000):
            asked.append(i)
            yield photo, Path(photo.name)

    before = threading.active_count()
    frames = read_frames(Source(name="many", files=files()), ahead=4, num_threads=2)
    for _ in range(3):
        next(frames)
    deadline = time.monotonic() + 20
    while len(asked) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)  # it would go on reading
    assert len(asked) == 3 + 4 + 1
    frames.close()
    assert threading.active_count() == before


def test_a_bug_while_reading_reaches_the_caller(tmp_path):
    def files() -> Iterator[tuple[Path, Path]]:
        yield write_photo(tmp_path / "a.png"), Path("a.png")
        raise RuntimeError("a bug")

    frames = read_frames(Source(name="broken", files=files()))
    assert next(frames).image is not None
    with pytest.raises(RuntimeError, match="a bug"):
        next(frames)


def test_a_video_is_frames_with_their_times(tmp_path):
    path = write_video(tmp_path / "Ein Vidéo.avi")
    frames = all_of(find_source(path))
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.seconds for frame in frames] == pytest.approx([i / RATE for i in range(10)])
    assert {(frame.rate, frame.total, frame.name) for frame in frames} == {(RATE, 10, str(path))}
    for i, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3) and abs(int(frame.image[20, 20, 0]) - (10 + 20 * i)) <= 3
    some = all_of(find_source(path), every=4)
    assert [frame.number for frame in some] == [0, 4, 8]
    assert (some[0].rate, some[0].total) == (RATE / 4, 3)
    with pytest.raises(ValueError, match="every must be 1"):
        all_of(find_source(path), every=0)


def test_a_damaged_video_is_a_problem_with_the_frames_that_can_be_read(tmp_path, capsys):
    data = write_video(tmp_path / "whole.avi", num_frames=60, width=320, height=240).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    source, tally = find_source(f"{tmp_path}/[ce]*"), Tally()
    frames = all_of(source)
    for frame in frames:
        tally.note(frame)
    *read, at_end, empty = frames
    assert 20 < len(read) < 40 and at_end.number == len(read)
    assert at_end.problem.endswith(f"cut.avi is damaged: {len(read)} of its 60 frames can be read")
    assert "empty.mp4 is damaged, empty" in empty.problem
    assert (tally.num_files, tally.num_frames) == (2, len(read))
    assert "cut.avi: it ends here" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"2 of 2 files not read, or not to the end: video .*cut.avi is damaged"):
        tally.check("table.csv", source=source)


class FakeCamera:
    """Gives one picture, waits for `go`, gives the others at once, sets `done` and ends."""

    def __init__(self, num_frames: int) -> None:
        self.left = self.num_frames = num_frames
        self.go, self.done = threading.Event(), threading.Event()
        self.released = False

    def get(self, key: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.left == self.num_frames - 1:
            assert self.go.wait(60)
        if not self.left:
            self.done.set()
            return False, None
        self.left -= 1
        return True, np.full((48, 64, 3), (0, 100, 200), np.uint8)

    def release(self) -> None:
        self.released = True


def test_a_camera_gives_its_newest_frame_and_is_released():
    camera = FakeCamera(40)
    frames = read_frames(Source(name="camera 0", camera=camera))
    first = next(frames)
    assert first.image[0, 0].tolist() == [200, 100, 0]  # RGB
    assert (first.number, first.path, first.rate) == (0, None, 25)
    camera.go.set()
    assert camera.done.wait(60)
    newest, end = frames
    assert newest.number == 39 and newest.seconds > first.seconds
    assert end.image is None and end.problem == "camera 0 gives no more pictures"
    assert camera.released


def test_a_camera_that_is_no_longer_wanted_is_released():
    endless = FakeCamera(10**9)
    endless.go.set()
    with closing(read_frames(Source(name="camera 0", camera=endless))) as frames:
        assert next(frames).image is not None
    assert endless.released


def put_all(showing: Showing, source: Source) -> None:
    with closing(read_frames(source)) as frames:
        for frame in frames:
            showing.put(frame, lambda image: 255 - image)


def test_pictures_keep_the_names_and_folders_of_the_photos(folder, tmp_path):
    write_photo(folder / "deep/w.webp")
    with Showing(tmp_path / "out") as showing:
        put_all(showing, find_source(folder / "deep"))
    names = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(names) == ["clip.avi.mp4", "er/ü.jpg", "w.webp.jpg", "x [1].png"]
    source = read_image(folder / "deep/x [1].png")
    assert (read_image(tmp_path / "out/x [1].png") == 255 - source).all()
    with Showing(tmp_path / "named", ending="faces", photos=False) as showing:
        put_all(showing, find_source(folder / "deep"))
    assert [path.name for path in (tmp_path / "named").iterdir()] == ["clip.avi.faces.mp4"]


def test_no_picture_replaces_another(folder, tmp_path):
    for i, name in enumerate(("same/a.bmp", "same/a.bmp.jpg", "same/a.webp")):
        write_photo(folder / name, 100 * i)
    with Showing(tmp_path / "out") as showing:
        put_all(showing, find_source(folder / "same"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.bmp-2.jpg", "a.bmp.jpg", "a.webp.jpg"]
    assert read_image(tmp_path / "out/a.bmp-2.jpg").mean() == pytest.approx(155, abs=2)


def test_no_other_source_is_replaced(folder):
    for name in ("same/a.bmp", "same/a.bmp.jpg"):
        write_photo(folder / name)
    before = (folder / "same/a.bmp.jpg").read_bytes()
    source = find_source(folder / "same")
    with Showing(folder / "same", keep=source.known) as showing, pytest.raises(ValueError, match="replace its source"):
        put_all(showing, source)
    assert (folder / "same/a.bmp.jpg").read_bytes() == before
    assert (folder / "same/a.bmp-2.jpg").exists()


def test_results_of_before_are_no_sources_of_an_absolute_pattern(folder):
    found = places(find_source(f"{folder.absolute()}/**/*.png", apart_from=folder.absolute() / "found"))
    assert found == ["b.png", "deep/x [1].png"]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_a_video_whose_name_is_no_text_is_a_problem(tmp_path):
    write_video(tmp_path / "a.avi").rename(tmp_path / "\udcff.avi")
    (frame,) = all_of(find_source(tmp_path))
    assert frame.problem.endswith("?.avi: its name is not UTF-8, rename it")
    with pytest.raises(ValueError, match="videos are not written to names that are not UTF-8"):
        Recording(tmp_path / "\udcff" / "a.mp4", rate=10).write(np.zeros((32, 32, 3), np.uint8), seconds=0)


def test_a_video_named_like_an_address_is_a_file(tmp_path, monkeypatch):
    write_video(tmp_path / "a.avi").rename(tmp_path / "12:30.avi")
    monkeypatch.chdir(tmp_path)
    assert len(all_of(find_source("12:30.avi"))) == 10


def test_a_source_is_never_replaced(folder):
    before = (folder / "b.png").read_bytes()
    with pytest.raises(ValueError, match=r"the drawn b.png would replace its source; give another folder"):
        with Showing(folder) as showing:
            put_all(showing, find_source(folder / "b.png"))
    assert (folder / "b.png").read_bytes() == before


def test_a_video_has_the_rate_and_frames_of_its_source(tmp_path):
    source = find_source(write_video(tmp_path / "clip.avi", width=65, height=49))
    with Showing(tmp_path / "out") as showing:
        put_all(showing, source)
        put_all(showing, source)  # again: it is replaced, not longer
    drawn = all_of(find_source(tmp_path / "out/clip.avi.mp4"))
    assert len(drawn) == 10 and drawn[0].rate == RATE
    for i, frame in enumerate(drawn):
        assert abs(int(frame.image[20, 20, 0]) - (245 - 20 * i)) <= 8


def test_a_drawn_video_shows_each_frame_at_its_time(tmp_path, monkeypatch):
    """At any time the drawn one shows what the source does, whose frames have gaps, and some less than one's time."""
    times = [0, 80, 160, 240, 1040, 1120, 1200, 1220, 1280, 2080]
    source = find_source(write_uneven_video(tmp_path / "clip.mkv", times))
    with Showing(tmp_path / "out") as showing:
        put_all(showing, source)
    drawn = all_of(find_source(tmp_path / "out/clip.mkv.mp4"))
    assert len(drawn) == 2080 * RATE / 1000 + 1
    for frame in drawn:
        is_shown = max(i for i, time in enumerate(times) if time <= 1000 * frame.seconds + 1)
        assert abs(int(frame.image[20, 20, 0]) - (245 - 20 * is_shown)) <= 8, frame.seconds
    monkeypatch.setattr(showing_module, "LONGEST_GAP", 5 / RATE)
    with Showing(tmp_path / "short") as showing:
        put_all(showing, source)
    assert len(all_of(find_source(tmp_path / "short/clip.mkv.mp4"))) == 27 - 4 - 4  # of each gap of ten


@pytest.mark.parametrize(("error", "is_kept"), [(KeyboardInterrupt, True), (RuntimeError, False)])
def test_a_video_is_whole_or_ends_where_a_person_stopped_it(tmp_path, error, is_kept):
    source = find_source(write_video(tmp_path / "clip.avi"))
    with pytest.raises(error), Showing(tmp_path / "out") as showing, closing(read_frames(source)) as frames:
        for frame in frames:
            showing.put(frame, lambda image: image)
            if frame.number == 5:
                raise error
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["clip.avi.mp4"] * is_kept
    if is_kept:
        assert len(all_of(find_source(tmp_path / "out/clip.avi.mp4"))) == 6


def test_a_recording_keeps_time(tmp_path):
    recording = Recording(tmp_path / "r.mp4", rate=10)
    for seconds in (0.0, 0.05, 0.5, 1.0):  # late, early and missing frames
        recording.write(np.zeros((48, 64, 3), np.uint8), seconds=seconds)
    recording.close()
    assert len(all_of(find_source(tmp_path / "r.mp4"))) == 11
    Recording(tmp_path / "empty.mp4", rate=10).close()
    with pytest.raises(ValueError, match=r"this OpenCV cannot write a video of 1 x 1 pixels"):
        with Showing(tmp_path) as showing:
            frame = Frame(
                "dot.mp4", np.zeros((1, 1, 3), np.uint8), path=Path("dot.mp4"), relative_path=Path("dot.mp4"), number=0
            )
            showing.put(frame._replace(rate=10.0), lambda image: image)
    assert [path.name for path in tmp_path.iterdir()] == ["r.mp4"]


def test_a_window_shows_frames_and_ends_by_q_or_when_closed(monkeypatch, tmp_path):
    shown: list[np.ndarray] = []
    state = {"key": -1, "visible": 1.0}
    monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda ms: state["key"])
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, which: state["visible"])
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.clear())
    image = np.full((480, 640, 3), (200, 100, 0), np.uint8)
    with Showing(None, window="Objects") as showing:
        frames = [Frame("camera 0", image, number=i, seconds=i / 10, rate=25.0) for i in range(5)]
        assert showing.put(frames[0], lambda image: image) and showing.put(frames[1], lambda image: image)
        assert shown[0][400, 400].tolist() == [0, 100, 200]  # BGR
        assert (shown[1][:40, :200] != shown[0][:40, :200]).any()  # frames a second
        state["key"] = ord("q")
        assert not showing.put(frames[2], lambda image: image)
        state["key"] = 27
        assert not showing.put(frames[3], lambda image: image)
        state.update(key=-1, visible=0.0)
        assert not showing.put(frames[4], lambda image: image)
    assert shown == [] and list(tmp_path.iterdir()) == []


def test_without_a_display_one_line_says_what_to_do(monkeypatch, tmp_path):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not has_display()
    with pytest.raises(ValueError, match=r"no display .*: use `python demos/x.py` in a browser, or record with --out"):
        window_for_camera("Objects", out=None, page="demos/x.py")
    assert window_for_camera("Objects", out=tmp_path, page="demos/x.py") is None
    monkeypatch.setenv("DISPLAY", ":987")  # where nothing listens: Qt would end this process
    assert not has_display()
    monkeypatch.setattr(showing_module, "has_display", lambda: True)
    assert window_for_camera("Objects", out=None, page="demos/x.py") == "Objects"


def test_a_table_says_which_frame_it_is_only_where_there_are_frames(tmp_path):
    def rows_of(table: FrameTable) -> list[list[str]]:
        table.write(tmp_path / "table.csv")
        with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    table, image = FrameTable(["class"]), np.zeros((2, 2, 3), np.uint8)
    table.add(Frame("a.jpg", image), [["cat"], ["dog"]])
    table.add(Frame("b.jpg", problem="image b.jpg is empty"), [])
    header = ["file", "class", "problem"]
    assert rows_of(table) == [header, ["a.jpg", "cat", ""], ["a.jpg", "dog", ""], ["b.jpg", "", "image b.jpg is empty"]]
    assert table.of_videos() == []
    for i in range(2):
        table.add(Frame("c.mp4", image, number=i, seconds=i / 8), [["cat"]], names=["cat"])
    table.add(Frame("d.mp4", image, number=0), [])
    assert rows_of(table)[0] == ["file", "frame", "seconds", "class", "problem"]
    assert rows_of(table)[1] == ["a.jpg", "", "", "cat", ""] and rows_of(table)[5] == ["c.mp4", "1", "0.125", "cat", ""]
    assert table.of_videos() == ["c.mp4: 2 frames; in all of them 2 cat", "d.mp4: 1 frames; in all of them nothing"]
