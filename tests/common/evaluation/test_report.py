import base64
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from apps.common.evaluation.report import Page
from apps.common.pictures import encode_picture


class Reader(HTMLParser):
    """Reads a page as a browser does: tags, addresses, the words of each element, and that all are closed."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.addresses: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.words.setdefault(self.open[-1], []).append(data.strip())


def saved(page: Page, tmp_path) -> str:
    path = tmp_path / "a folder" / "report.html"
    page.save(path)
    return path.read_text(encoding="utf-8")


def test_text_is_escaped_and_read_back(tmp_path):
    nasty = '<script>alert("x")</script> & <b>'
    page = Page(nasty)
    page.heading(nasty)
    page.paragraph(nasty)
    page.table([nasty], [[nasty]], caption=nasty)
    page.figure(np.zeros((4, 4, 3), np.uint8), nasty)
    reader = Reader(saved(page, tmp_path))
    for tag in ("title", "h1", "h2", "p", "th", "td", "caption", "figcaption"):
        assert reader.words[tag] == [nasty]
    assert "script" not in {tag for tag, _ in reader.tags}
    assert [attrs["alt"] for tag, attrs in reader.tags if tag == "img"] == [nasty]


def test_the_page_needs_no_other_file(tmp_path):
    page = Page("t")
    page.figure(Figure(figsize=(2, 1)), "plot")
    page.gallery([(np.zeros((4, 4, 3), np.uint8), "a"), (np.zeros((4, 4, 3), np.uint8), "b")])
    text = saved(page, tmp_path)
    reader = Reader(text)
    assert len(reader.addresses) == 3
    assert all(address.startswith("data:image/") for address in reader.addresses)
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text and 'name="viewport"' in text


def test_pictures_survive(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:] = (200, 60, 20)
    page = Page("t")
    page.figure(image, "photo")
    figure = Figure(figsize=(3, 2), dpi=50)
    page.figure(figure, "plot")
    for address, shape in zip(Reader(saved(page, tmp_path)).addresses, [(40, 60), (100, 150)], strict=True):
        data = base64.b64decode(address.partition("base64,")[2])
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert decoded.shape[:2] == shape
        if shape == (40, 60):
            assert np.abs(decoded.astype(int) - image).max() < 6
    assert encode_picture(image)[:2] == b"\xff\xd8"


def test_numbers_stand_to_the_right_and_are_never_nan(tmp_path):
    page = Page("t")
    page.table(["name", "count", "share", "mixed"], [["a", 12345, 0.5, 1], ["b", 7, None, "x"]])
    reader = Reader(saved(page, tmp_path))
    assert [attrs.get("class") for tag, attrs in reader.tags if tag == "th"] == [None, "number", "number", None]
    assert reader.words["td"] == ["a", "12,345", "0.500", "1", "b", "7", "\N{EN DASH}", "x"]
    with pytest.raises(ValueError, match="nan"):
        page.table(["x"], [[float("nan")]])
    with pytest.raises(ValueError, match="2 cells under a header of 1"):
        page.table(["x"], [[1, 2]])


def test_a_file_name_that_is_no_text_does_not_lose_the_report(tmp_path):
    page = Page("t")
    page.paragraph(b"photo-\xff.jpg".decode("utf-8", "surrogateescape"))
    assert Reader(saved(page, tmp_path)).words["p"] == ["photo-\\udcff.jpg"]
