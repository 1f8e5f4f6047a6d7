"""What README, docs and module docstrings show: Python examples run, and commands have a script that takes their flags.

An example is a block indented by four spaces, or fenced; a command also stands in the text, in backquotes. Examples of
a module's docstring see the module's own names and the stand-ins below; words in capitals in a command stand for
whatever a reader has.
"""

import ast
import contextlib
import importlib
import io
import re
import shlex
import shutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio_client
import pytest
import torch

from apps.__main__ import APPS
from apps.common import pretrained
from apps.common.cli import parse
from apps.common.drawing.sample_set import SampleSet
from apps.common.images import read_image
from apps.common.media.frames import read_frames
from apps.common.media.sources import find_source
from apps.detection.model import pretrained as detection_pretrained
from backbone import __main__ as backbone_costs
from backbone import choose as backbone_choice
from backbone import create_backbone
from backbone.weights import find_entry
from backbone.weights.read import read_weights
from tests.backbone.weights.weight_files import keras_layers, write_keras_old
from tests.faceattr.blob_faces import ATTRIBUTES, draw_faces

ROOT = Path(__file__).resolve().parents[1]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MODULES = sorted(path for room in ("backbone", "apps", "demos", "benchmarks") for path in (ROOT / room).rglob("*.py"))
LOOKS_LIKE_PYTHON = re.compile(
    r"^ *(from \S+ import |import \S|with .*:|for .* in .*:|print\(|\w+ = \w+[\w.]*\()", re.M
)
COMMAND = re.compile(r"^(?:torchrun|python)3? |^mobilenet-apps (?!APP)")
DEMOS = [[name] for name in APPS["demo"]]
NOT_OURS = ("-m pip", "-m pytest", "-m venv", "-m http.server")
OTHER_LANGUAGES = ("js", "html", "kotlin", "swift", "groovy")


def doc_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".md" else ast.get_docstring(ast.parse(text)) or ""


def blocks(path: Path) -> Iterator[str]:
    """The indented and fenced blocks of a text, without their indentation."""
    text = doc_of(path)
    for match in re.finditer(r"(?:^(?: {4}.*)?\n)*^ {4}.*$", text, re.M):
        yield textwrap.dedent(match.group())
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
        if match.group(1) not in OTHER_LANGUAGES:
            yield match.group(2)


def commands(path: Path) -> list[str]:
    """The commands in blocks, in backquotes, and as lines of their own in a docstring; remarks behind them are cut."""
    text = doc_of(path)
    lines = [line for block in blocks(path) for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    lines += [re.sub(r"\s+", " ", inline) for inline in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    lines += text.splitlines() if path.suffix == ".py" else []
    found = []
    for line in lines:
        for part in re.split(r" && | \| ", re.split(r"\s{2,}(?! )|\s#", line.strip())[0]):
            command = re.sub(r"[\[\]]|(?<!\S)\.\.\.(?!\S)", "", part).strip()
            if COMMAND.match(command) and not any(f" {words}" in command for words in NOT_OURS):
                found.append(command)
    return list(dict.fromkeys(found))


COMMANDS = [(path, command) for path in (*TEXTS, *MODULES) for command in commands(path)]
EXAMPLES = [(path, text) for path in (*TEXTS, *MODULES) for text in blocks(path) if LOOKS_LIKE_PYTHON.search(text)]
IDS = {path: str(path.relative_to(ROOT)) for path in (*TEXTS, *MODULES)}


def test_examples_and_commands_are_found():
    assert len(COMMANDS) > 100
    assert {"README.md", "apps/common/pretrained.py", "apps/detection/predict.py"} <= {IDS[p] for p, _ in EXAMPLES}
    assert "python apps/detection/check.py --data PATH --fix" in commands(ROOT / "apps/detection/check.py")
    assert "python -m backbone --all" in commands(ROOT / "backbone/__main__.py")


def test_files_that_are_spoken_of_exist():
    """`load.py` in a docstring or a page is a file of that name; TensorFlow's are theirs."""
    known = {path.name for path in (*MODULES, *(ROOT / "tests").rglob("*.py"))} | {"multiple_grid_anchor_generator.py"}
    for path in (*TEXTS, *MODULES):
        named = re.findall(r"(?<![\w./-])(?:[a-z]+/)*([a-z]\w*\.py)\b", path.read_text(encoding="utf-8"))
        assert set(named) <= known, IDS[path]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[f"{IDS[p]}: {text}" for p, text in COMMANDS])
def test_a_command_has_a_script_that_takes_its_flags(path, command):
    words = shlex.split(command.replace("python -m apps ", "mobilenet-apps "))
    if words[0] == "mobilenet-apps":
        words[1:2] = ["demo", "app"] if words[1] == "demo" and words[2:3] not in DEMOS else [words[1]]
        assert words[2] in APPS[words[1]], f"mobilenet-apps {words[1]} has no {words[2]}"
        module, args = f"{'demos' if words[1] == 'demo' else f'apps.{words[1]}'}.{words[2]}", words[3:]
    elif words[1] == "-m":
        module, args = words[2], words[3:]
    else:
        number = next(i for i, word in enumerate(words) if word.endswith(".py"))
        script, args = words[number], words[number + 1 :]
        assert (ROOT / script).is_file(), f"{script} is no file"
        module = script.removesuffix(".py").replace("/", ".")
    if module in ("backbone", "apps.detection") and args[:1] == ["choose"]:
        check_flags(backbone_choice.make_parser().parse_args, args[1:])
    elif module.startswith("apps") or module.startswith("demos"):
        config = importlib.import_module(f"{module}.__main__" if module == "apps.detection" else module).Config
        check_flags(lambda args: parse(config, args), args)
    elif module == "backbone":
        check_flags(backbone_costs.make_parser().parse_args, args)
    else:  # those of benchmarks import peers that need not be installed
        place = ROOT / module.replace(".", "/")
        source = (place / "__main__.py" if place.is_dir() else place.with_suffix(".py")).read_text(encoding="utf-8")
        for word in args if "parse_known_args" not in source else ():  # which takes another script's, too
            name = re.sub("^--(no-)?", "", word).partition("=")[0]
            if word.startswith("--") or (module == "backbone.weights" and word == args[0]):
                assert f'"{word}"' in source or re.search(rf"^ +{name.replace('-', '_')}: ", source, re.M), word


def check_flags(read: Callable[[list[str]], Any], args: list[str]) -> None:
    """Flags must exist and take their values; capitals may stand for a number, a choice (of `--head`) or flags."""
    error = io.StringIO()
    numbers = [re.sub("^[A-Z]+$", "1", word) for word in args]
    choices = [re.sub("^HEAD$", "ssd", word) for word in args if word != "FLAGS"]
    for given in (args, numbers, choices, [re.sub("^[A-Z]+$", "1", word) for word in choices]):
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(error):
            read(given)
            return
    raise AssertionError(error.getvalue())


@pytest.mark.parametrize(("path", "text"), EXAMPLES, ids=[f"{IDS[p]} {i}" for i, (p, _) in enumerate(EXAMPLES)])
def test_an_example_runs(path, text, tmp_path, monkeypatch):
    code = compile(text, f"{path.name}, example", "exec")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
    name = IDS[path]
    if name.startswith("docs/"):  # pieces of longer programs
        return
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gradio_client, "Client", Page)
    monkeypatch.setattr(gradio_client, "handle_file", lambda name: Path(name).read_bytes())
    names: dict[str, Any] = {}
    if path.suffix == ".py":
        names |= vars(importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")))
    names |= {"image": read_image(tmp_path / "photo.jpg"), "images": torch.zeros(2, 3, 64, 96)}
    names |= STAND_INS.get(name, lambda folder: {})(tmp_path)
    exec(code, names)


class Page:
    """A page of the demos, seen by gradio_client."""

    def __init__(self, address: str) -> None:
        assert address == "http://127.0.0.1:7860"

    def predict(self, photo: Any, *, api_name: str, **options: Any) -> tuple[Any, str, list]:
        served = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "demos").glob("*.py"))
        assert f'"{api_name.removeprefix("/")}"' in served
        return None, "", []


