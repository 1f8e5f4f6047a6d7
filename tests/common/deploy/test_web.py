"""The folder of --format web in a real browser: the page must see what the app's Predictor sees."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from apps.common.cli import run_command
from apps.common.deploy import web
from apps.common.deploy.formats import write_onnx
from apps.common.deploy.web import CDN, RUNTIME, VERSION, WebPage, integrity, write_page
from apps.common.images import read_image, resize
from apps.detection import export as detection_export
from apps.detection import predict as detection_predict
from apps.detection.model.detector import Detector
from apps.detection.model.end_to_end import translations
from apps.faceattr import export as faceattr_export
from apps.faceattr import predict as faceattr_predict
from apps.faceattr.model.tagger import Tagger
from apps.finegrained import export as finegrained_export
from apps.finegrained import predict as finegrained_predict
from apps.finegrained.model.classifier import Classifier
from benchmarks.demo_load import find_chromium, open_browser, write_webcam
from demos.chooser import BUNDLED, example_pictures
from tests.common.exported_files import need_exporter
from tests.conftest import SHARED

CPU = torch.device("cpu")
SECOND = 1000  # Playwright counts milliseconds
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


# ---- what is written -------------------------------------------------------------------------------------------


def test_without_a_runtime_the_page_fetches_a_pinned_one(tmp_path: Path) -> None:
    write_page(tmp_path, {"app": "finegrained", "class_names": ["<b>"]}, WebPage(facts={"crop": 1.0}))
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["runtime"] == {"version": VERSION, "base": CDN, "files": RUNTIME} and VERSION in CDN
    assert about["class_names"] == ["<b>"] and about["crop"] == 1.0
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "page.js", "model.js", "model.json"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ort", "nowhere"], "--ort nowhere has no ort.wasm.bundle.min.mjs: give the unpacked npm package"),
        (["--outputs", "raw"], "--format web needs --outputs detections"),
        (["--input", "float"], "--format web takes pixels of one size"),
        (["--out", "full"], "--out full must be a new folder, or one that an export wrote, for --format web"),
        (["--format", "onnx", "--ort", "x"], "--ort is for --format web, not onnx"),
    ],
)
def test_wrong_flags_are_told_before_work_begins(tmp_path, monkeypatch, capsys, flags, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "index.html").write_text("my own page")
    args = ["--checkpoint", str(BUNDLED / "detection"), "--format", "web", *flags]
    with pytest.raises(SystemExit) as stop:
        run_command(detection_export.export, detection_export.Config, args)
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "index.html"]


def test_a_page_that_was_changed_is_not_taken_from_the_cache(tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(web.PAGE, tmp_path / "page")
    before = web.cached_page("a model")
    monkeypatch.setattr(web, "PAGE", tmp_path / "page")
    assert web.cached_page("a model") == before != web.cached_page("another")
    (tmp_path / "page" / "page.js").write_text("// new")
    assert web.cached_page("a model") != before


def test_a_runtime_of_another_version_is_refused(tmp_path: Path) -> None:
    for name in RUNTIME:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"ort\.wasm\.bundle\.min\.mjs is not that of onnxruntime-web"):
        web.find_runtime(tmp_path)
    assert integrity(b"") == "sha384-OLBgp1GsljhM2TJ+sbHjaiH9txEUvgdDTAzHv2P24donTt6/529l+9Ua0vFImLlb"  # by openssl


# ---- in the browser --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime-web's unpacked package: $ONNXRUNTIME_WEB, or fetched by npm."""
    if given := os.environ.get("ONNXRUNTIME_WEB"):
        return Path(given)
    if (npm := shutil.which("npm")) is None:
        pytest.skip("needs onnxruntime-web: npm to fetch it, or ONNXRUNTIME_WEB=folder of the unpacked package")
    folder = tmp_path_factory.mktemp("ort")
    command = [npm, "pack", "--silent", f"onnxruntime-web@{VERSION}"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"onnxruntime-web cannot be fetched by npm: {error}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Silent."""

    def end_headers(self) -> None:
        for name, value in ISOLATED.items():
            self.send_header(name, value)
        super().end_headers()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, ort: Path) -> Iterator[tuple[Path, str]]:
    """A folder with a page for each app, of the bundled models, and the address it is served at."""
    need_exporter()
    root = tmp_path_factory.mktemp("site")
    detector = Detector.load(BUNDLED / "detection", device=CPU)
    classifier = Classifier.load(BUNDLED / "finegrained", device=CPU)
    tagger = Tagger.load(BUNDLED / "faceattr", device=CPU)
    outputs = detection_export.Config(outputs="detections")
    faces = faceattr_export.Config(checkpoint=BUNDLED / "faceattr", format="web", ort=ort)
    pages: dict[str, tuple[Any, Any, dict[str, Any], WebPage, Any]] = {
        "detection": (
            detection_export.make_graph(detector, finished=True, input="uint8"),
            detector.resolution,
            detection_export.describe(detector, outputs),
            WebPage(ort),
            translations(),
        ),
        "finegrained": (
            classifier.graph(),
            classifier.resolution,
            finegrained_export.describe(classifier),
            WebPage(ort),
            None,
        ),
        "faceattr": (
            tagger.graph(),
            tagger.resolution,
            faceattr_export.describe(tagger),
            faceattr_export.make_page(tagger, faces),
            None,
        ),
    }
    for app, (graph, resolution, facts, page, operators) in pages.items():
        (root / app).mkdir()
        write_onnx(root / app / "model.onnx", graph, resolution=resolution, translations=operators)
        write_page(root / app, {"resolution": resolution, **facts}, page)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if find_chromium() is None:
        pytest.skip("needs Chromium: apt-get install chromium, or CHROMIUM=path")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    film = write_webcam(tmp_path_factory.mktemp("film") / "camera.y4m", example_pictures("detection")[4:5])
    with sync_api.sync_playwright() as player:
        chromium = open_browser(player, film)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(site: tuple[Path, str], browser: Any) -> Iterator[Callable[[str], Any]]:
    """Opens the page of an app and waits for its model; no error may have come by the end."""
    context, errors = browser.new_context(permissions=["camera"], viewport={"width": 390, "height": 800}), []

    def opened(app: str) -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{site[1]}/{app}/")
        page.wait_for_selector("body[data-ready]", timeout=60 * SECOND)
        return page

    yield opened
    context.close()
    assert not errors


