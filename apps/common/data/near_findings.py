"""check.py's findings about near-duplicates."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from apps.common.data.findings import Finding
from apps.common.data.near import find_near
from apps.common.data.photos import PhotoFacts
from apps.common.images import read_image
from apps.common.pictures import put_label, write_contact_sheet

SHOWN, SHEET_HEIGHT = 6, 160  # photos of a group in the picture; pixels


def near_findings(
    photos: Sequence[object], splits: Sequence[str], facts: Sequence[PhotoFacts], sheet: Path
) -> list[Finding]:
    """Findings about near-duplicates, and a picture of them if there are any, those in several splits first.

    Exact duplicates are other findings.

    Args:
        photos: N names to print.
        splits: of each photo.
        facts: about each photo.
        sheet: the picture's file.
    """
    groups = [group for group in find_near([f.path for f in facts]) if len({facts[i].pixel_hash for i in group}) > 1]
    groups.sort(key=lambda group: len({splits[i] for i in group}) == 1)
    texts = [(" ~ ".join(str(photos[i]) for i in group), len({splits[i] for i in group}) > 1) for group in groups]
    sheet.unlink(missing_ok=True)
    if groups:
        write_contact_sheet(sheet, (_strip(group, splits, facts) for group in groups))
    return [
        Finding("error", "near-duplicates in more than one split", [text for text, far in texts if far]),
        Finding("note", "near-duplicates in one split", [text for text, far in texts if not far]),
    ]


def _strip(group: Sequence[int], splits: Sequence[str], facts: Sequence[PhotoFacts]) -> np.ndarray:
    """Photos of a group side by side, with their splits."""

    def pictures() -> Iterator[np.ndarray]:
        for i in group[:SHOWN]:
            image = read_image(facts[i].path)
            size = max(8, round(image.shape[1] * SHEET_HEIGHT / image.shape[0])), SHEET_HEIGHT
            picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            put_label(picture, splits[i], 0, 0)
            yield picture

    return np.hstack(list(pictures()))
