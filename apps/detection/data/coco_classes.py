"""COCO's 80 classes with their category ids, 1 to 90 with gaps: the classes of the published detectors."""

import difflib
from collections.abc import Sequence

# Pascal VOC's names for classes that have another name in COCO.
SYNONYMS = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}

COCO_CLASSES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip


def match_names(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """For each name its index among the known ones, or None.

    An exact match has priority; otherwise case, spaces, hyphens, underscores and VOC's names are ignored, unless the
    known name is an exact match of another one.
    """
    exact = {name: index for index, name in enumerate(known)}
    free = {_plain(name): index for name, index in exact.items() if name not in set(names)}
    return [exact.get(name, free.get(_plain(name))) for name in names]


def _plain(name: str) -> str:
    plain = "".join(c for c in name.lower() if c not in " _-")
    return SYNONYMS.get(plain, plain)


def find_labels(classes: Sequence[str], known: Sequence[str]) -> frozenset[int]:
    """Labels, from 1, of classes by their names, in any case; none for none.

    Raises:
        ValueError: there is no such class; the message has the names that are most like it.
    """
    labels = []
    for name in [classes] if isinstance(classes, str) else classes:
        (index,) = match_names([name], known)
        if index is None:
            near = difflib.get_close_matches(name.lower(), {k.lower(): k for k in known}, n=3, cutoff=0.5)
            like = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known[:5])}"
            more = f" ({len(known)} in all)" if len(known) > 5 and not near else ""
            raise ValueError(f"--classes {name!r}: the detector has no such class; {like}{more}")
        labels.append(index + 1)
    return frozenset(labels)
