"""Measure the demos: how soon a page answers, frames a second in a browser, and many visitors at once.

    python benchmarks/demo_load.py                                       about five minutes
    python benchmarks/demo_load.py --parts start load --seconds 20

It needs the extra `test` and, for the frames, Chromium (`apt-get install chromium`, or CHROMIUM=path). The camera plays
a film of moving example pictures, 640 x 480, 30 a second; a frame counts when the browser shows it. Servers listen on
this machine only and end with the measurement.
"""

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

DEMOS = Path(__file__).resolve().parents[1] / "demos"
SCRIPTS = ("detection", "finegrained", "faceattr", "app")
TABS = {"detection": "Objects", "finegrained": "Classes", "faceattr": "Faces"}
VERBS = {"detection": "/detect", "finegrained": "/classify", "faceattr": "/describe_faces"}
NUM_CLIENTS = 8
SIZE = (640, 480)  # of the camera, pixels
START_LIMIT = 120  # seconds until a page must answer
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
CAMERA_FLAGS = ("--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream")
RECORD = 'button[aria-label="capture photo"]'  # Gradio's name for it; Stop while frames are sent
COUNT_FRAMES = """() => {
  window.shown = [];
  new MutationObserver((changes) => {
    for (const change of changes) for (const node of [change.target, ...change.addedNodes])
      for (const image of node.querySelectorAll ? [node, ...node.querySelectorAll("img")] : [])
        if (image.tagName === "IMG" && image.src.startsWith("data:image/jpeg") && image.src !== window.lastShown) {
          window.lastShown = image.src;
          window.shown.push(performance.now());
        }
  }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] });
}"""


class Started(NamedTuple):
    """A demo in its own process: its address, and after how many seconds it answered."""

    process: subprocess.Popen
    address: str
    seconds: float


@contextmanager
def served(script: str, *flags: str, folder: Path | None = None) -> Iterator[Started]:
    """Run a demo on a free port until the block ends.

    Args:
        script: of demos/, without ".py".
        folder: the folder to start it in, whose runs/ the page offers; without any, the bundled models are shown.
    """
    command = [sys.executable, str(DEMOS / f"{script}.py"), "--bundled", *flags]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    clock = threading.Timer(START_LIMIT, process.kill)
    clock.start()
    try:
        assert process.stdout
        words = next((line.split() for line in process.stdout if line.startswith("the page is at")), None)
        if words is None:
            raise RuntimeError(f"{script}.py did not start within {START_LIMIT} seconds")
        with urllib.request.urlopen(words[4], timeout=START_LIMIT) as answer:
            assert answer.status == 200
        seconds = time.perf_counter() - began
        clock.cancel()
        yield Started(process, words[4], seconds)
    finally:
        clock.cancel()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_webcam(path: Path, pictures: Sequence[Path], *, seconds_each: float = 1.5, rate: int = 15) -> Path:
    """Write a .y4m film, in which pictures move a little in every frame, for the browser's fake camera."""
    width, height = SIZE
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for picture in pictures:
            image = cv2.imread(str(picture))
            scale = min(width / image.shape[1], height / image.shape[0])
            left, top = width / 2 - scale * image.shape[1] / 2, height / 2 - scale * image.shape[0] / 2
            count = round(seconds_each * rate)
            for i in range(count):
                moved = np.array([[scale, 0, left + 12 * np.sin(2 * np.pi * i / count)], [0, scale, top]])
                frame = cv2.warpAffine(image, moved, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).tobytes())
    return path


def find_chromium() -> str | None:
    """Path of Chromium: $CHROMIUM, or the browser that a Linux distribution installs."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def open_browser(playwright: Any, webcam: Path | None, *, num_cameras: int = 1) -> Any:
    """Start Chromium without a window, with a camera that plays a film or cameras that show a test picture."""
    flags = [*FLAGS, *CAMERA_FLAGS, f"--use-fake-device-for-media-stream=device-count={num_cameras}"]
    if webcam:
        flags.append(f"--use-file-for-fake-video-capture={webcam}")
    return playwright.chromium.launch(executable_path=find_chromium(), headless=True, args=flags)


def open_tab(page: Any, name: str) -> None:
    """Click the visible tab of this name."""
    page.get_by_role("tab", name=name, exact=True).locator("visible=true").first.click()


def start_camera(page: Any) -> None:
    """Allow the camera on the visible webcam tab, and start sending frames."""
    page.get_by_text("Click to Access Webcam").locator("visible=true").click()
    page.wait_for_function("[...document.querySelectorAll('video')].some(v => v.videoWidth && v.offsetParent)")
    page.locator(f"{RECORD}:visible").click()


def measure_frames(app: str, seconds: float) -> str:
    """Count the frames that a browser shows in some seconds; return a line for the report."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as room, served(app, folder=Path(room)) as server, sync_playwright() as player:
        film = write_webcam(Path(room) / "camera.y4m", sorted((DEMOS / "examples" / app).glob("*.jpg"))[:3], rate=30)
        browser = open_browser(player, film)
        page = browser.new_page(viewport={"width": 1366, "height": 768}, permissions=["camera"])
        page.goto(server.address)
        open_tab(page, "Webcam")
        start_camera(page)
        page.wait_for_selector('img[src^="data:image/jpeg"]', timeout=60_000)
        time.sleep(3)  # until everything is loaded
        page.evaluate(COUNT_FRAMES)
        time.sleep(seconds)
        times = page.evaluate("window.shown")
        browser.close()
    gaps = [b - a for a, b in itertools.pairwise(times)]
    if len(gaps) < 2:
        return f"{app:12} {len(times)} frames in {seconds:.0f} s"
    rate, median, longest = 1000 * len(gaps) / sum(gaps), statistics.median(gaps), max(gaps)
    return f"{app:12} {rate:5.1f} frames a second; between two: median {median:.0f} ms, at most {longest:.0f} ms"


