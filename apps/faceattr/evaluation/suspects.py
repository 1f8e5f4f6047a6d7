"""Labels of attributes that a network disagrees with.

Letters in shapes: N photos, A attributes.
"""

from torch import Tensor

from apps.common.evaluation.suspects import Suspect
from apps.faceattr.data.listing import word_of
from apps.faceattr.data.load import AttributeSplit


def find_suspects(split: AttributeSplit, probs: Tensor) -> list[Suspect]:
    """The known labels whose opposite is likelier, the more likely, the more suspicious; probs (N, A), calibrated."""
    suspects = []
    for path, labels, row in zip(split.paths, split.labels.tolist(), probs.tolist(), strict=True):
        for name, label, prob in zip(split.attributes, labels, row, strict=True):
            opposite = {1: 1 - prob, 0: prob}.get(label, 0.0)  # 0: unknown
            if opposite > 0.5:
                words = word_of(label), word_of(1 - label)
                suspects.append(Suspect("attribute", opposite, split.name, path, name, *words))
    return suspects
