"""Measure the detector's page with many cameras at once: answers, how old they are, and the server's memory.

    python -m benchmarks.demo_cameras                        eight cameras, four minutes
    python -m benchmarks.demo_cameras --cameras 4 --seconds 50

It needs the extra `test` and Linux. No browser takes part, which would need more of the machine than the server does:
each camera is a visitor of its own that sends what the page's script sends, a new frame of 640 x 480 every 0.04
seconds and at most two on the way, and reads what comes back. A frame bears its number as a row of black and white
fields, so an answer tells which frame it belongs to and therefore how old it is when it arrives.
"""

import argparse
import base64
import itertools
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from benchmarks.demo_load import DEMOS, SIZE, served
from demos.page import LIVE, STREAM_EVERY, STREAM_LIMIT

NUM_BITS, FIELD = 16, 40  # of a frame's number, pixels
MOST_ON_THE_WAY = 2


def numbered(picture: np.ndarray, number: int) -> str:
    """A picture (480, 640, 3) with a number in its lowest rows, as a camera's frame is sent."""
    frame = picture.copy()
    for i in range(NUM_BITS):
        frame[-FIELD // 2 :, i * FIELD : (i + 1) * FIELD] = 255 * (number >> i & 1)
    return "data:image/jpeg;base64," + base64.b64encode(cv2.imencode(".jpg", frame)[1].tobytes()).decode()


def number_of(url: str) -> int:
    """The number in a frame that comes back."""
    sent = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    frame = cv2.imdecode(sent, cv2.IMREAD_GRAYSCALE)
    fields = [frame[-FIELD // 2 + 4 : -4, i * FIELD + 4 : (i + 1) * FIELD - 4] for i in range(NUM_BITS)]
    return sum((np.median(field) > 127) << i for i, field in enumerate(fields))


class Camera:
    """A visitor with a camera.

    Attributes:
        answers: of each answer with a frame but the first of a turn, when it came and after how many seconds.
        lost: what went wrong.
        backwards: answers that belong to an older frame than the one before.
    """

    def __init__(self, address: str, name: str, picture: np.ndarray) -> None:
        self.web = httpx.Client(base_url=address, timeout=120)
        self.name, self.picture = name, picture
        config = self.web.get("config").json()
        values = {one["id"]: one["props"].get("value") for one in config["components"]}
        (self.function,) = (one for one in config["dependencies"] if one["connection"] == "stream")
        self.settings = [values[i] for i in self.function["inputs"][3:]]
        self.answers: list[tuple[float, float]] = []
        self.lost: list[str] = []
        self.backwards = 0
        self.sent: dict[int, float] = {}
        self.numbers = itertools.count()
        self.free = threading.Semaphore(MOST_ON_THE_WAY)

    def body(self) -> dict[str, Any]:
        number = next(self.numbers)
        file = {"url": numbered(self.picture, number), "meta": {"_type": "gradio.FileData"}}
        self.sent[number] = time.perf_counter()
        data = [file, False, None, *self.settings]
        return {"fn_index": self.function["id"], "data": data, "session_hash": self.name}

    def run(self, end: float) -> None:
        """Film until then; whenever the page has given the place to the next camera, wait for another turn."""
        while time.perf_counter() < end:
            joined = self.web.post("gradio_api/queue/join", json=self.body())
            if joined.status_code != 200:
                self.lost.append(joined.text)
                return
            event = joined.json()["event_id"]
            done = threading.Event()
            sender = threading.Thread(target=self.send, args=(event, end, done))
            try:
                self.read(event, sender)
            except Exception as error:
                self.lost.append(f"{type(error).__name__}: {error}")
            done.set()
            if sender.ident:
                sender.join()

    def send(self, event: str, end: float, done: threading.Event) -> None:
        def post(body: dict[str, Any]) -> None:
            try:
                self.web.post(f"gradio_api/stream/{event}", json=body)
            finally:
                self.free.release()

        while not done.wait(STREAM_EVERY):
            if time.perf_counter() > end:
                self.web.post(f"gradio_api/stream/{event}/close")
                return
            if self.free.acquire(blocking=False):
                threading.Thread(target=post, args=(self.body(),)).start()

    def read(self, event: str, sender: threading.Thread) -> None:
        """Read the answers of one turn; frames are sent from its first answer on."""
        last = -1
        with self.web.stream("GET", "gradio_api/queue/data", params={"session_hash": self.name}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("event_id") != event:
                    continue
                if message["msg"] == "process_streaming":
                    now, number = time.perf_counter(), number_of(message["output"]["data"][0]["url"])
                    self.backwards += number < last
                    last = number
                    if sender.ident:
                        self.answers.append((now, now - self.sent[number]))
                    else:  # the frame that has waited for this turn
                        sender.start()
                elif message["msg"] == "process_completed":
                    if not message["success"]:
                        self.lost.append(str(message["output"]))
                    return


def megabytes(process_id: int) -> float:
    """The memory of a process."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1000


def main() -> None:
    """Run the cameras and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=8, help="at once, 1 to 16")
    parser.add_argument("--seconds", type=float, default=240, help="10 to 600")
    args = parser.parse_args()
    if not 1 <= args.cameras <= 16 or not 10 <= args.seconds <= 600:
        parser.error("--cameras must be 1 to 16 and --seconds 10 to 600")
    pictures = sorted((DEMOS / "examples" / "detection").glob("*.jpg"))
    with tempfile.TemporaryDirectory() as room, served("detection", folder=Path(room)) as server:
        cameras = [
            Camera(server.address, f"camera {i}", cv2.resize(cv2.imread(str(pictures[i % len(pictures)])), SIZE))
            for i in range(args.cameras)
        ]
        end = time.perf_counter() + args.seconds
        threads = [threading.Thread(target=camera.run, args=(end,)) for camera in cameras]
        for thread in threads:
            thread.start()
        time.sleep(args.seconds / 2)
        early = megabytes(server.process.pid)
        for thread in threads:
            thread.join()
        late = megabytes(server.process.pid)
    print(
        f"{args.cameras} cameras, {args.seconds:.0f} s; {LIVE['concurrency_limit']} run at once, {STREAM_LIMIT} s each"
    )
    for camera in cameras:
        ages = [age for _, age in camera.answers]
        shown = f"; lost {len(camera.lost)}: {camera.lost[:2]}" if camera.lost else ""
        if len(ages) > 1:
            gaps = [b - a for (a, _), (b, _) in itertools.pairwise(camera.answers)]
            middle, late_ones, oldest = (
                1000 * one for one in (statistics.median(ages), statistics.quantiles(ages, n=20)[-1], max(ages))
            )
            shown = (
                f"{1 / statistics.median(gaps):.1f} frames a second in its turn; age: median {middle:.0f} ms, "
                f"95 % within {late_ones:.0f} ms, at most {oldest:.0f} ms; {camera.backwards} out of order{shown}"
            )
        print(f"  {len(ages):5} answers; {shown}")
    print(f"  memory of the server: {early:.0f} MB after half of the time, {late:.0f} MB at the end")


if __name__ == "__main__":
    main()
