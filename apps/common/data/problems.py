"""Problems of the data as sentences, refusing or skipping them, and suggestions for misspelt names."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from apps.common.choices import BadData
from apps.common.cli import printable


class Problem(NamedTuple):
    """Something that cannot be used and must be corrected or skipped. (A `Finding` is one kind with all its cases.)

    Attributes:
        sentence: names the file, and the object if it is about one.
        split: the split it is in; None for all, or if not yet known.
        kind: of problem, such as "boxes without area".
        path: the photo, if there is one to look at.
        box_xyxy_px: the object's box as given, if it has four finite numbers.
    """

    sentence: str
    split: str | None = None
    kind: str = ""
    path: Path | None = None
    box_xyxy_px: tuple[float, float, float, float] | None = None


def refuse_problems(problems: Sequence[str], bad_data: BadData) -> None:
    """Stop if there are problems that should not be skipped.

    Raises:
        ValueError: there are; the message has the first one, their number, and what to do.
    """
    if problems and bad_data == "refuse":
        more = len(problems) - 1
        rest = f" (and {more:,} more such problem{'s' * (more > 1)})" if more else ""
        raise ValueError(
            printable(f"{_shortened(problems[0])}{rest}; correct the data, or skip its problems with --bad-data skip")
        )


def skipped_words(skipped: Sequence[str]) -> str:
    """The end of a line about a split: the number of skipped problems and the first of them; "" if none."""
    return f"; skipped {len(skipped):,}: {some_of(list(map(_shortened, skipped[:4])), '; ')}" if skipped else ""


def _shortened(sentence: str) -> str:
    """A sentence of at most 700 characters: names in users' files may have any length."""
    return sentence if len(sentence) <= 700 else f"{sentence[:600]} ... {sentence[-80:]}"


def some_of(words: Sequence[str], separator: str = ", ", *, most: int = 3) -> str:
    """The first words of a list, and "..." where there are more."""
    return printable(separator.join(words[:most]) + f"{separator}..." * (len(words) > most))


def did_you_mean(given: str, known: Iterable[str], *, otherwise: str = "", shown: Callable[[str], object] = str) -> str:
    """The end of a message about an unknown name: "; did you mean NAME?" with the nearest of the known ones.

    Args:
        otherwise: the end if none is near; default nothing.
        shown: formats the name.
    """
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {shown(near[0])}?" if near else otherwise and f"; {otherwise}"


def names_beside(path: Path) -> list[str]:
    """The files in the folder of a missing path, as the end of a message."""
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
