import dataclasses

import pytest

from apps.common.cli import plain_message, run_command


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
