"""Photos of three invented fruits, told by their colour, and a tiny classifier that mostly tells them."""

from pathlib import Path

import cv2
import numpy as np
import torch

from apps.common.images import read_image, stack_images
from apps.finegrained.data.batches import to_square
from apps.finegrained.model.classifier import Classifier
from backbone.mobilenet_v1 import create_backbone

COLOURS = {"aki": (200, 60, 50), "bol, sour": (60, 170, 60), "céru": (60, 70, 190)}  # RGB


def draw_fruit(root: Path, split: str, *, each: int) -> Path:
    """`each` photos of 60x48 pixels of each fruit, in a folder of its own; some look much like the next fruit."""
    rng = np.random.default_rng(len(split))
    for name, colour in COLOURS.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(each):
            image = rng.integers(90, 160, (48, 60, 3), dtype=np.uint8)
            shade = np.array(colour) + rng.integers(-60, 60, 3)
            cv2.circle(image, (30, 24), 16, [int(v) for v in shade], -1)
            cv2.imencode(".png", image[..., ::-1])[1].tofile(folder / f"{i}.png")
    return root


def save_classifier(folder: Path, photos: Path) -> Path:
    """A model folder: random features at 64 pixels, and a linear layer fitted to the photos by least squares."""
    torch.manual_seed(0)
    network = create_backbone("a025", num_classes=3).eval()
    model = Classifier(network=network, backbone="a025", resolution=64, class_names=list(COLOURS))
    images, labels = [], []
    for label, name in enumerate(COLOURS):
        for path in sorted((photos / name).iterdir()):
            images.append(to_square(read_image(path), 64, model.crop))
            labels.append(label)
    with torch.inference_mode():
        maps = network.forward_features(model.preprocessing(stack_images(images)))
        pooled = network.forward_head(maps["c5"], pre_logits=True).double()
        centred = (pooled - pooled.mean(0)) / pooled.std(0).clamp(min=1e-9)
        wanted = 6 * torch.nn.functional.one_hot(torch.tensor(labels), 3).double()
        ridge = centred.T @ centred + 3 * torch.eye(centred.shape[1])
        weight = torch.linalg.solve(ridge, centred.T @ (wanted - wanted.mean(0))).T / pooled.std(0).clamp(min=1e-9)
        network.classifier.weight.copy_(weight)
        network.classifier.bias.copy_(wanted.mean(0) - weight @ pooled.mean(0))
    model.save(folder, metrics={})
    return folder
