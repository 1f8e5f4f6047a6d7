"""The public functions, used by gradio_client against a real server."""

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from apps.detection.predict import Predictor
from demos import payloads
from demos.chooser import example_pictures
from tests.demos.conftest import rows_of

FACE = example_pictures("faceattr")[0]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    return path


def test_the_public_functions_have_documented_names(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {
        f"/{verb}{end}" for verb in ("detect", "classify", "describe_faces") for end in ("", "_video", "_photos")
    }
    assert [one["parameter_name"] for one in endpoints["/detect"]["parameters"]] == [
        *("photo", "model", "threshold", "only", "runtime")
    ]
    assert endpoints["/describe_faces"]["parameters"][-1]["parameter_name"] == "sensitive"


def test_boxes_are_those_of_the_predictor_above_the_threshold(client, photo, model_folders):
    image = cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB)
    every = Predictor(model_folders["detection"], device="cpu", conf=0.05, runtime="torch")(image)
    assert every, "an untrained detector finds something everywhere"
    limit = float(np.median([one.score for one in every]))
    picture, sentence, table = client.predict(handle_file(photo), threshold=limit, api_name="/detect")
    wanted = [one for one in every if one.score >= limit]
    assert [row[1] for row in table["data"]] == [one.name for one in wanted]
    assert [row[3:] for row in table["data"]] == [[round(v, 1) for v in one.box_xyxy_px] for one in wanted]
    assert "ms" in sentence
    assert max(Image.open(picture).size) == 640


def test_only_the_chosen_classes_are_shown(client, photo):
    _, _, table = client.predict(handle_file(photo), threshold=0.05, only=["blue"], api_name="/detect")
    assert {row[1] for row in table["data"]} <= {"blue"}
    _, sentence, table = client.predict(handle_file(photo), threshold=0.05, only=["green"], api_name="/detect")
    assert table["data"] == []
    assert "does not know green" in sentence


def test_classes_have_bars_that_sum_to_one(client, photo):
    _, sentence, bars = client.predict(handle_file(photo), threshold=0, api_name="/classify")
    assert sum(bar["confidence"] for bar in bars["confidences"]) == pytest.approx(1, abs=1e-4)
    assert bars["label"] in sentence
    picture, _, _ = client.predict(handle_file(photo), threshold=0, heatmap=True, api_name="/classify")
    assert Image.open(picture).size[0] == Image.open(picture).size[1], "the part that is looked at is a square"


def test_sensitive_attributes_are_hidden_unless_asked_for(client):
    _, _, table = client.predict(handle_file(FACE), api_name="/describe_faces")
    assert {row[1] for row in table["data"]} == {"Eyeglasses", "Smiling"}
    _, _, table = client.predict(handle_file(FACE), sensitive=True, api_name="/describe_faces")
    assert {row[1] for row in table["data"]} == {"Eyeglasses", "Male", "Smiling", "Young"}


def image_bytes(kind: str) -> bytes:
    """Files as they come from the world; the name says what is special."""
    out = io.BytesIO()
    if kind == "gray.png":
        Image.new("L", (50, 40), 90).save(out, "PNG")
    elif kind == "rgba.png":
        Image.new("RGBA", (50, 40), (9, 200, 9, 0)).save(out, "PNG")
    elif kind == "16bit.png":
        out.write(cv2.imencode(".png", np.full((40, 50, 3), 40_000, np.uint16))[1].tobytes())
    elif kind == "cmyk.jpg":
        Image.new("CMYK", (50, 40), (9, 200, 9, 0)).save(out, "JPEG")
    elif kind.startswith("animated."):
        frames = [Image.new("RGB", (50, 40), colour) for colour in ("red", "green", "blue")]
        frames[0].save(out, kind.removeprefix("animated.").upper(), save_all=True, append_images=frames[1:])
    elif kind == "panorama.jpg":
        Image.new("RGB", (10_000, 2500), "gray").save(out, "JPEG")
    elif kind == "line.png":
        Image.new("RGB", (3000, 1), "gray").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        *("gray.png", "rgba.png", "16bit.png", "cmyk.jpg"),
        *("animated.gif", "animated.webp", "panorama.jpg", "line.png"),
    ],
)
@pytest.mark.parametrize("function", ["/detect", "/classify", "/describe_faces"])
def test_unusual_pictures_are_read(client, tmp_path, kind, function):
    path = tmp_path / kind
    path.write_bytes(image_bytes(kind))
    picture, sentence, _ = client.predict(handle_file(path), api_name=function)
    assert sentence
    assert max(Image.open(picture).size) <= 1600


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels, with none behind it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Name: content and what the page says about it."""
    whole = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(whole, "PNG")
    return {
        "empty.png": (b"", "empty (0 bytes)"),
        "text.jpg": (b"no picture at all", "not a picture that can be read"),
        "bomb.png": (png_header(30_000, 30_000), "far too many pixels"),
        "large.png": (png_header(10_000, 9_000), "10000 x 9000 pixels, 90.0 million; at most 60 million"),
        "cut.png": (whole.getvalue()[:9000], "truncated"),
        "page.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture that can be read"),
    }


def test_what_cannot_be_read_is_told_and_the_server_lives_on(client, tmp_path, photo, room):
    for name, (content, said) in bad_files().items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AppError, match=re.escape(said)) as error:
            client.predict(handle_file(tmp_path / name), api_name="/detect")
        assert str(room) not in str(error.value), "the server's folders are nobody's business"
    assert client.predict(handle_file(photo), api_name="/detect")[1]


def test_an_upload_after_an_example_was_clicked_is_checked_before_it_is_decoded(page, tmp_path):
    """Gradio then has another object of the photo's component for this visitor."""
    visitor = Client(page.local_url, verbose=False, download_files=False)
    click = next(one for one in page.config["dependencies"] if str(one["api_name"]).startswith("load_example"))
    visitor.predict(0, fn_index=click["id"])
    for name, (content, said) in bad_files().items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AppError, match=re.escape(said)):
            visitor.predict(handle_file(tmp_path / name), api_name="/detect")


