"""What check.py finds: classes that are too small or uneven, copies of photos."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from apps.common.data.findings import Finding, Level
from apps.common.data.photos import PhotoFacts


class Checked(NamedTuple):
    """A photo with its place in the data and what was found in its file."""

    class_name: str
    split: str
    facts: PhotoFacts

    def __str__(self) -> str:
        return f"{self.facts.path} ({self.class_name}, {self.split})"


def copy_findings(copies: Sequence[Sequence[Checked]]) -> list[Finding]:
    """Copies by the harm they do; a group may be in two of the first."""
    sentences = [" = ".join(str(photo) for photo in group) for group in copies]
    labels = [len({photo.class_name for photo in group}) for group in copies]
    splits = [len({photo.split for photo in group}) for group in copies]
    kinds = list(zip(sentences, labels, splits, strict=True))
    return [
        Finding("error", "pictures with two labels", [text for text, label, _ in kinds if label > 1]),
        Finding("error", "pictures in more than one split", [text for text, _, split in kinds if split > 1]),
        Finding("warning", "pictures twice in one class", [t for t, label, split in kinds if label == split == 1]),
    ]


def class_findings(
    counts: Counter[tuple[str, str]], splits: Sequence[str], *, min_photos: int, max_imbalance: float
) -> list[Finding]:
    """Classes without photos or with few, and how uneven train is."""
    classes = sorted({name for name, _ in counts})
    findings = []
    for split in splits:
        level: Level = "error" if split == "train" else "warning"
        missing = [name for name in classes if not counts[name, split]]
        findings.append(Finding(level, f"classes without a photo in {split}", missing))
    if "train" not in splits:
        return findings
    few = [f"{name}: {counts[name, 'train']}" for name in classes if 0 < counts[name, "train"] < min_photos]
    findings.append(Finding("warning", f"classes with fewer than {min_photos} photos in train", few))
    sizes = sorted((counts[name, "train"], name) for name in classes if counts[name, "train"])
    (least, rare), (most, common) = sizes[0], sizes[-1]
    if most > max_imbalance * least:
        case = f"train has {most:,} photos of {common} and {least:,} of {rare}"
        findings.append(Finding("warning", "imbalance", [case]))
    return findings
