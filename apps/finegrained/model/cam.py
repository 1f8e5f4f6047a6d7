"""Class activation maps: the evidence for a class in each part of a photo.

Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150. MobileNet V1 ends in an
average over the last feature map and one linear layer, so that the map is exact: its mean, plus the bias, is the logit.

Letters in shapes: B batch, C channels, h w of the last feature map, H W of a photo, K classes.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from apps.common.images import stack_images
from apps.finegrained.data.batches import to_square
from apps.finegrained.model.classifier import Classifier


def class_activation_maps(features: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """Maps (B, h, w): what each cell adds to the logit of a photo's class, times the number of cells.

    Args:
        features: (B, C, h, w), what the average is taken over.
        weight: (K, C) of the linear layer.
        classes: (B,) from 0 to K - 1, one for each photo.
    """
    return torch.einsum("bchw,bc->bhw", features, weight[classes])


@torch.inference_mode()
def explain(classifier: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    """Maps (B, h, w) float32, on the CPU, of images (B, 3, H, W) uint8 for their `classes` (B,)."""
    network, head = classifier.network, classifier.network.classifier
    assert isinstance(head, nn.Linear)
    weight = head.weight
    features = network.forward_features(classifier.preprocessing(images.to(weight.device)))
    last = features[network.feature_info[-1].name]
    return class_activation_maps(last.float(), weight.float(), classes.to(weight.device)).cpu()


def overlay(
    image: np.ndarray, activation: Tensor | np.ndarray, *, red: float | None = None, strength: float = 0.5
) -> np.ndarray:
    """An image (H, W, 3) uint8 RGB with a map (h, w) stretched over it, from blue (nothing for the class) to red.

    Evidence against the class is clipped to 0.

    Args:
        red: the value that is shown red; None for the map's own maximum.
        strength: of the colours, 0 (photo alone) to 1 (colours alone).
    """
    positive = np.maximum(np.asarray(activation, dtype=np.float32), 0)
    positive = np.minimum(positive / max(float(positive.max()) if red is None else red, 1e-12), 1)
    height, width = image.shape[:2]
    smooth = cv2.resize(positive, (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((smooth * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    return cv2.addWeighted(image, 1 - strength, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), strength, 0)


def draw_activations(
    classifier: Classifier, image: np.ndarray, classes: Sequence[int], *, side: int = 384
) -> list[np.ndarray]:
    """The part of an image (H, W, 3) uint8 RGB that the network sees, (side, side, 3), overlaid once for each class.

    Red is the same in all of them: the most that any cell adds to any of the classes.
    """
    seen = stack_images([to_square(image, classifier.resolution, classifier.crop)] * len(classes))
    maps = explain(classifier, seen, torch.tensor(classes))
    shown = to_square(image, side, classifier.crop)
    return [overlay(shown, activation, red=float(maps.max())) for activation in maps]
