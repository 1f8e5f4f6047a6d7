"""The pages in a real browser: Chromium, with a camera that shows a film of example pictures."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.demo_load import (
    RECORD,
    Started,
    find_chromium,
    open_browser,
    open_tab,
    served,
    start_camera,
    write_webcam,
)
from demos.chooser import BUNDLED, example_pictures, find_runtimes
from tests.demos.browsing import (
    SHOWN,
    choose,
    likeness,
    number_found,
    says,
    set_threshold,
    shown_frame,
    tracks,
    wait_until,
)
from tests.demos.conftest import rows_of
from tests.demos.test_server import bad_files, image_bytes

if find_chromium() is None:
    pytest.skip("needs Chromium: apt-get install chromium, or CHROMIUM=path", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

FILM = example_pictures("detection")[4:5]  # a picture in which a lot is found
OTHER_ANSWER = r"(Nothing found|Found: (?!1 fish, 1 jellyfish, 1 shell)).*\d ms"  # than that of the first example
SECOND = 1000  # Playwright counts milliseconds
PATIENCE = 60 * SECOND


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server in this module puts temporary files."""
    return tmp_path_factory.mktemp("room")


@pytest.fixture(scope="module")
def server(room: Path, model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """All three demos with the bundled models, in a process of their own; an untrained detector is on offer, too."""
    home = tmp_path_factory.mktemp("home")
    for name in ("untrained", "broken"):
        shutil.copytree(model_folders["detection"], home / "runs" / "detection" / name / "best")
    (home / "runs/detection/broken/best/model.safetensors").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(room))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("MOBILENET_APPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        with served("app", "--detection", str(BUNDLED / "detection"), folder=home) as started:
            yield started


@pytest.fixture(scope="module")
def player() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(player: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    film = write_webcam(tmp_path_factory.mktemp("film") / "camera.y4m", FILM)
    chromium = open_browser(player, film)
    yield chromium
    chromium.close()


@pytest.fixture
def page(browser: Any, server: Started) -> Iterator[Any]:
    yield from visit(browser, server)


def visit(browser: Any, server: Started) -> Iterator[Any]:
    """A fresh visit; nothing may be fetched from elsewhere, and no script may fail."""
    context = browser.new_context(
        viewport={"width": 1366, "height": 768}, permissions=["camera", "clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    outside, failed = [], []
    page.on("request", lambda request: None if _is_here(request.url, server) else outside.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(server.address)
    page.locator("button.gallery-item:visible").first.wait_for()
    yield page
    context.close()
    assert outside == []
    assert failed == []


def _is_here(url: str, server: Started) -> bool:
    return url.startswith((server.address, "data:", "blob:"))


def test_the_camera_is_seen_and_settings_count_while_it_runs(page, tmp_path):
    open_tab(page, "Webcam")
    start_camera(page)
    set_threshold(page, 0.1)
    sentence = says(page, re.compile(r"Found: .*\d ms.*frames a second"))
    film = write_webcam(tmp_path / "one.y4m", FILM, seconds_each=0.07).read_bytes()
    height, width = 480, 640
    first = np.frombuffer(film[-width * height * 3 // 2 :], np.uint8).reshape(height * 3 // 2, width)
    seen, mirrored = cv2.cvtColor(first, cv2.COLOR_YUV2RGB_I420), shown_frame(page)
    assert mirrored.shape == (height, width, 3)
    assert likeness(mirrored[:, ::-1], seen) > 0.8 > likeness(mirrored, seen)
    page.get_by_label("Mirror").locator("visible=true").uncheck()
    wait_until(lambda: likeness(shown_frame(page), seen) > 0.8)
    name = re.search(r"Found: \d+ (\w+)", sentence).group(1)  # type: ignore[union-attr]
    page.locator(".virtual-body:visible").get_by_text(name, exact=True).first.wait_for()  # a row

    set_threshold(page, 1)
    says(page, "Nothing found.")
    set_threshold(page, 0.05)
    assert number_found(says(page, "Found:")) >= number_found(sentence) > 0


def test_model_classes_and_runtime_are_changed_while_it_runs(page):
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if "/stream/" in request.url else None)
    open_tab(page, "Webcam")
    set_threshold(page, 0.05)
    start_camera(page)
    says(page, re.compile(r"Found: .*frames a second"))
    choose(page, "Model", "unfinished: untrained")
    page.get_by_text("2 classes").locator("visible=true").wait_for()
    page.wait_for_timeout(2000)  # another model begins with its own threshold: once that is set
    set_threshold(page, 0.05)
    says(page, re.compile(r"Found: .*\b(red|blue)s?\b"))
    choose(page, "Classes to show", "blue")
    says(page, re.compile(r"Found: \d+ blues?\. "))
    choose(page, "Model", "given: detection")
    page.wait_for_timeout(2000)
    set_threshold(page, 0.05)
    says(page, re.compile(r"Found: (?!.*\b(red|blue)s?\b).*frames a second"))

    if "ONNX Runtime" in find_runtimes():
        choose(page, "Runtime", "ONNX Runtime")
        page.get_by_text("onnxruntime").locator("visible=true").wait_for()
        wait_until(lambda: "ONNX Runtime" in sent[-1])
    before = page.locator(SHOWN).first.get_attribute("src")
    wait_until(lambda: page.locator(SHOWN).first.get_attribute("src") != before)
    assert tracks(page) == ["live"]


def test_on_a_slow_line_frames_do_not_pile_up(page):
    on_the_way: set[Any] = set()
    most, sent = 0, 0

    def begun(request: Any) -> None:
        nonlocal most, sent
        if re.search(r"/stream/[^/]+$", request.url):
            on_the_way.add(request)
            most, sent = max(most, len(on_the_way)), sent + 1

    page.on("request", begun)
    for ended in ("requestfinished", "requestfailed"):
        page.on(ended, lambda request: on_the_way.discard(request))
    open_tab(page, "Webcam")
    start_camera(page)
    page.locator(SHOWN).first.wait_for()
    line = {"offline": False, "latency": 500, "downloadThroughput": -1, "uploadThroughput": -1}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", line)
    page.wait_for_timeout(3000)
    most, sent = len(on_the_way), 0
    page.wait_for_timeout(3000)
    assert sent > 1 and most <= 4  # one or two may be done, and not told yet
    page.locator(f"{RECORD}:visible").click()
    wait_until(lambda: tracks(page) == ["ended"])


def test_stop_releases_the_camera_and_so_does_another_tab(page):
    open_tab(page, "Webcam")
    start_camera(page)
    page.locator(SHOWN).first.wait_for()
    assert tracks(page) == ["live"]
    page.locator(f"{RECORD}:visible").click()  # now it is called Stop
    wait_until(lambda: tracks(page) == ["ended"])

    page.locator(f"{RECORD}:visible").click()
    wait_until(lambda: tracks(page) == ["live"])
    before = page.locator(SHOWN).first.get_attribute("src")
    wait_until(lambda: page.locator(SHOWN).first.get_attribute("src") != before)
    open_tab(page, "Photo")
    wait_until(lambda: tracks(page) == ["ended"])


@pytest.fixture
def page_with_two_cameras(player: Any, server: Started) -> Iterator[Any]:
    chromium = open_browser(player, None, num_cameras=2)
    yield from visit(chromium, server)
    chromium.close()


def test_another_camera_can_be_chosen(page_with_two_cameras):
    page = page_with_two_cameras
    page.evaluate("""() => {
        window.taken = [];
        const take = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
            const stream = await take(wanted);
            window.taken.push(...stream.getTracks());
            return stream;
        };
    }""")
    open_tab(page, "Webcam")
    page.get_by_text("Click to Access Webcam").locator("visible=true").click()
    page.locator('button[aria-label="select input source"]:visible').click()
    choice = page.locator('select[aria-label="select source"]:visible')
    other = [o.get_attribute("value") for o in choice.locator("option").all()][1]
    choice.select_option(other)
    wait_until(lambda: page.evaluate("window.taken.map(t => t.readyState)") == ["ended", "live"])
    assert page.evaluate("window.taken[1].getSettings().deviceId") == other
    assert page.evaluate("window.taken.map(t => t.getSettings().width)")[1] == 640


@pytest.mark.parametrize(
    ("name", "said"), [("NotAllowedError", "allow it beside the address"), ("NotFoundError", "No camera was found")]
)
def test_a_camera_that_cannot_be_had_is_told(page, name, said):
    page.evaluate(f"""() => {{
        navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException("no", "{name}"); }};
        window.addEventListener("unhandledrejection", (event) => event.preventDefault());
    }}""")
    open_tab(page, "Webcam")
    page.get_by_text("Click to Access Webcam").locator("visible=true").click()
    says(page, said)


def test_hundreds_of_frames_leave_no_file_and_take_no_memory(page, room, server):
    def memory() -> int:  # of the server, bytes
        text = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", text).group(1))  # type: ignore[union-attr]

    if not Path("/proc/self/status").is_file():
        pytest.skip("needs /proc to see the server's memory")
    open_tab(page, "Webcam")
    files = sorted(room.rglob("*"))
    sent: list[str] = []
    page.on("requestfinished", lambda request: sent.append(request.url) if "/stream/" in request.url else None)
    start_camera(page)
    wait_until(lambda: page.wait_for_timeout(100) or len(sent) > 140, 200)  # the first fill what is kept
    early = memory()
    wait_until(lambda: page.wait_for_timeout(100) or len(sent) > 560, 300)
    frame = page.locator(SHOWN).first.get_attribute("src")
    wait_until(lambda: page.locator(SHOWN).first.get_attribute("src") != frame)  # it is still running
    assert sorted(room.rglob("*")) == files
    assert memory() - early < 40_000_000


def send(page: Any, path: Path) -> None:
    """Upload a photo on a fresh page."""
    page.reload()
    page.locator("button.gallery-item:visible").first.wait_for()
    page.locator('input[type="file"]').first.set_input_files(path)


def test_bad_files_are_told_and_the_page_goes_on(page, tmp_path):
    for name, (content, said) in bad_files().items():
        (tmp_path / name).write_bytes(content)
        send(page, tmp_path / name)
        page.locator(".toast-body").filter(has_text=said).first.wait_for()
    for kind in ("gray.png", "rgba.png", "16bit.png", "cmyk.jpg", "animated.gif", "animated.webp", "panorama.jpg"):
        (tmp_path / kind).write_bytes(image_bytes(kind))
        send(page, tmp_path / kind)
        says(page, re.compile(OTHER_ANSWER))
        if "animated" in kind:
            page.locator(".toast-body").filter(has_text="several pictures").first.wait_for()
        assert (page.locator(".toast-body").filter(has_text="several pictures").count() == 1) == ("animated" in kind)


def test_a_model_that_cannot_be_had_is_told_once_and_the_old_answer_goes(page):
    before = says(page, re.compile(r"Found: .*\d ms"))
    choose(page, "Model", "unfinished: broken")
    says(page, "No result: the message says why.")
    page.wait_for_timeout(2000)  # for what might follow
    assert page.get_by_text("This model cannot be loaded").locator("visible=true").count() > 0
    (toast,) = page.locator(".toast-body").all_inner_texts()
    assert toast.count("This model cannot be loaded") == 1
    assert not page.get_by_text(before).locator("visible=true").count()
    assert not page.locator(".virtual-body:visible").get_by_text("fish", exact=True).count()  # a row
    choose(page, "Model", "given: detection")
    assert says(page, re.compile(r"Found: .*\d ms")).partition(". ")[0] == before.partition(". ")[0]


def test_a_photo_can_be_pasted(page):
    data = base64.b64encode(image_bytes("gray.png")).decode()
    page.evaluate(f"""async () => {{
        const blob = await (await fetch("data:image/png;base64,{data}")).blob();
        await navigator.clipboard.write([new ClipboardItem({{ "image/png": blob }})]);
    }}""")
    page.get_by_label("Paste from clipboard").locator("visible=true").click()
    says(page, re.compile(OTHER_ANSWER))


def test_an_example_is_one_click_and_a_video_and_a_folder_come_back(page, tmp_path):
    page.locator("button.gallery-item:visible").first.click()
    says(page, re.compile(r"Found: 1 fish\. \d+ ms"))
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for i in range(8):
        writer.write(np.full((64, 96, 3), 30 * i, np.uint8))
    writer.release()
    open_tab(page, "Video")
    page.locator('input[type="file"][accept*="video"]').first.set_input_files(clip)
    page.get_by_role("button", name="Start", exact=True).locator("visible=true").click()
    says(page, "8 frames")
    assert page.locator('video[src*="result.webm"]:visible').count() == 1

    folder = tmp_path / "holiday"
    folder.mkdir()
    for picture in example_pictures("detection")[:2]:
        (folder / picture.name).write_bytes(picture.read_bytes())
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    open_tab(page, "Folder")
    page.locator("input[webkitdirectory]").first.set_input_files(folder)
    page.get_by_text("cut").locator("visible=true").first.wait_for()
    page.get_by_role("button", name="Start", exact=True).locator("visible=true").click()
    says(page, "2 of 3 photos are in the table.")
    page.locator('img[src*="/1.jpg"]:visible').first.wait_for()
    assert page.locator('.grid-wrap img[src*="results"]:visible').count() == 2
    with page.expect_download() as download:
        page.locator('a[download*="result.csv"]:visible').first.click()
    rows = rows_of(download.value.path())
    assert {row["file"] for row in rows} == {"1.jpg", "2.jpg", "cut.jpg"}


def test_the_first_example_is_solved_without_a_request(page):
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/queue/" in request.url else None)
    page.reload()
    for tab, said in (("Objects", "Found: "), ("Classes", "It looks like "), ("Faces", "1 face. ")):
        open_tab(page, tab)
        says(page, re.compile(rf"{said}.*\d ms"))
        picture = page.locator('.picture:not(.given) img[src*="result.jpg"]:visible')
        picture.first.wait_for()
        assert picture.count() == 1
    assert sent == []


@pytest.mark.parametrize("look", ["desktop", "dark", "phone"])
def test_screenshots(browser, server, tmp_path, look):
    """To look at: --basetemp says where they are. The machine can only see that they are not blank, and how bright."""
    size = {"width": 390, "height": 844} if look == "phone" else {"width": 1366, "height": 768}
    context = browser.new_context(
        viewport=size, color_scheme="dark" if look == "dark" else "light", has_touch=look == "phone"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(server.address)
    for tab in ("Objects", "Classes", "Faces"):
        open_tab(page, tab)
        page.locator(".picture:not(.given) img:visible").first.wait_for()
        page.screenshot(path=tmp_path / f"{look} {tab}.png")
        shown = np.asarray(Image.open(tmp_path / f"{look} {tab}.png").convert("L"))
        assert np.ptp(shown) > 150
        assert (np.median(shown) > 128) == (look != "dark")
    context.close()


def test_a_phone_has_a_button_for_its_camera(page, tmp_path):
    assert not page.locator("button.take-photo:visible").count()
    page.set_viewport_size({"width": 390, "height": 844})
    photo = tmp_path / "photo.png"
    photo.write_bytes(image_bytes("gray.png"))
    with page.expect_file_chooser() as chooser:
        page.locator("button.take-photo:visible").first.click()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files(photo)
    says(page, re.compile(r"Nothing found\. .*\d ms"))


def test_the_page_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    cells = page.evaluate("""[...document.querySelectorAll(".says ~ .block th")].filter((cell) => cell.offsetParent)
        .map((cell) => cell.getBoundingClientRect().right)""")
    assert len(cells) >= 7 and max(cells) <= 390, "the table is seen as a whole"
    for tab in ("Objects", "Classes", "Faces"):
        open_tab(page, tab)
        page.locator("button.gallery-item:visible").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        shown = [f".picture{kind}:visible" for kind in (":not(.given)", ".given")] + [".settings:visible"]
        places = [page.locator(one).first.bounding_box()["y"] for one in shown]
        assert places == sorted(places), "first the result, then the photo, then the settings"


def test_on_a_phone_the_camera_and_its_result_are_seen_at_once(page):
    page.set_viewport_size({"width": 390, "height": 844})
    open_tab(page, "Webcam")
    start_camera(page)
    result = page.locator(SHOWN).first
    result.wait_for()
    page.locator(".camera-says:visible").wait_for(state="hidden")
    stop = page.locator(f"{RECORD}:visible").bounding_box()
    place = result.bounding_box()
    assert 0 < stop["y"] < place["y"] and place["y"] + place["height"] <= 844
