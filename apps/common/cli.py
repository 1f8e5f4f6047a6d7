"""Commands from config classes: flags by tyro, and one line instead of a traceback for a user's mistake."""

import ast
import contextlib
import dataclasses
import filecmp
import importlib
import importlib.util
import inspect
import io
import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from apps.common.options import PLAIN, SECTIONS

ConfigT = TypeVar("ConfigT")
ROOT = Path(__file__).parents[2]  # the checkout, or where packages are installed
COMMAND = "mobilenet-apps"  # the installed command, and the package's name
started_by = ""  # "mobilenet-apps detection train", where that was typed
REGISTRY = ConstructorRegistry()
UNSEEN = ("Cc", "Cf", "Zl", "Zp")  # Unicode's controls, marks of direction, ends of lines and paragraphs
JOINERS = "\u200c\u200d"  # of letters in Persian and Hindi
OTHER = "other"  # the section of flags that options.SECTIONS does not name


def run_command(
    main: Callable[[ConfigT], Any] | str, config_class: type[ConfigT], args: Sequence[str] | None = None
) -> None:
    """Parse flags into `config_class` and call `main` with it.

    A `ValueError` or `OSError` is a person's mistake or a broken file: one line on stderr, exit code 2. Set
    MOBILENET_APPS_TRACEBACK=1 to see where it was raised. Anything else is a bug and keeps its traceback.

    Args:
        main: a function, or "module:function" of the calling script. Such a script calls this above its slow imports,
            so that --help and wrong flags do not wait for torch: if the flags are right, the script is imported again
            as a module, this time completely, and the process ends with the function.
    """
    sys.stdout, sys.stderr = (one or open(os.devnull, "w") for one in (sys.stdout, sys.stderr))  # closed by who started
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        config = parse(config_class, args)
        function, config = (main, config) if callable(main) else _imported(main, config, sys._getframe(1).f_globals)
        try:
            with contextlib.redirect_stdout(Terminal(sys.stdout)):
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


def _imported(target: str, config: Any, script: Mapping[str, Any]) -> tuple[Callable[[Any], Any], Any]:
    """The function at "module:function", and a config with the same values, of the class as it is imported.

    Args:
        script: globals of the script that was started, which must be that module or one beside it: in a changed copy,
            the copy's loop would not run.
    """
    target, _, function = target.partition(":")
    beside = f"{target.rpartition('.')[0]}.{Path(script['__file__']).stem}"
    name = beside if importlib.util.find_spec(beside) else target
    module = importlib.import_module(name)
    if not filecmp.cmp(script["__file__"], str(module.__file__), shallow=False):
        fail(
            f"{script['__file__']} differs from {module.__file__}, which is imported as {name}: install the checkout "
            "that you use (python -m pip install -e .); a copy must name its own module where it calls run_command"
        )
    return getattr(importlib.import_module(target), function), getattr(module, type(config).__name__)(**vars(config))