def test_names_are_taken_from_the_model_that_is_chosen(page, photo):
    """Gradio then has another object of the list of names for this visitor, which knows all names that are sent."""
    visitor = Client(page.local_url, verbose=False, download_files=False)
    choose = next(one for one in page.config["dependencies"] if str(one["api_name"]).startswith("choose"))
    visitor.endpoints[choose["id"]].is_valid = True  # private: the page's own JavaScript calls it
    visitor.predict(None, None, fn_index=choose["id"])
    sentence = visitor.predict(handle_file(photo), only=["green"], api_name="/detect")[1]
    assert "does not know green" in sentence


def test_the_browser_shows_our_components_as_those_of_gradio(page):
    """There is no code for others in it, and no interface is written beside the source."""
    kinds = {component["type"] for component in page.config["components"]}
    assert {"image", "dropdown"} <= kinds
    assert kinds <= {"form", *(name.lower() for name in dir(gr))}
    assert not Path(payloads.__file__).with_suffix(".pyi").exists()


def test_a_model_that_is_not_offered_is_refused(client, photo):
    with pytest.raises((AppError, ValueError)):
        client.predict(handle_file(photo), model="/etc/passwd", api_name="/detect")


def test_many_photos_make_a_table(client, tmp_path, photo):
    archive = tmp_path / "some.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(photo, "../../=outside.png")
        file.writestr("cut.jpg", b"\xff\xd8\xff")
        file.writestr("read me.txt", b"text")
        file.writestr("__MACOSX/._x.png", b"")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(archive.read_bytes()[:-300])
    files = [handle_file(photo), handle_file(archive), handle_file(broken)]
    table, sentence, pictures = client.predict(files, threshold=0, api_name="/classify_photos")
    rows = rows_of(table)
    by_name = {row["file"]: row for row in rows}
    assert float(by_name["../../=outside.png"]["prob1"]) > 0
    assert "not a picture" in by_name["cut.jpg"]["problem"]
    assert "no photo" in by_name["read me.txt"]["problem"]
    assert "neither" in by_name["broken.zip"]["problem"]
    assert len(rows) == 5
    assert [one["caption"].partition(": It looks")[0] for one in pictures] == ["a photo.png", "../../=outside.png"]
    assert [max(Image.open(one["image"]).size) for one in pictures] == [640, 640]
    assert sentence.startswith("2 of 5 photos are in the table. 3 could not be read")
    assert not any(cell.startswith("=") for row in rows for cell in row.values()), "a spreadsheet would compute it"
    assert "'=finch" in {row[f"class{i}"] for row in rows for i in (1, 2, 3)}


def test_a_photo_without_faces_has_a_row(client, photo):
    table, *_ = client.predict([handle_file(photo)], api_name="/describe_faces_photos")
    assert [(row["file"], row["face"]) for row in rows_of(table)] == [("a photo.png", "0")]


def test_a_video_comes_back_with_as_many_frames(client, tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 65))
    for i in range(5):
        writer.write(np.full((65, 96, 3), 40 * i, np.uint8))
    writer.release()
    result, sentence = client.predict(handle_file(path), api_name="/detect_video")
    video = cv2.VideoCapture(result["video"] if isinstance(result, dict) else result)
    assert sum(video.read()[0] for _ in range(20)) == 5
    assert sentence.startswith("5 frames")


@pytest.mark.parametrize("content", [b"#EXTM3U\n#EXTINF:1,\nfile:" + b"///etc/passwd\n", b"ffconcat version 1.0", b""])
def test_lists_of_other_files_are_no_videos(client, tmp_path, content):
    path = tmp_path / "list.mp4"
    path.write_bytes(content)
    with pytest.raises(AppError, match="no video"):
        client.predict(handle_file(path), api_name="/detect_video")


def test_nothing_but_the_page_is_served(page):
    base = page.local_url
    assert httpx.get(base).status_code == 200
    for path in ("/etc/passwd", str(Path(__file__)), str(Path(__file__).parents[2] / "pyproject.toml")):
        assert httpx.get(f"{base}gradio_api/file={path}").status_code in (403, 404)
    assert httpx.get(f"{base}monitoring").status_code != 200
    assert page.config["analytics_enabled"] is False
