"""From a config class to a command: flags by tyro, and one line instead of a traceback for a user's mistake."""

import contextlib
import filecmp
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

ConfigT = TypeVar("ConfigT")

Given = Annotated[frozenset[str], tyro.conf.Suppress]
"""Type of a config's field `given`: names of the flags that the command line had, also of those with their default.

It is no flag itself; `parse` fills it in."""


def run_command(
    main: Callable[[ConfigT], Any] | str, config_class: type[ConfigT], args: Sequence[str] | None = None
) -> None:
    """Parse flags into `config_class` and call `main` with it.

    A `ValueError` or `OSError` is a person's mistake or a broken file: one line on stderr, exit code 2. Set
    MOBILENET_APPS_TRACEBACK=1 to see where it was raised. Anything else is a bug and keeps its traceback.

    Args:
        main: a function, or "module:function", its place in the script that calls this. Such a script makes the call
            above its slow imports, so that --help and wrong flags do not wait for torch: if the flags are right, the
            module is imported, which is the same file, now whole, and the process ends with the function.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        config = parse(config_class, args)
        function, config = (main, config) if callable(main) else _imported(main, config, sys._getframe(1).f_globals)
        try:
            function(config)
        except (ValueError, OSError) as error:
            if os.environ.get("MOBILENET_APPS_TRACEBACK"):
                raise
            fail(plain_message(error))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        raise SystemExit(130) from None
    if not callable(main):
        raise SystemExit(0)


def _imported(place: str, config: Any, script: Mapping[str, Any]) -> tuple[Callable[[Any], Any], Any]:
    """The function at "module:function", and a config of that module's own class with the same values.

    Args:
        script: globals of the script that was started, which must be that module: a changed copy's loop would not run.
    """
    name, _, function = place.partition(":")
    module = importlib.import_module(name)
    if not filecmp.cmp(script["__file__"], str(module.__file__), shallow=False):
        fail(
            f"{script['__file__']} differs from {module.__file__}, which is imported as {name}: install the checkout "
            "that you use (python -m pip install -e .); a copy must name its own module where it calls run_command"
        )
    return getattr(module, function), getattr(module, type(config).__name__)(**vars(config))


def parse(config_class: type[ConfigT], args: Sequence[str] | None = None) -> ConfigT:
    """Flags to a config; a mistake ends in one line and exit code 2."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            config = tyro.cli(config_class, args=args)
            return replace(config, given=_given(config, args)) if hasattr(config, "given") else config  # type: ignore
    except SystemExit as stop:
        if stop.code == 2:
            fail(_unboxed(stderr.getvalue()))
        raise


def is_set(config: Any, *names: str) -> bool:
    """Whether one of these flags was given, or has another value than its default."""
    return any(name in config.given or getattr(config, name) != getattr(type(config), name) for name in names)


def _given(config: Any, args: Sequence[str] | None) -> frozenset[str]:
    """The names of the flags in a command line."""
    names = set()
    for word in sys.argv[1:] if args is None else args:
        name = word.removeprefix("--").partition("=")[0].replace("-", "_")
        names |= {name, name.removeprefix("no_")} if word.startswith("--") else set()
    return frozenset(names & vars(config).keys())


def fail(message: str) -> None:
    """End the process with one line on stderr and exit code 2."""
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def plain_message(error: Exception) -> str:
    """An exception's message in one line, also when a data-loading process raised it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if lines[0].startswith("Caught "):  # torch's wrapper: a traceback, then the original "ValueError: message"
        return lines[-1].partition(": ")[2]
    return " ".join(line.strip() for line in lines)


def _unboxed(text: str) -> str:
    """The sentences of tyro's framed error in one line, without frame, title, rules and the pointer to --help."""
    lines = [line.strip("│ ") for line in text.splitlines() if line.strip() and not line.startswith(("╭", "╰"))]
    rules = [not line.strip("─- ") for line in lines]
    if not text.startswith("╭") and rules[1:2] == [True]:  # a terminal without box characters: the title is a line
        lines, rules = lines[2:], rules[2:]
    words = [line for line, rule in zip(lines, rules, strict=True) if not rule and "full helptext" not in line]
    if "Argument helptext:" in words:
        words = words[: words.index("Argument helptext:")]
    return " ".join((*words, "(--help lists all flags)"))