def results(page: Any, photo: Path) -> list[dict[str, Any]]:
    """What the page finds in a photo."""
    page.evaluate("window.results = null")
    page.set_input_files("#photo", str(photo))
    page.wait_for_function("window.results !== null", timeout=60 * SECOND)
    return page.evaluate("window.results")


def photos(app: str) -> list[Path]:
    """The examples of an app, and the real photos where they are."""
    return [*example_pictures(app), *sorted((SHARED / "data" / "photos").glob("*.jpg"))]


def far(box: list[float], other: tuple[float, ...], photo: Path) -> float:
    """Between two boxes, in pixels of a photo whose long side has 640."""
    return np.abs(np.subtract(box, other)).max() * 640 / max(read_image(photo).shape[:2])


def test_the_boxes_are_those_of_python(open_page: Callable[[str], Any]) -> None:
    page, predict = open_page("detection"), detection_predict.Predictor(BUNDLED / "detection")
    lower = detection_predict.Predictor(BUNDLED / "detection", conf=predict.threshold - 0.01)
    total = 0
    for photo in photos("detection"):
        seen, expected = results(page, photo), predict(read_image(photo))
        sure = [one for one in expected if one.score > predict.threshold + 0.01]
        assert len(sure) <= len(seen) <= len(lower(read_image(photo))), photo.name
        for found, one in zip(seen, sure, strict=False):
            assert found["name"] == one.name and found["score"] == pytest.approx(one.score, abs=0.01)
            assert far(found["box"], one.box_xyxy_px, photo) < 1, photo.name
        total += len(sure)
    assert total >= 8


