"""What is wrong with data, in sentences: one problem, all of them refused or skipped, and what was probably meant."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from apps.common.choices import BadData
from apps.common.cli import printable


class Problem(NamedTuple):
    """Something that cannot be used: it must be mended, or is left out. (A `Finding` is a kind of them with all cases.)

    Attributes:
        sentence: names the file, and the object if it is about one.
        split: that it belongs to; None for all, or where it is not known yet.
        kind: what it is a case of, such as "boxes without area".
        path: the photo, if there is one to look at.
        box_xyxy_px: the object's box as it was given, if it has four finite numbers.
    """

    sentence: str
    split: str | None = None
    kind: str = ""
    path: Path | None = None
    box_xyxy_px: tuple[float, float, float, float] | None = None


def refuse_problems(problems: Sequence[str], bad_data: BadData) -> None:
    """Stop if there are problems that are not to be skipped.

    Raises:
        ValueError: there are; the message has the first, how many there are, and what to do.
    """
    if problems and bad_data == "refuse":
        more = len(problems) - 1
        rest = f" (and {more:,} more such problem{'s' * (more > 1)})" if more else ""
        raise ValueError(
            printable(f"{_shortened(problems[0])}{rest}; mend the data, or leave such out with --bad-data skip")
        )


def skipped_words(skipped: Sequence[str]) -> str:
    """The end of a line about a split: how many problems were skipped, with the first of them; "" if none."""
    return f"; skipped {len(skipped):,}: {some_of(list(map(_shortened, skipped[:4])), '; ')}" if skipped else ""


def _shortened(sentence: str) -> str:
    """A sentence of at most 700 letters: names in others' files may have any length."""
    return sentence if len(sentence) <= 700 else f"{sentence[:600]} ... {sentence[-80:]}"


def some_of(words: Sequence[str], separator: str = ", ", *, most: int = 3) -> str:
    """The first words of a list, and "..." where there are more."""
    return printable(separator.join(words[:most]) + f"{separator}..." * (len(words) > most))


def did_you_mean(given: str, known: Iterable[str], *, otherwise: str = "", shown: Callable[[str], object] = str) -> str:
    """The end of a message about an unknown name: "; did you mean NAME?" with the nearest of the known ones.

    Args:
        otherwise: what to say where none is near; default nothing.
        shown: what to print of the name.
    """
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {shown(near[0])}?" if near else otherwise and f"; {otherwise}"


def names_beside(path: Path) -> list[str]:
    """What there is in the folder of a path that is not there."""
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
