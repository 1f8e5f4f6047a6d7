"""Shared by the check.py scripts: findings, printing and saving them, and the findings about single files."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from apps.common.checkpoint import save_json
from apps.common.cli import say
from apps.common.data.photos import PhotoFacts

Level = Literal["error", "warning", "note"]
HEADINGS: dict[Level, str] = {
    "error": "ERRORS (training or its figures would be wrong)",
    "warning": "WARNINGS",
    "note": "NOTES",
}


class Finding(NamedTuple):
    """A finding of check.py: one kind of problem and all its cases, a sentence each."""

    level: Level
    what: str
    cases: list[str]


def file_findings(facts: Sequence[PhotoFacts], *, min_side: int) -> list[Finding]:
    """Findings about single files; a side shorter than `min_side` pixels is a warning."""

    def those(level: Level, what: str, holds: Callable[[PhotoFacts], bool], show: str = "{0.path}") -> Finding:
        return Finding(level, what, [show.format(fact) for fact in facts if holds(fact)])

    return [
        those("error", "photos that cannot be read", lambda f: f.problem is not None, "{0.problem}"),
        those(
            "warning",
            f"photos with a side below {min_side} pixels",
            lambda f: f.problem is None and min(f.width, f.height) < min_side,
            "{0.path}: {0.width}x{0.height}",
        ),
        those("note", "files named as another format", lambda f: f.suffix_is_wrong, "{0.path} is {0.format}"),
        those("note", "photos turned by EXIF", lambda f: f.orientation > 1, "{0.path}: orientation {0.orientation}"),
        those("note", "gray photos", lambda f: f.channels.startswith("gray")),
        those(
            "note", "photos with transparency, which is put on white", lambda f: f.channels in ("RGBA", "gray+alpha")
        ),
        those("note", "photos in CMYK or with a palette", lambda f: f.channels in ("CMYK", "palette")),
        those("note", "photos of fewer than 8 bits", lambda f: 0 < f.bits < 8, "{0.path}: {0.bits} bits"),
        those("note", "photos of more than 8 bits", lambda f: f.bits > 8, "{0.path}: {0.depth}"),
    ]


def similar_names(names: Iterable[str]) -> Finding:
    """Classes whose names differ only in case, spaces or the form of a number: cat and Cat, 1 and 1.0."""
    of_key: dict[object, list[str]] = {}
    for name in names:
        key = "".join(re.findall(r"[^\W_]+", name.casefold())) or name
        of_key.setdefault(float(name) if re.fullmatch(r"\d{1,15}(\.\d{1,15})?", name) else key, []).append(name)
    cases = [" = ".join(map(repr, same)) for same in of_key.values() if len(same) > 1]
    return Finding("warning", "classes with nearly equal names", cases)


def photos_outside(folders: Iterable[Path], paths: Iterable[Path]) -> Finding:
    """Photos outside the folder of the data, which a list names by ".." or an absolute path."""
    inside = tuple(os.path.join(os.path.abspath(folder), "") for folder in folders)
    cases = [str(path) for path in paths if not os.path.abspath(path).startswith(inside)]
    return Finding("note", "photos outside the folder of the data", cases)


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with cases: errors, warnings, notes."""
    return sorted((f for f in findings if f.cases), key=lambda finding: list(HEADINGS).index(finding.level))


def print_findings(findings: Sequence[Finding], *, examples: int) -> None:
    """The findings under their headings, each with some of its cases."""
    for level, heading in HEADINGS.items():
        here = [finding for finding in findings if finding.level == level]
        print(f"\n{heading}" + ": none" * (not here))
        for finding in here:
            say(f"  {finding.what}: {len(finding.cases):,}")
            for case in finding.cases[:examples]:
                say(f"      {case}")
            if len(finding.cases) > examples:
                print(f"      ... and {len(finding.cases) - examples:,} more")
    print()


def refuse_negative(config: object, *names: str) -> None:
    """Raise ValueError if one of these fields of a configuration is negative."""
    for name in names:
        if getattr(config, name) < 0:
            raise ValueError(f"{name} must be 0 or more, got {getattr(config, name)}")


def save_findings(path: Path, findings: Sequence[Finding], **about: Any) -> None:
    """Write check.json: the facts about the data, then the findings with all their cases."""
    cases = [{**finding._asdict(), "count": len(finding.cases)} for finding in findings]
    save_json(path, {**about, "findings": cases})


def exit_on_errors(findings: Sequence[Finding]) -> None:
    """End the command with exit code 1 if there are errors."""
    if any(finding.level == "error" for finding in findings):
        raise SystemExit(1)
