"""Measure the frames a second of `export.py --format web` in headless Chromium with a fake camera of 640 x 480.

    python -m benchmarks.browser --ort package                  the networks below, in one thread and in several
    python -m benchmarks.browser --ort package --folders DIR    folders that export.py --format web wrote

It needs the extra `test`, Chromium and the unpacked npm package onnxruntime-web. A page with several threads is served
with the two headers that isolate it from other sites, the other one without. The screen shows 60 frames a second, which
no page can exceed; boxes are drawn. The published detector is of TensorFlow's SSD file with COCO's classes.
"""

import argparse
import functools
import http.server
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from apps.detection.boxes.postprocess import PostProcess
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from backbone.runtimes import processor
from benchmarks.demo_load import open_browser, write_webcam
from demos.browser import HEADERS, ROOT
from demos.chooser import BUNDLED, example_pictures

SECOND = 1000  # Playwright counts milliseconds


class Handler(http.server.SimpleHTTPRequestHandler):
    headers_sent: dict[str, str] = {}  # noqa: RUF012

    def log_message(self, *args: object) -> None:
        """Silent."""

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        super().end_headers()


class Isolated(Handler):
    headers_sent = HEADERS


@contextmanager
def served(folder: Path, *, isolated: bool) -> Iterator[str]:
    """The address of a folder on this machine."""
    handler = functools.partial(Isolated if isolated else Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def random_detector(folder: Path) -> Path:
    """The default detector for COCO's 80 classes at a075 and 300 pixels, not trained; trained ones take as long."""
    torch.manual_seed(0)
    detector = Detector(
        network=create_detector("a075", num_classes=80, resolution=300, head="pyramid").eval(),
        backbone="a075",
        class_names=[f"class {i}" for i in range(80)],
        category_ids=list(range(80)),
        postprocess=PostProcess("sigmoid"),
        threshold=0.3,
    )
    detector.save(folder, metrics={})
    return folder


def make_folders(room: Path, ort: Path) -> list[Path]:
    """Web exports of the networks that are measured by default, each with a name that says what it is."""
    sources = {
        "a025 at 160, bundled": ["--checkpoint", BUNDLED / "detection"],
        "a075 at 300, pyramid, not trained": ["--checkpoint", random_detector(room / "random")],
    }
    folders = []
    for name, flags in sources.items():
        out = room / name
        command = ["apps/detection/export.py", "--format", "web", "--ort", ort.resolve(), "--num-photos", 16]
        subprocess.run([sys.executable, *map(str, [*command, *flags, "--out", out])], cwd=ROOT, check=True)
        folders.append(out)
    return folders


def measure(browser: Any, address: str, seconds: float) -> dict[str, Any]:
    """Watch the camera on a page: frames a second (median of whole seconds), threads, and how many results it drew."""
    context = browser.new_context(permissions=["camera"])
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]", timeout=120 * SECOND)
    ready = page.inner_text("#status")
    page.click("#webcam")
    page.wait_for_function("window.framesPerSecond > 0", timeout=120 * SECOND)
    rates, found = [], []
    for _ in range(round(seconds)):
        page.wait_for_timeout(SECOND)
        rates.append(page.evaluate("window.framesPerSecond"))
        found.append(page.evaluate("window.results.length"))
    context.close()
    return {"ready": ready, "rate": statistics.median(rates), "found": statistics.median(found)}


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ort", type=Path, required=True, help="the unpacked npm package onnxruntime-web")
    parser.add_argument("--folders", type=Path, nargs="+", help="web exports, instead of the networks above")
    parser.add_argument("--seconds", type=float, default=15, help="for each page")
    given = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as room, sync_playwright() as player:
        film = write_webcam(Path(room) / "camera.y4m", example_pictures("detection")[4:5], rate=60)
        folders = given.folders or make_folders(Path(room), given.ort)
        browser = open_browser(player, film)
        print("| page | frames a second | objects found | page says |\n|---|---|---|---|")
        for folder in folders:
            for isolated in (False, True):
                with served(folder, isolated=isolated) as address:
                    one = measure(browser, address, given.seconds)
                print(f"| {folder.name} | {one['rate']:.1f} | {one['found']:.0f} | {one['ready']} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
