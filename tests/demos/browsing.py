"""What a visitor does and sees in a browser, for the tests that drive one."""

import base64
import io
import re
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image

LIVE = "[...document.querySelectorAll('video')].flatMap(v => v.srcObject?.getTracks() ?? [])"
SHOWN = 'img[src^="data:image/jpeg"]:visible'


def says(page: Any, words: str | re.Pattern) -> str:
    """Wait until the page says this, and return the whole sentence."""
    found = page.locator(".prose p:visible").filter(has_text=words).first
    found.wait_for()
    return found.inner_text()


def set_threshold(page: Any, value: float) -> None:
    number = page.get_by_label("number input for Minimum score").locator("visible=true")
    number.fill(str(value))
    number.press("Enter")


def choose(page: Any, label: str, name: str) -> None:
    """Pick from the list of this label."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=name).locator("visible=true").click()


def wait_until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Ask until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.1)


def shown_frame(page: Any) -> np.ndarray:
    """The picture that the page shows now, (H, W, 3) RGB."""
    source = page.locator(SHOWN).first.get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def likeness(image: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two pictures of one size after blurring; 1 for equal ones."""
    small = [cv2.resize(one, (40, 30), interpolation=cv2.INTER_AREA).astype(float).ravel() for one in (image, other)]
    return float(np.corrcoef(*small)[0, 1])


def tracks(page: Any) -> list[str]:
    """What the page's cameras are: "live" or "ended"."""
    return page.evaluate(f"{LIVE}.map(track => track.readyState)")


def number_found(sentence: str) -> int:
    return sum(int(number) for number in re.findall(r"(\d+) [a-z]", sentence.partition(".")[0]))
