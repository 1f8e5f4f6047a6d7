"""The page that runs a model in the visitor's own browser: written once, and read only by whoever asked for it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apps.common.deploy.web import PAGE
from demos import browser
from demos.browser import PLACE, InBrowser
from demos.task import Choice, NotUsable
from demos.visitors import Visitor as Sender
from demos.visitors import Visitors
from tests.demos.visiting import Visitor

LABEL = "given: detection"


@pytest.fixture
def exports(page, tmp_path, monkeypatch) -> list[list[str]]:
    """The exports that the page begins, each of which writes a page's files at once."""
    begun: list[list[str]] = []

    def run(command: list[str], **options: Any) -> SimpleNamespace:
        begun.append(command)
        out = Path(command[command.index("--out") + 1])
        out.mkdir(parents=True)
        for path in PAGE.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        (out / "model.onnx").write_bytes(b"onnx")
        (out / "more.txt").write_text("not of the page")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    monkeypatch.setattr(browser, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))
    return begun


def ask(visitor: Visitor, model: str = LABEL) -> str:
    """The address of a model's page."""
    (link,) = visitor.ask(visitor.function("page_alone"), [model])["output"]["data"]
    assert link.startswith(f'<a href="{PLACE}') and link.count("<") == 2
    return link.split('"')[1]


def test_a_page_is_written_once_and_isolated(page, exports, model_folders):
    visitor = Visitor(page, "alone")
    first, second = ask(visitor), ask(visitor)
    assert first != second
    (command,) = exports
    assert command[1].endswith("apps/detection/export.py")
    assert command[command.index("--checkpoint") + 1] == str(model_folders["detection"])
    for name in ("", "index.html", "page.js", "model.js", "model.onnx"):
        answer = visitor.web.get(f"{first}{name}")
        assert answer.status_code == 200
        # both are needed for `crossOriginIsolated`, by the HTML standard
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert visitor.web.get(f"{first}page.js").headers["content-type"].startswith("text/javascript")
    assert visitor.web.get(first).text == (PAGE / "index.html").read_text()


def test_nobody_else_and_nothing_else_is_served(page, exports):
    one, other = Visitor(page, "alone 1"), Visitor(page, "alone 2")
    address = ask(one)
    assert other.web.get(address).status_code == 404
    for name in ("more.txt", "../model.onnx", "%2e%2e/x", "ort/", "ort", "/etc/passwd", "index.html/", "page.js%00"):
        assert one.web.get(f"{address}{name}").status_code in (403, 404), name
    assert one.web.post(address).status_code == 404
    assert one.web.get(f"{PLACE}{'0' * 32}/").status_code == 404
    assert one.web.get(address, headers={"Host": "elsewhere.org"}).status_code == 403


def test_a_model_that_is_not_on_offer_is_not_exported(page, exports):
    visitor = Visitor(page, "alone 3")
    answer = visitor.ask(visitor.function("page_alone"), ["/etc/passwd"])
    assert not answer["success"] and exports == []


def test_an_export_that_fails_is_told_on_the_console_alone(tmp_path, monkeypatch):
    def run(command: list[str], **options: Any) -> SimpleNamespace:
        return SimpleNamespace(returncode=2, stderr="note\nneeds onnx: /secret/path\n")

    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    monkeypatch.setattr(browser, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))
    sender = Sender(frozenset({"x"}), "here", "at here")
    with pytest.raises(NotUsable, match=r"^needs onnx: /secret/path$"):
        InBrowser(Visitors()).address("detection", Choice("x", None, "coco"), sender)
    with pytest.raises(ValueError, match="choose one of them"):
        InBrowser(Visitors()).address("finegrained", Choice("x", None, "imagenet"), sender)
    with pytest.raises(NotUsable):
        InBrowser(Visitors()).address("detection", Choice("x", tmp_path / "model.onnx"), sender)
