"""What is installed: the command that starts every script, and a wheel with all that the packages need."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from apps import __main__ as command
from apps.common import cli
from tests.test_scripts import ROOT, SCRIPTS, SLOW

FAST_START = f"""
import sys
from apps.__main__ import main
try:
    main()
finally:
    slow = sys.modules.keys() & set({SLOW!r})
    assert not slow, slow
"""


def started(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-c", FAST_START, *words]
    return subprocess.run(start, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_command_has_all_scripts(monkeypatch):
    ran = []
    monkeypatch.setattr(command.runpy, "run_module", lambda name, **_: ran.append((name, sys.argv[1:], cli.started_by)))
    monkeypatch.setattr(cli, "started_by", "")
    for app, scripts in command.APPS.items():
        for script in scripts:
            monkeypatch.setattr(sys, "argv", ["mobilenet-apps", app, script, "--device", "cpu"])
            command.main()
            assert ran[-1][1:] == (["--device", "cpu"], f"mobilenet-apps {app} {script}")
    for flags in ([], ["--port", "80"]):
        monkeypatch.setattr(sys, "argv", ["mobilenet-apps", "demo", *flags])
        command.main()
        assert ran.pop() == ("demos.app", flags, "mobilenet-apps demo app")
    tools = {"apps/detection/__main__.py", "demos/models/make.py", "demos/examples/make.py"}
    assert {name.replace(".", "/") + ".py" for name, *_ in ran} == {*SCRIPTS} - tools


def test_help_and_mistakes_are_said_at_once_in_any_folder(tmp_path):
    done = started("detection", "predict", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "usage: mobilenet-apps detection predict" in done.stdout
    assert "example: mobilenet-apps detection predict photos/" in done.stdout
    for words, message in (
        (["detect"], "mobilenet-apps: error: there is no app 'detect': there are .*; did you mean detection?"),
        (["faceattr", "tech"], "mobilenet-apps: error: there is no script 'tech': .*; did you mean teacher?"),
        (["detection", "train", "--bogus"], "mobilenet-apps detection train: error: Unrecognized options: --bogus"),
    ):
        done = started(*words, cwd=tmp_path)
        (line,) = done.stderr.splitlines()
        start, _, end = message.partition(".*")
        assert done.returncode == 2 and line.startswith(start) and end in line
    assert started(cwd=tmp_path).returncode == 2
    assert "predict" in started("finegrained", "--help", cwd=tmp_path).stdout


def test_messages_name_commands_that_are_there(monkeypatch, tmp_path):
    text = (
        "use `python demos/detection.py`, `python apps/faceattr/teacher.py --data X` or -e '.[fast]' -c constraints.txt"
    )
    assert cli.as_started(text) == text
    monkeypatch.setattr(cli, "started_by", "mobilenet-apps detection predict")
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.as_started(text) == (
        'use `mobilenet-apps demo detection`, `mobilenet-apps faceattr teacher --data X` or "mobilenet-apps[fast]"'
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built as `python -m build` does: the source archive of what is committed, then the wheel from what is in it."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip("not a git checkout")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in files.stdout.splitlines():
        if name.startswith(("backbone/", "apps/", "demos/")) or name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build(source, "sdist", out)
    shutil.unpack_archive(next(out.glob("*.tar.gz")), out, filter="data")
    build(next(path for path in out.iterdir() if path.is_dir()), "wheel", out)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def build(folder: Path, kind: str, out: Path) -> None:
    code = f"from setuptools.build_meta import build_{kind} as build; build({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_wheel_has_every_file_of_the_packages_and_no_other(wheel):
    tracked = subprocess.run(["git", "ls-files", "backbone", "apps", "demos"], cwd=ROOT, capture_output=True, text=True)
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == set(tracked.stdout.splitlines())


def test_a_wheel_says_what_it_needs_and_installs_the_command(wheel):
    about = {Path(name).name: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "mobilenet-apps = apps.__main__:main" in about["entry_points.txt"]
    assert sorted(about["top_level.txt"].split()) == ["apps", "backbone", "demos"]
    assert about["METADATA"].count("\nRequires-Dist: ") >= len(project["dependencies"])
    assert "Apache License" in about["LICENSE"]
