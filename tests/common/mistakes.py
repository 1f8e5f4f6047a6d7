"""What a script says of a mistake."""

import pytest

from apps.common.cli import run_command


def error_of(capsys, main, config_class, *args: str) -> str:
    """The one line that a command ends with; checks that it is one line and the exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_command(main, config_class, args)
    assert stop.value.code == 2
    lines = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
    (line,) = (text for text in lines if "step/s" not in text and "s/step" not in text)  # no progress bar
    return line