def test_the_guesses_are_those_of_python(open_page: Callable[[str], Any]) -> None:
    page, predict = open_page("finegrained"), finegrained_predict.Predictor(BUNDLED / "finegrained")
    for photo in photos("finegrained"):
        seen, expected = results(page, photo), predict(read_image(photo))
        assert seen[0]["name"] == expected[0].name, photo.name
        assert [one["score"] for one in seen] == pytest.approx([one.prob for one in expected], abs=0.01), photo.name
        assert page.inner_text("#status").startswith("None" if expected.is_unknown else "Best")


def test_the_faces_are_those_of_python(open_page: Callable[[str], Any]) -> None:
    page, predict = open_page("faceattr"), faceattr_predict.Predictor(BUNDLED / "faceattr")
    total = 0
    for photo in photos("faceattr"):
        seen, expected = results(page, photo), predict(read_image(photo))
        assert len(seen) == len(expected), photo.name
        for face, one in zip(seen, expected, strict=True):
            assert far(face["box"], one.box_xyxy_px, photo) < 1, photo.name
            for attribute in face["attributes"]:  # only what is shown, by this or a hair of a threshold
                assert attribute["score"] == pytest.approx(one.probs[attribute["name"]], abs=0.05), photo.name
        total += len(seen)
    assert total >= len(example_pictures("faceattr"))


def test_the_camera_is_watched_and_let_go(open_page: Callable[[str], Any]) -> None:
    page = open_page("detection")
    assert page.evaluate("self.crossOriginIsolated")
    page.click("#webcam")
    page.wait_for_function("window.framesPerSecond > 0", timeout=60 * SECOND)
    print(f"{page.evaluate('window.framesPerSecond'):.1f} frames a second, {page.inner_text('#status')}")
    page.wait_for_function("window.results.length > 0", timeout=60 * SECOND)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # of a phone
    page.click("#stop")
    assert page.inner_text("#status") == "Stopped" and page.is_hidden("#stop")
    shown = page.evaluate("JSON.stringify(window.results)")
    time.sleep(0.3)
    assert page.evaluate("JSON.stringify(window.results)") == shown


def test_what_is_no_photo_is_told_and_names_are_text(
    open_page: Callable[[str], Any], site: tuple[Path, str], tmp_path: Path
) -> None:
    facts = json.loads((site[0] / "finegrained" / "model.json").read_text())
    names = ["<img src=x onerror=alert(1)>"] * len(facts["class_names"])
    shutil.copytree(site[0] / "finegrained", site[0] / "odd names")
    (site[0] / "odd names" / "model.json").write_text(json.dumps({**facts, "class_names": names}))
    page = open_page("odd names")
    results(page, example_pictures("finegrained")[0])
    page.wait_for_selector("#results li")
    assert names[0] in page.inner_text("#results") and page.locator("#results img").count() == 0
    (tmp_path / "text.jpg").write_text("no photo")
    page.set_input_files("#photo", str(tmp_path / "text.jpg"))
    page.wait_for_function("document.querySelector('#status').textContent.includes('not a photo')")
    assert not page.inner_text("#results")  # those of the photo before
    assert not page.evaluate("""() => {
        const canvas = document.querySelector("canvas");
        return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value);
    }""")
    assert len(results(page, example_pictures("finegrained")[1])) == 5  # and the page goes on


def test_a_camera_that_is_allowed_late_is_let_go(open_page: Callable[[str], Any]) -> None:
    page, photo = open_page("finegrained"), example_pictures("finegrained")[0]
    page.evaluate("""() => {
        const camera = navigator.mediaDevices, open = camera.getUserMedia.bind(camera);
        window.allowed = new Promise((resolve) => (window.allow = resolve));
        camera.getUserMedia = async (asked) => (await window.allowed, (window.stream = await open(asked)));
    }""")
    page.click("#webcam")
    first = results(page, photo)
    page.evaluate("window.allow()")
    page.wait_for_function("window.stream?.getTracks().every((track) => track.readyState === 'ended')")
    assert page.is_hidden("#stop") and page.inner_text("#status").startswith("Best")
    assert page.input_value("#photo") == ""  # else a browser says nothing if the same photo is chosen again
    assert results(page, photo) == first


