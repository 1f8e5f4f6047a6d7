"""What a page shows is text, whatever names models and archives have; and what was filmed is not mirrored twice."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from gradio_client import Client, handle_file

from apps.common.pretrained import TENSORFLOW_STYLE
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from benchmarks.demo_load import find_chromium
from demos import serving
from demos.chooser import make_models
from demos.detection import DetectionTask
from demos.page import make_page
from demos.payloads import Sentence, as_text
from demos.serving import ASSETS
from demos.task import counted
from demos.wrapping import guarded
from tests.demos.visiting import PHOTO

IMAGE = "![x](http://elsewhere/x.png)"
NASTY = [
    *(IMAGE, "<img src=http://elsewhere/x.png>", "[a](http://elsewhere)", "http://elsewhere/x", "www.elsewhere.org"),
    *("me@elsewhere.org", "**bold**", "_it_", "`code`", "~~gone~~", "&lt;b&gt;", "a\n\n# title", "# title", "- item"),
    *("1. item", "> said", "<!-- gone -->", "\\*", "<http://elsewhere>", "[a]: http://elsewhere", "![x][a]"),
]
PLAIN = [
    "cat",
    "hot dog",
    "001.Black_footed_Albatross",
    "R&D",
    "C++ (x)",
    "Chardonneret élégant",
    "3 < 4",
    "50 % - ok",
    "5.2",
]


def rendered(words: str) -> tuple[str, set[str]]:
    """The text and the HTML elements that CommonMark with GitHub's additions makes of words."""
    markdown = pytest.importorskip("markdown_it")
    parser = markdown.MarkdownIt("commonmark", {"html": True}).enable(["strikethrough", "table"])
    html = parser.render(words)
    kinds = set(re.findall(r"<!?-?-?\s*([a-z0-9]+)", html))
    text = re.sub(r"<[^>]*>", "", html).strip()
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&"), kinds


@pytest.mark.parametrize("words", [*NASTY, *PLAIN])
@pytest.mark.parametrize("before", ["", "Found: 3 "])
def test_names_are_shown_as_these_very_words(words, before):
    shown = Sentence(before + words, render=False).postprocess(before + words)
    text, kinds = rendered(shown)
    assert kinds == {"p"}
    assert text.split() == (before + words).split()
    # addresses that GitHub's Markdown would make links of
    assert not re.search(r"\b(https?|ftp)://|www\.|\S@\S", re.sub(r"\\.", "", shown))


@pytest.mark.parametrize("words", PLAIN)
def test_usual_names_stay_as_they_are(words):
    assert as_text(words) == words


def test_what_a_model_or_an_archive_is_called_is_text_on_the_page(tmp_path, room):
    torch.manual_seed(0)
    network = create_detector("a025", num_classes=2, resolution=96, head="ssd", style=TENSORFLOW_STYLE)
    names, folder = [IMAGE, "<img src=x>"], tmp_path / "best"
    Detector(
        network=network, backbone="a025", class_names=names, category_ids=[1, 2], postprocess=PostProcess("sigmoid")
    ).save(folder, metrics={"AP": 0.5})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{IMAGE.replace('/', ':')}.txt", "text")
    task = DetectionTask()
    page = make_page([(task, make_models(task, checkpoint=folder, device="cpu"))], title="names")
    address = serving.launch(page, serving.Server(), wait=False)
    try:
        client = Client(address, verbose=False, download_files=tmp_path)
        _, found, _ = client.predict(handle_file(PHOTO), threshold=0.05, only=[IMAGE, "[no](such)"], api_name="/detect")
        _, unread, _ = client.predict([handle_file(tmp_path / "a.zip")], api_name="/detect_photos")
    finally:
        page.close(verbose=False)
    assert "x.png" in found and "no" in found and "x.png" in unread
    for sentence in (found, unread):
        assert rendered(sentence)[1] == {"p"}, sentence


def test_how_many_of_a_class_is_said_in_english():
    """COCO's classes, as English has them; names of other data stay as they are."""
    one = "person bicycle bus truck bench bird sheep zebra skis frisbee knife sandwich broccoli couch mouse toothbrush"
    many = (
        "people bicycles buses trucks benches birds sheep zebras skis frisbees knives sandwiches broccoli couches mice"
    )
    for name, plural in zip(one.split(), [*many.split(), "toothbrushes"], strict=True):
        assert (counted(1200, name), counted(1, name)) == (f"1,200 {plural}", f"1 {name}")
    two = {
        "hot dog": "hot dogs",
        "wine glass": "wine glasses",
        "berry": "berries",
        "toy": "toys",
        "scissors": "scissors",
    }
    assert [counted(2, name) for name in two] == [f"2 {plural}" for plural in two.values()]
    assert [counted(2, name) for name in ("001.Albatross", "Käfer", "a_b")] == ["2 001.Albatross", "2 Käfer", "2 a_b"]


def test_errors_have_no_html():
    def broken() -> None:
        raise ValueError("no <img src=x> & more")

    with pytest.raises(Exception, match="no &lt;img src=x&gt; &amp; more"):
        guarded(broken)()


@pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: apt-get install chromium, or CHROMIUM=path")
def test_only_the_camera_is_mirrored(tmp_path):
    """The columns are nested as on the page: all tabs are in one, and each has its own beside the result's."""
    (tmp_path / "page.html").write_text(
        f"""<style>{(ASSETS / "page.css").read_text(encoding="utf-8")}</style><div class="gradio-container">
        <div class="column" id="all"><div class="tabitem"><div class="row">
        <div class="column"><video id="camera"></video><div class="mirror"><input type="checkbox" checked></div></div>
        <div class="column"><video id="seen"></video></div></div></div>
        <div class="tabitem"><div class="row"><div class="column"><video id="given"></video></div>
        <div class="column"><video id="result"></video></div></div></div></div></div><p id="said"></p><script>
        said.innerText = [...document.querySelectorAll("video")].map(v => v.id + "=" + getComputedStyle(v).transform)
        </script>"""
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [str(find_chromium()), *flags, f"file://{tmp_path / 'page.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    said = re.search(r'id="said">([^<]*)<', shown)
    assert said and said[1] == "camera=matrix(-1, 0, 0, 1, 0, 0),seen=none,given=none,result=none"


def test_a_camera_lies_in_the_innermost_column(page):
    """As the test above has it, in what the page sends to browsers."""
    by_id = {one["id"]: one for one in page.config["components"]}

    def columns(node: dict, above: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
        here = (*above, node["id"]) if by_id.get(node["id"], {}).get("type") == "column" else above
        found = {node["id"]: here}
        for child in node.get("children", []):
            found |= columns(child, here)
        return found

    place = columns(page.config["layout"], ())
    cameras = [i for i, one in by_id.items() if one["props"].get("label") == "Camera"]
    mirrors = [i for i, one in by_id.items() if "mirror" in (one["props"].get("elem_classes") or [])]
    assert len(cameras) == len(mirrors) == 3
    assert [place[i] for i in cameras] == [place[i] for i in mirrors]
    for inner in (place[i][-1] for i in cameras):
        assert not [i for i, above in place.items() if i != inner and inner in above[:-1]], "no column within"
    assert Path(ASSETS / "page.css").is_file()
