"""Which files are copies of one photo."""

from collections.abc import Sequence
from pathlib import Path

from apps.common.data.photos import PhotoFacts


def find_duplicates(facts: Sequence[PhotoFacts]) -> list[list[Path]]:
    """Groups of two or more files that show the same picture to the pixel, in the order of `facts`.

    A copy is found under any name, and where it was saved again without loss (as PNG, say); a picture compressed
    anew or resized is another one. Files with a problem belong to no group.
    """
    groups: dict[str, list[Path]] = {}
    for fact in facts:
        if fact.pixel_hash:
            groups.setdefault(fact.pixel_hash, []).append(fact.path)
    return [group for group in groups.values() if len(group) > 1]
