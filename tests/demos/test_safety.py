"""What a stranger might try with a page, tried."""

import socket
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file

from demos import blocks, serving
from demos.chooser import example_pictures
from demos.handlers import Handlers
from demos.task import Settings
from demos.uploads import count_photos, open_photos
from tests.demos.test_live import handlers  # noqa: F401  # a fixture

PHOTO = example_pictures("detection")[0]
LIMIT = 50_000  # bytes


@pytest.fixture(scope="module")
def small_page(room: Path) -> Iterator[gr.Blocks]:
    """A page that gives back what is uploaded, with little patience and little room."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "KEEP_SECONDS", 5)
        patch.setattr(blocks, "SWEEP_SECONDS", 1)
        patch.setattr(serving, "MAX_UPLOAD_BYTES", LIMIT)
        with blocks.new_blocks("small") as page:
            given, back = gr.Image(type="filepath"), gr.Image()
            given.change(lambda path: path, given, back, api_name="same")
        serving.launch(page, serving.Server(), wait=False)
    yield page
    page.close(verbose=False)


def test_uploads_and_results_are_removed(small_page, room, tmp_path):
    before = set(room.rglob("*"))
    client = Client(small_page.local_url, verbose=False, download_files=tmp_path)
    assert Path(client.predict(handle_file(PHOTO), api_name="/same")).stat().st_size
    end = time.monotonic() + 60
    while left := [path for path in set(room.rglob("*")) - before if path.is_file()]:
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.2)


def test_files_that_are_too_large_are_refused(small_page, room):
    before = set(room.rglob("*"))
    url = f"{small_page.local_url}gradio_api/upload"
    answer = httpx.post(url, files={"files": ("large.jpg", bytes(LIMIT + 10_000))})
    assert answer.status_code == 413
    assert {path for path in set(room.rglob("*")) - before if path.is_file()} == set()
    assert httpx.post(url, files={"files": ("small.jpg", bytes(100))}).status_code == 200


def test_a_visitor_who_sends_slowly_keeps_nobody_waiting(page, client):
    address = urlsplit(page.local_url)
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    sent = []
    try:
        for _ in range(20):
            sent.append(socket.create_connection((address.hostname, address.port), timeout=10))
            sent[-1].sendall(head + kind)
        assert "ms" in client.predict(handle_file(PHOTO), api_name="/detect")[1]
        for one in sent:
            one.settimeout(0)
            with pytest.raises(BlockingIOError):  # nothing has come: it still waits
                one.recv(1)
    finally:
        for one in sent:
            one.close()


def write_clip(path: Path, num_frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for i in range(num_frames):
        writer.write(np.full((64, 96, 3), i % 256, np.uint8))
    writer.release()
    return path


def test_a_photo_is_answered_while_a_video_is_worked_on(client, tmp_path):
    client.predict(handle_file(PHOTO), api_name="/detect")
    video = client.submit(handle_file(write_clip(tmp_path / "long.mp4", 400)), api_name="/detect_video")
    while video.status().code.name not in ("PROCESSING", "ITERATING", "PROGRESS", "FINISHED"):
        time.sleep(0.02)
    assert client.predict(handle_file(PHOTO), api_name="/detect")[1]
    assert not video.done(), "it had to wait for all of the video"
    assert video.result(timeout=300)[1].startswith("400 frames")


def test_progress_is_told_frame_by_frame(handlers: Handlers, room, tmp_path):  # noqa: F811
    told: list[tuple[int, int | None]] = []
    clip = write_clip(tmp_path / "clip.mp4", 5)
    handlers.video(
        str(clip),
        Settings(handlers.models.default, 0.3, []),
        progress=lambda step, unit: told.append(step),  # type: ignore[arg-type]
    )
    assert told == [(i, 5) for i in range(1, 6)]


def test_an_unknown_runtime_is_refused(handlers: Handlers):  # noqa: F811
    with pytest.raises(ValueError, match="there is no runtime 'abacus'; there are: PyTorch"):
        handlers.photo(str(PHOTO), Settings(handlers.models.default, 0.3, [], "abacus"))


def test_another_runtime_computes_the_same(handlers: Handlers):  # noqa: F811
    if "ONNX Runtime" not in handlers.models.runtimes:
        pytest.skip("needs onnxruntime: pip install -e '.[fast]'")
    default = handlers.models.default
    by, problem = handlers.choose(default, "ONNX Runtime")[2:4]
    assert (by.info.split()[0], problem) == ("onnxruntime", "")
    ours = handlers.photo(str(PHOTO), Settings(default, 0.05, [], "PyTorch"))[2]
    theirs = handlers.photo(str(PHOTO), Settings(default, 0.05, [], "ONNX Runtime"))[2]
    assert [row[1] for row in ours] == [row[1] for row in theirs] != []
    np.testing.assert_allclose([row[2] for row in ours], [row[2] for row in theirs], atol=2e-3)


def test_an_archive_of_a_million_files_is_not_listed(tmp_path):
    """One entry of the list of contents, again and again."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"")
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    entry, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    number = 300_000
    sizes = struct.pack("<HHII", 0xFFFF, 0xFFFF, number * len(entry), start)
    path.write_bytes(data[:start] + number * entry + end[:8] + sizes + end[20:])
    assert zipfile.is_zipfile(path)
    tracemalloc.start()
    assert count_photos([path]) == 1
    (sent,) = open_photos([path], tmp_path)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent.image is None and sent.problem.endswith("it has more than 10,000 files)")
    assert memory < 5_000_000