def parse(config_class: type[ConfigT], args: Sequence[str] | None = None) -> ConfigT:
    """Flags to a config; a mistake ends in one line and exit code 2.

    The flat class is split into sections (`options.SECTIONS`) for tyro and its --help, and joined again. A field
    `given` is not a flag: it gets the names of all flags in the command line, including those set to their default.
    """
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parsed: Any = tyro.cli(
                _in_sections(config_class),
                args=args,
                prog=started_by or None,
                description=as_started(inspect.cleandoc(config_class.__doc__ or "")),
                config=(tyro.conf.OmitArgPrefixes,),
                registry=REGISTRY,
            )
    except SystemExit as stop:
        if stop.code == 2:
            fail(_unboxed(stderr.getvalue()))
        raise
    values: dict[str, Any] = {}
    for name, section in vars(parsed).items():
        nested: Any = getattr(config_class, name, None)
        is_nested = dataclasses.is_dataclass(nested)
        values |= {name: dataclasses.replace(nested, **vars(section))} if is_nested else vars(section)
    names = {field.name for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    return config_class(**values, **({"given": _given(names, args)} if "given" in names else {}))


def _in_sections(config_class: Any) -> Any:
    """A dataclass with a nested dataclass for each section of flags, and for each field that is a dataclass."""
    fields = {field.name: field for field in dataclasses.fields(config_class) if field.name != "given"}
    nested = {name: field.default for name, field in fields.items() if dataclasses.is_dataclass(field.default)}
    known = {name for names in SECTIONS.values() for name in names}
    others = [name for name in fields if name not in known and name not in nested]
    sections = {
        title: _section(config_class, title, [name for name in names if name in fields])
        for title, names in {**SECTIONS, OTHER: others}.items()
        if any(name in fields for name in names)
    }
    for name, default in nested.items():
        sections[name] = _section(type(default), name, [field.name for field in dataclasses.fields(default)])
    return dataclasses.make_dataclass("Flags", list(sections.items()), kw_only=True)


def _section(source: Any, title: str, names: Sequence[str]) -> type:
    """A dataclass with some fields of another one; a default of None is described by the help text alone."""
    fields = {field.name: field for field in dataclasses.fields(source)}
    hints, helps = get_type_hints(source, include_extras=True), help_texts(source)
    made = []
    for name in names:
        default, factory = fields[name].default, fields[name].default_factory
        hint = "" if default is None or default == () else None
        metavar = "SOURCE ..." if name in PLAIN else None
        flag = tyro.conf.arg(help=helps.get(name), help_behavior_hint=hint, metavar=metavar)
        positional: Any = tyro.conf.Positional
        kind = positional[hints[name]] if name in PLAIN else hints[name]
        made.append((name, Annotated[kind, flag], dataclasses.field(default=default, default_factory=factory)))
    section = dataclasses.make_dataclass(title, made, kw_only=True)
    section.__doc__ = ""
    return section


def help_texts(config_class: type) -> dict[str, str]:
    """The docstring under each field, by name; a class overrides those that it inherits from."""
    texts = {}
    for one in reversed(config_class.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        for field, text in pairwise(tree.body):  # type: ignore[attr-defined]
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                texts[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[union-attr]
    return texts


@REGISTRY.primitive_rule
def _not_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """The type without None, which is only the default and cannot be typed."""
    types = [one for one in get_args(info.type) if one is not NoneType]
    if NoneType not in get_args(info.type) or len(types) != 1:
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(types[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else spec.str_from_instance(value),
    )


def is_set(config: Any, *names: str) -> bool:
    """Whether one of these flags was given, or has another value than its default."""
    return any(name in config.given or getattr(config, name) != getattr(type(config), name) for name in names)


def _given(fields: set[str], args: Sequence[str] | None) -> frozenset[str]:
    """The fields whose flags are in a command line."""
    names = set()
    for word in sys.argv[1:] if args is None else args:
        name = word.removeprefix("--").partition("=")[0].replace("-", "_")
        names |= {name, name.removeprefix("no_")} if word.startswith("--") else set()
    return frozenset(names & fields)


def printable(text: Path | str) -> str:
    """A name that is safe to show: in one line, without undecodable bytes and terminal control characters."""
    shown = str(text).encode("utf-8", "replace").decode("utf-8")
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) in UNSEEN and c not in JOINERS else c for c in shown)


def say(line: str) -> None:
    """Print a line that contains untrusted names; it stays one line."""
    print(printable(line), flush=True)


class Terminal(io.TextIOBase):
    """A stream for untrusted names: terminal control characters are written as their numbers."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        shown = text.encode("utf-8", "backslashreplace").decode()
        self._stream.write("".join(one if one in "\n\t" else printable(one) for one in re.split(r"([\n\t])", shown)))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def file_name(name: str) -> str:
    """A class's name as a file or folder name: one path component, without special characters, never hidden."""
    plain = "".join("_" if c in '/\\:*?"<>|' else c for c in printable(name).replace("\\x", "_x")).strip(". ")
    return plain[:100] or "_"


def fail(message: str) -> None:
    """End the process with one line on stderr and exit code 2."""
    print(f"{started_by or Path(sys.argv[0]).name}: error: {printable(as_started(message))}", file=sys.stderr)
    raise SystemExit(2)


def as_started(text: str) -> str:
    """A text with its commands as they are typed here: without a checkout, as the installed command."""
    if started_by:
        text = re.sub(r"python demos/(\w+)\.py", rf"{COMMAND} demo \1", text)
        text = re.sub(r"python apps/(\w+)/(\w+)\.py", rf"{COMMAND} \1 \2", text)
    if not (ROOT / "constraints.txt").is_file():
        text = re.sub(r"""-e (['"])\.\[(\w+)\]\1 -c constraints\.txt""", rf'"{COMMAND}[\2]"', text)
    return text


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