def make_files(folder: Path) -> None:
    """A trained model of every app, as `runs/APP/NAME/best`, and photos."""
    for app in ("detection", "finegrained", "faceattr"):
        shutil.copytree(ROOT / "demos/models" / app, folder / "runs" / app / "NAME" / "best")
    (folder / "photos").mkdir()
    for path in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        shutil.copy(ROOT / "demos/examples/faceattr/1.jpg", folder / path)


def read_pretrained(folder: Path) -> dict[str, Any]:
    """A weight file of random numbers instead of the published one."""
    path = folder / "imagenet.h5"
    path.write_bytes(write_keras_old(keras_layers(0.75, num_classes=5, seed=0)))
    load = pretrained.load_pretrained
    return {"load_pretrained": lambda name, **given: load(str(path) if name == "imagenet" else name, **given)}


def read_catalog(folder: Path) -> dict[str, Any]:
    data = write_keras_old(keras_layers(0.25, num_classes=5, seed=0))
    return {"load_weights": lambda name: read_weights(data, name=find_entry(name).name)}


def read_detector(folder: Path) -> dict[str, Any]:
    start = detection_pretrained.load_pretrained("none", width_mult=0.75)
    return {"load_pretrained": lambda name, **given: replace(start, head="ssd")}


def read_graph(folder: Path) -> dict[str, Any]:
    pytest.importorskip("ai_edge_litert")
    from tests.backbone.weights.tflite_files import write_tflite

    (folder / "ssd.tflite").write_bytes(write_tflite(create_backbone("a025", num_classes=3).eval(), resolution=32))
    return {}


def draw_moths(folder: Path) -> dict[str, Any]:
    """Squares instead of moths: the processes that draw look for the function in its module."""
    squares = "tests.common.drawing.test_sample_set:draw_square"
    return {"SampleSet": lambda **given: SampleSet(**{**given, "draw": squares}), "read_labelled": None}


def one_frame(folder: Path) -> dict[str, Any]:
    (frame,) = read_frames(find_source(str(folder / "photo.jpg")))
    return {"frames": [(frame, [])], "draw": lambda image, found: image}


STAND_INS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "backbone/weights/readers/tflite_graph.py": read_graph,
    "apps/common/pretrained.py": read_pretrained,
    "backbone/weights/__init__.py": read_catalog,
    "apps/common/drawing/sample_set.py": draw_moths,
    "apps/common/media/frames.py": lambda folder: {},
    "apps/common/media/sinks.py": one_frame,
    "apps/common/media/watch.py": lambda folder: {
        "predictor": SimpleNamespace(batch=lambda images: [[["cat"]] for _ in images]),
        "draw": lambda image: image,
        "write": lambda out: "",
    },
    "apps/detection/model/pretrained.py": read_detector,
    "apps/faceattr/data/load.py": lambda folder: {
        "tagger": SimpleNamespace(attributes=ATTRIBUTES),
        "faces": draw_faces(folder / "faces", each=4),
        "more": draw_faces(folder / "more", each=4),
    },
}
