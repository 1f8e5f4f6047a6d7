"""Photos whose label a classifier disagrees with."""

import torch
from torch import Tensor

from apps.common.evaluation.suspects import Suspect
from apps.finegrained.data.load import LabelledSplit


def find_suspects(split: LabelledSplit, logits: Tensor) -> list[Suspect]:
    """The photos with a more probable class than their label; the less probable the label, the more suspicious.

    The self-confidence of confident learning (Northcutt et al., arXiv 1911.00068). Its margins, with and without
    thresholds of each class, found fewer of the planted errors of benchmarks/label_suspects.py.

    Args:
        logits: (N, K) of the split's photos, calibrated.
    """
    labels = torch.tensor([photo.label for photo in split.photos])
    probs = logits.softmax(1)
    own, best = probs.gather(1, labels[:, None])[:, 0], probs.argmax(1)
    names = split.class_names
    return [
        Suspect("other class", 1 - prob, split.name, photo.path, "", names[photo.label], names[guess])
        for photo, guess, prob in zip(split.photos, best.tolist(), own.tolist(), strict=True)
        if guess != photo.label
    ]