def measure_load(seconds: float) -> str:
    """Let clients query all three apps at once without a pause; return a line for the report."""
    from gradio_client import Client, handle_file

    took: list[float] = []
    lost: list[str] = []

    def visit(number: int, client: Any, end: float) -> None:
        turn = number
        while time.perf_counter() < end:
            app = tuple(VERBS)[turn % len(VERBS)]
            picture = DEMOS / "examples" / app / f"{1 + turn % 6}.jpg"
            began = time.perf_counter()
            try:
                answer = client.submit(handle_file(picture), api_name=VERBS[app]).result(timeout=60)
                assert len(answer) == 3 and "ms" in answer[1]
                took.append(time.perf_counter() - began)
            except Exception as error:
                lost.append(f"{type(error).__name__}: {error}")
            turn += 1

    with tempfile.TemporaryDirectory() as room, served("app", folder=Path(room)) as server:
        clients = [Client(server.address, verbose=False, download_files=room) for _ in range(NUM_CLIENTS)]
        for app, verb in VERBS.items():  # load the models
            clients[0].predict(handle_file(DEMOS / "examples" / app / "1.jpg"), api_name=verb)
        began = time.perf_counter()
        visitors = [
            threading.Thread(target=visit, args=(i, client, began + seconds)) for i, client in enumerate(clients)
        ]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        rate = len(took) / (time.perf_counter() - began)
    if len(took) < 2:
        return f"{len(took)} answers, {len(lost)} lost: {lost[:3]}"
    late = statistics.quantiles(took, n=20)[-1]
    shown = f": {lost[:3]}" if lost else ""
    return (
        f"{NUM_CLIENTS} clients, {len(took)} answers, {rate:.1f} a second, {len(lost)} lost{shown}; "
        f"median {statistics.median(took):.2f} s, 95 % within {late:.2f} s, at most {max(took):.2f} s"
    )


def main() -> None:
    """Run the chosen parts and print their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("start", "frames", "load"), default=["start", "frames", "load"])
    parser.add_argument("--apps", nargs="+", choices=tuple(TABS), default=list(TABS), help="whose frames to count")
    parser.add_argument(
        "--seconds", type=float, default=60, help="duration of the frames of each app, and of the load; at most 300"
    )
    parser.add_argument("--rounds", type=int, default=3, help="starts of each script; at most 10")
    args = parser.parse_args()
    if not 2 <= args.seconds <= 300 or not 1 <= args.rounds <= 10:
        parser.error("--seconds must be 2 to 300 and --rounds 1 to 10")
    if "start" in args.parts:
        print("seconds from the start of the process until the page answers")
        with tempfile.TemporaryDirectory() as room:
            for script in SCRIPTS:
                times = []
                for _ in range(args.rounds):
                    with served(script, folder=Path(room)) as server:
                        times.append(server.seconds)
                print(f"  {script:12} {statistics.median(times):5.1f} (of {len(times)}: at most {max(times):.1f})")
    if "frames" in args.parts:
        if find_chromium() is None:
            parser.error("frames are counted in Chromium: apt-get install chromium, or set CHROMIUM to its path")
        print(f"camera at {SIZE[0]} x {SIZE[1]}, {args.seconds:.0f} s each, {os.cpu_count()} CPUs")
        for app in args.apps:
            print("  " + measure_frames(app, args.seconds), flush=True)
    if "load" in args.parts:
        print(f"load, {args.seconds:.0f} s\n  {measure_load(args.seconds)}")


if __name__ == "__main__":
    main()
