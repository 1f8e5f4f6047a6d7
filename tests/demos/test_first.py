"""What a visitor sees first: an example that is already solved, by a model that fits it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.route_utils import delete_files_created_by_app

from apps.common.images import read_image
from apps.detection.predict import Predictor
from demos import chooser, serving
from demos.chooser import BUNDLED, example_pictures, find_choices, make_models
from demos.detection import DetectionTask
from demos.finegrained import FinegrainedTask
from demos.handlers import Handlers
from demos.page import make_page
from demos.rooms import new_result
from tests.demos.visiting import FILE, Visitor


@pytest.fixture(scope="module")
def solved(room: Path, model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.Blocks]:
    """A page of the bundled detector; an untrained one is on offer, too."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(model_folders["detection"], home / "runs" / "detection" / "untrained" / "best")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        task = DetectionTask()
        page = make_page([(task, make_models(task, device="cpu"))], title="first")
        serving.launch(page, serving.Server(), wait=False)
        yield page
        page.close(verbose=False)


def shown(page: gr.Blocks, kind: str, **props: Any) -> dict[str, Any]:
    """What a visitor's browser gets for the first component that has these properties."""
    config = Visitor(page, "reader").web.get("config").json()
    return next(
        one["props"]
        for one in config["components"]
        if one["type"] == kind and all(one["props"].get(name) == value for name, value in props.items())
    )


def test_the_first_example_is_solved_before_anybody_comes(solved):
    picture = example_pictures("detection")[4]
    wanted = Predictor(BUNDLED / "detection", device="cpu", runtime="torch")(read_image(picture))
    assert len(wanted) > 1
    table = shown(solved, "dataframe")["value"]["data"]
    assert [row[1] for row in table] == [one.name for one in wanted]
    assert [row[3:] for row in table] == [[round(v, 1) for v in one.box_xyxy_px] for one in wanted]
    assert " ms" in next(one.value for one in solved.blocks.values() if "says" in (one.elem_classes or []))
    assert shown(solved, "image", label="Photo")["value"]["orig_name"] == picture.name
    assert not [one for one in solved.fns.values() if any(event == "load" for _, event in one.targets)]


def test_the_time_of_the_first_answer_is_that_of_a_second_look(tmp_path, monkeypatch):
    """At the first look a model loads and prepares what later ones use: twelve of these seconds are not a photo's."""
    now, looks = [0.0], []
    find = DetectionTask.find

    def find_slowly(task: DetectionTask, *args: Any) -> Any:
        now[0] += 0.003 if looks else 12
        looks.append(args[1].shape)
        return find(task, *args)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DetectionTask, "find", find_slowly)
    monkeypatch.setattr("demos.handlers.time", SimpleNamespace(perf_counter=lambda: now[0]))
    handlers = Handlers(DetectionTask(), make_models(DetectionTask(), device="cpu", download=False))
    first = handlers.first_answer()
    assert first is not None and first[2].endswith(" 3 ms.")
    first[1].unlink()  # no other page's
    assert looks == [read_image(Path(first[0])).shape] * 2


def test_what_everybody_sees_first_stays(solved, room):
    (answer,) = (room / "kept").rglob("*.jpg") if (room / "kept").is_dir() else [None]
    os.utime(answer, (0, 0))
    new_result("")
    delete_files_created_by_app(solved, 0)
    path = shown(solved, "image", show_label=False)["value"]["path"]
    for session in ("one", "two"):
        got = Visitor(solved, session).web.get(f"gradio_api/file={path}")
        assert got.status_code == 200 and got.content.startswith(b"\xff\xd8")


def test_examples_go_with_the_model(solved, tmp_path):
    """Those of the drawings are hidden for a run on other data, and one that is shown goes; an own photo stays."""
    visitor = Visitor(solved, "chooses")
    untrained = next(label for label in find_labels(solved) if label.startswith("unfinished: untrained, AP 0.50"))
    drawing = shown(solved, "image", label="Photo")["value"]["path"]
    index, own = visitor.function("swap"), tmp_path / "own.jpg"
    own.write_bytes(Path(example_pictures("finegrained")[0]).read_bytes())
    for path, stays in ((drawing, False), (visitor.upload(own), True)):
        sent = [untrained, {"path": path, **FILE}, ""]
        *_, photo, photos, drawings = visitor.ask(index, sent)["output"]["data"]
        assert (photo is not None) == stays
        assert (photos["visible"], drawings["visible"]) == (False, False)
    *_, photo, photos, drawings = visitor.ask(index, ["bundled: drawings", None, ""])["output"]["data"]
    assert photo["orig_name"] == "5.jpg"
    assert (photos["visible"], drawings["visible"]) == (False, True)
    index = visitor.function("choose")
    _, info, _, problem, _ = visitor.ask(index, ["bundled: drawings", None])["output"]["data"]
    assert info["info"].endswith("trained on drawings only: fish, crab, jellyfish, turtle, shell, octopus")
    assert problem == ""


def find_labels(page: gr.Blocks) -> list[str]:
    return [label for _, label in shown(page, "dropdown", label="Model")["choices"]]


def test_runs_of_the_sample_set_have_its_drawings(tmp_path, monkeypatch, model_folders):
    monkeypatch.chdir(tmp_path)
    for name, data in {"a": "sample", "b": "my photos"}.items():
        run = tmp_path / "runs" / "detection" / name
        shutil.copytree(model_folders["detection"], run / "best")
        (run / "config.json").write_text(f'{{"config": {{"data": "{data}"}}}}')
    kinds = {choice.label[:13]: choice.examples for choice in find_choices("detection")}
    assert kinds == {"unfinished: a": "drawings", "unfinished: b": "", "bundled: draw": "drawings"}


@pytest.mark.parametrize("task", [DetectionTask(), FinegrainedTask()])
def test_photos_come_from_installed_packages(task):
    published = task.published("a075" if task.app == "detection" else "a100")[0]
    pictures = example_pictures(task.app, published.examples)
    assert pictures and all(read_image(path).ndim == 3 for path in pictures)


def test_a_page_begins_with_a_published_model_if_it_is_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded: list[str] = []
    monkeypatch.setattr(DetectionTask, "load", lambda self, option, **source: loaded.append(source["weights"]))
    for ready, default in ((True, "published: COCO, a075"), (False, "bundled: drawings")):
        monkeypatch.setattr(chooser, "is_ready", lambda names, ready=ready: ready and "coco-a075" in names)
        models = make_models(DetectionTask(), download=True)
        assert models.default == default
        assert len(models.choices) == 3
    assert loaded == ["coco"]


def test_a_page_begins_with_the_bundled_model_if_the_published_one_is_damaged(tmp_path, monkeypatch, capsys):
    def load(self, option, **source):
        raise ValueError("the file is damaged")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chooser, "is_ready", lambda names: True)
    monkeypatch.setattr(DetectionTask, "load", load)
    assert make_models(DetectionTask(), download=True).default == "bundled: drawings"
    assert "COCO, a075: the file is damaged" in capsys.readouterr().err


def test_own_finished_runs_come_before_a_download(tmp_path, monkeypatch, model_folders):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chooser, "is_ready", lambda names: pytest.fail("nothing may be fetched"))
    run = tmp_path / "runs" / "detection" / "mine"
    shutil.copytree(model_folders["detection"], run / "best")
    (run / "metrics.json").write_text("{}")
    assert str(make_models(DetectionTask(), download=True).default).startswith("your run: mine, AP 0.50, 2")
