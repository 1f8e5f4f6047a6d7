"""The last words of a training can be copied: each command has a script that takes its flags."""

import importlib
import shlex
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

from apps.common import cli
from apps.common.cli import parse
from apps.common.evaluation.finish import last_words
from apps.common.training.run_state import RunState

ROOT = Path(__file__).parents[3]


def commands(app: str, run: Path, data: str | tuple[str, ...], **others) -> list[list[str]]:
    state = RunState({}, metric="AP")
    state.done, state.best = 5, {"step": 4, "metrics": {"AP": 0.4321}}
    config = SimpleNamespace(data=data, **{"bad_data": "refuse", "group_by": None, **others})
    words = last_words(app, config, run, state, 5, photo=Path("my photos/a b.jpg"))
    first, report, _, *lines = words.splitlines()
    assert first == f"best AP on val 0.432, at step 4; the run in {run} is finished: all 5 steps are done"
    link = report.removeprefix("report: ")
    assert Path(unquote(urlsplit(link).path)) == (run / "eval-val/report.html").resolve()
    assert link.startswith("file:") and " " not in link
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("app", ["detection", "finegrained", "faceattr"])
@pytest.mark.parametrize("at_home", [True, False])
def test_three_commands_to_copy(app, at_home, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT if at_home else tmp_path)
    data = "my data" if app != "faceattr" else ("my data", "more")
    look, predict, export = commands(app, Path("runs/x/my run"), data, bad_data="skip", group_by="folder")
    for (python, script, *args), name in ((look, f"demos.{app}"), (predict, f"apps.{app}.predict")):
        assert python == "python"
        assert Path(script).is_absolute() != at_home and Path(script).is_file()
        assert script.replace("/", ".").endswith(f"{name}.py")
        config = parse(importlib.import_module(name).Config, args)
        assert config.checkpoint == Path("runs/x/my run")
    assert config.sources == ("my photos/a b.jpg",)
    config = parse(importlib.import_module(f"apps.{app}.export").Config, export[2:])
    assert (config.checkpoint, config.data) == (Path("runs/x/my run"), data)
    assert (config.bad_data, config.group_by) == ("skip", "folder")


def test_the_installed_command_names_itself_and_the_sample_set_is_not_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "started_by", "mobilenet-apps detection train")
    assert commands("detection", tmp_path, "sample") == [
        ["mobilenet-apps", "demo", "detection", "--checkpoint", str(tmp_path)],
        ["mobilenet-apps", "detection", "predict", "my photos/a b.jpg", "--checkpoint", str(tmp_path)],
        ["mobilenet-apps", "detection", "export", "--checkpoint", str(tmp_path)],
    ]