def test_photos_larger_than_a_canvas_of_ios_are_made_smaller(open_page: Callable[[str], Any], tmp_path: Path) -> None:
    page, photo = open_page("finegrained"), example_pictures("finegrained")[0]
    small = results(page, photo)
    large = cv2.resize(cv2.imread(str(photo)), (5712, 4284), interpolation=cv2.INTER_LINEAR)  # a phone's 24 MP
    cv2.imwrite(str(tmp_path / "large.jpg"), large)
    seen = results(page, tmp_path / "large.jpg")
    width, height = page.evaluate("[document.querySelector('canvas').width, document.querySelector('canvas').height]")
    assert width * height <= 16_777_216 < 1.001 * width * height and width / height == pytest.approx(4 / 3, abs=1e-3)
    assert seen[0]["name"] == small[0]["name"]


def test_pictures_of_any_shape_leave_the_results_on_the_screen(open_page: Callable[[str], Any], tmp_path: Path) -> None:
    page = open_page("finegrained")
    assert page.is_visible("#hint") and page.is_hidden("#slider")  # which is the detector's
    for width, height in ((1, 1), (2, 4000), (3000, 1), (300, 400)):
        cv2.imwrite(str(tmp_path / "odd.png"), np.full((height, width, 3), 90, np.uint8))
        assert len(results(page, tmp_path / "odd.png")) == 5
        assert page.evaluate("document.querySelector('#status').getBoundingClientRect().bottom < innerHeight")
    assert page.is_hidden("#hint")
    shown = page.evaluate("document.querySelector('canvas').getBoundingClientRect().toJSON()")
    assert shown["height"] / shown["width"] == pytest.approx(4 / 3, abs=0.01)  # as a phone's photos are, at full width


def test_what_fails_later_is_told(browser: Any, site: tuple[Path, str]) -> None:
    page = browser.new_page()
    page.goto(f"{site[1]}/finegrained/")
    page.wait_for_selector("body[data-ready]", timeout=60 * SECOND)
    page.evaluate("() => (CanvasRenderingContext2D.prototype.getImageData = () => { throw new Error('no memory') }, 0)")
    page.set_input_files("#photo", str(example_pictures("finegrained")[0]))
    page.wait_for_function("document.querySelector('#status').textContent === 'It failed: no memory'")
    page.close()


def test_another_runtime_than_the_pinned_one_is_not_run(browser: Any, site: tuple[Path, str]) -> None:
    shutil.copytree(site[0] / "finegrained", site[0] / "changed")
    script = site[0] / "changed" / "ort" / next(iter(RUNTIME))
    script.write_bytes(script.read_bytes() + b"//")
    page = browser.new_page()
    page.goto(f"{site[1]}/changed/")
    page.wait_for_function("document.querySelector('#status').textContent.startsWith('The model cannot be loaded')")
    page.close()


def test_photos_are_resized_as_in_python(open_page: Callable[[str], Any]) -> None:
    page = open_page("detection")
    rng = np.random.default_rng(0)
    for size, target in [((120, 160), 40), ((97, 201), 96), ((40, 30), 64), ((210, 100), 90)]:
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        image[size[0] // 3 :] = np.linspace(0, 255, size[1]).astype(np.uint8)[None, :, None]
        rgba = np.dstack((image, np.full(size, 255, np.uint8)))
        seen = page.evaluate(
            """async ([bytes, width, height, target]) => {
                const { resize } = await import("./model.js");
                return Array.from(resize({ data: Uint8ClampedArray.from(bytes), width, height }, target, target));
            }""",
            [rgba.flatten().tolist(), size[1], size[0], target],
        )
        differs = np.array(seen).reshape(target, target, 3) - resize(image, target, target).astype(int)
        assert np.abs(differs).max() <= 1 and (differs != 0).mean() < 0.02
