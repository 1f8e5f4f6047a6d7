"""The network of this app: a MobileNet V1 with a classifier.

network = create_classifier("a075", num_classes=20, style=TENSORFLOW_STYLE)
"""

import dataclasses

from backbone import create_backbone
from backbone.mobilenet_v1 import ConvStyle, MobileNetV1


def create_classifier(backbone: str | float, *, num_classes: int, style: ConvStyle) -> MobileNetV1:
    """A MobileNet V1 with random weights and the paper's head: average pool and one linear layer (Table 1).

    Raises:
        ValueError: an unknown backbone, or fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"a classifier needs 2 classes or more, got {num_classes}")
    return create_backbone(backbone, num_classes=num_classes, **dataclasses.asdict(style))
