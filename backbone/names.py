"""Backbone names: `a075` is MobileNet V1 at width multiplier 0.75."""

import difflib
import re

PAPER_NAMES = ("a025", "a050", "a075", "a100")
_ALLOWED = "a025, a050, a075 and a100 are the paper's; any aNNN from a010 to a200 (NNN = percent) builds"


def parse_backbone(name: str) -> float:
    """Decode a backbone name into its width multiplier (alpha in the paper, section 3.3).

    Args:
        name: `aNNN`, the width in percent with three digits, from `a010` (0.10) to `a200` (2.00).

    Raises:
        ValueError: the name is not of that form; the message suggests the nearest name that is.
    """
    if re.fullmatch("a[0-9]{3}", name) and 10 <= int(name[1:]) <= 200:
        return int(name[1:]) / 100
    guess = _nearest(name)
    hint = f" did you mean {guess}?" if guess else ""
    raise ValueError(f"unknown backbone {name!r}:{hint} Allowed: {_ALLOWED}")


def backbone_name(width_mult: float) -> str:
    """The name of a width multiplier: 0.75 -> `a075`; the inverse of `parse_backbone`."""
    name = f"a{round(width_mult * 100):03d}"
    parse_backbone(name)
    return name


def _nearest(name: str) -> str | None:
    """The valid name that `a75`, `0.75`, `A075` or `mobilenet_0.75` most likely stands for; None if there is none."""
    found = re.search(r"[0-9]+\.[0-9]+", name) or re.fullmatch(r"[aA]?_?([0-9]+)%?", name)
    if found:
        text = found.group(found.lastindex or 0)
        percent = round(float(text) * 100) if "." in text or text in ("1", "2") else int(text)
        if 10 <= percent <= 200:
            return f"a{percent:03d}"
    close = difflib.get_close_matches(name.lower(), PAPER_NAMES, n=1)
    return close[0] if close else None
