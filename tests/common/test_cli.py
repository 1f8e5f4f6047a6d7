import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.common.cli import file_name, plain_message, run_command


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A command."""

    number: int = 1
    """a number"""


def test_flags_reach_the_command():
    seen = []
    run_command(seen.append, Config, ["--number", "5"])
    assert seen == [Config(number=5)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--numbre", "5"], "Unrecognized options: --numbre, 5 Perhaps you meant: --number INT"),
        (["--number", "five"], "Error parsing --number"),
        (["--number"], "--number"),
    ],
)
def test_wrong_flags_end_in_one_line(args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run_command(print, Config, args)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert message in line


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("a\n  b"), "a b"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), "No such file or directory: x.json"),
        (
            ValueError("Caught ValueError in worker 0.\nTraceback:\n  ...\nValueError: photo.jpg: empty"),
            "photo.jpg: empty",
        ),
        (ValueError(), "ValueError"),
    ],
)
def test_plain_message(error, message):
    assert plain_message(error) == message


def test_a_name_that_is_no_text_does_not_end_a_command(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8", errors="strict"))
    run_command(lambda config: print("caf\udce9.jpg", flush=True), Config, [])
    assert written.getvalue() == b"caf\\udce9.jpg\n"


def test_a_command_whose_streams_are_closed_runs(monkeypatch):
    """As a daemon's or cron's may be: Python then has no sys.stdout."""
    seen = []
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    run_command(lambda config: (print("a line"), seen.append(config)), Config, [])
    assert seen == [Config()]
    with pytest.raises(SystemExit) as stop:
        run_command(print, Config, ["--number", "five"])
    assert stop.value.code == 2


def test_a_bug_keeps_its_traceback():
    def bug(config):
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_command(bug, Config, [])


def test_the_traceback_of_a_mistake_can_be_asked_for(monkeypatch):
    def mistake(config):
        raise ValueError("x")

    monkeypatch.setenv("MOBILENET_APPS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="x"):
        run_command(mistake, Config, [])


LATE = """
import dataclasses
import io

from apps.common.cli import run_command

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    number: int = 1
    wrong: bool = False

if __name__ == "__main__":
    run_command("package.late:main", Config)

import multiprocessing

print("loaded", __name__, flush=True)

def double(number):
    return 2 * number

def main(config):
    assert type(config) is Config
    if config.wrong:
        raise ValueError("it is wrong")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [config.number]), flush=True)
"""


@pytest.fixture
def run_late(tmp_path):
    """Start a script whose slow imports stand below its flags; `module` as by python -m."""
    script = tmp_path / "package" / "late.py"
    script.parent.mkdir()
    script.write_text(LATE)

    def run(*args, module=False, script=script):
        command = ["-m", "package.late"] if module else [str(script)]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run([sys.executable, *command, *args], env=environment, capture_output=True, text=True)

    return run


@pytest.mark.parametrize("module", [False, True])
def test_a_script_below_its_flags_is_imported_once_and_whole(run_late, module):
    done = run_late("--number", "5", module=module)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split("loaded ")[1:]  # also by the data process, whatever way it is started
    assert [name.split()[0] for name in loaded] == ["package.late", "__mp_main__", "package.late"]
    assert done.stdout.endswith("[10]\n")


def test_a_mistake_in_a_script_below_its_flags_ends_in_one_line(run_late):
    done = run_late("--wrong")
    assert (done.returncode, done.stderr) == (2, "late.py: error: it is wrong\n")
    done = run_late("--numbre", "5")
    assert done.returncode == 2
    assert done.stdout == ""  # nothing slow was imported


def test_a_changed_copy_of_a_script_is_not_passed_over(run_late, tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text(LATE.replace("2 * number", "3 * number"))
    done = run_late(script=copy)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"mine.py: error: {copy} differs from {tmp_path / 'package' / 'late.py'}")


def test_a_machine_without_libgl_gets_the_command_that_mends_it(tmp_path):
    """A stand-in for OpenCV that fails to load as it does where libGL is missing."""
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({message!r})")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    script = Path(__file__).parents[2] / "apps/detection/eval.py"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert "apt-get install libgl1" in line
    assert "--force-reinstall --no-deps opencv-python-headless==" in line


def test_a_class_names_one_file_inside_its_folder():
    for name in ("..", "../../x", "/etc", "a/b", "a\\b", ".", "", "a\x1b[31m\nb", "C:x", "...", "x" * 400):
        safe = file_name(name)
        assert safe not in ("", ".", "..") and not set(safe) & set("/\\:\x1b\n") and len(safe) <= 100, name
    assert file_name("traffic light") == "traffic light" and file_name("a/b") == "a_b"
