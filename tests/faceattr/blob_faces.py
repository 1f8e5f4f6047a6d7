"""Blobs for faces, with a hat, glasses and a smile or without, and a tiny network that mostly sees them."""

import csv
from pathlib import Path

import cv2
import numpy as np
import torch

from apps.common.images import read_image, stack_images
from apps.faceattr.data.batches import to_square
from apps.faceattr.model.tagger import Tagger
from backbone.mobilenet_v1 import create_backbone

ATTRIBUTES = ["Hat", "Eye glasses, dark", "Smïling", "Male"]
SIDE = 48


def draw_face(labels: list[int], rng: np.random.Generator) -> np.ndarray:
    """(48, 48, 3) RGB; "Male" is the shade of the skin here."""
    image = rng.integers(90, 160, (SIDE, SIDE, 3), dtype=np.uint8)
    skin = 150 + 60 * labels[3] + int(rng.integers(-25, 25))
    cv2.circle(image, (24, 26), 18, (skin, skin - 40, skin - 60), -1)
    if labels[0]:
        cv2.rectangle(image, (6, 2), (42, 13), (200, 30, 30), -1)
    if labels[1]:
        cv2.rectangle(image, (10, 19), (38, 25), (10, 10, 10), -1)
    if labels[2]:
        cv2.rectangle(image, (14, 33), (34, 39), (250, 250, 250), -1)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def draw_faces(root: Path, *, each: int, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """`each` pictures a split in root/images, and attributes.csv; every seventh label is unknown."""
    (root / "images").mkdir(parents=True)
    rows = []
    for number, split in enumerate(splits):
        rng = np.random.default_rng(number)
        for i in range(each):
            labels = rng.integers(0, 2, 4).tolist()
            name = f"{split} {i:02d}.png"
            cv2.imwrite(str(root / "images" / name), draw_face(labels, rng)[..., ::-1])
            cells = ["" if rng.integers(7) == 0 else 2 * label - 1 for label in labels]
            rows.append([name, *cells, split, f"{split}{i // 2}"])
    with (root / "attributes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["file", *ATTRIBUTES, "split", "identity"], *rows])
    return root


def save_tagger(folder: Path, *, seed: int = 0, attributes: list[str] = ATTRIBUTES) -> Path:
    """A model folder: random features at 48 pixels, and a linear layer fitted to 48 faces by least squares."""
    rng = np.random.default_rng(100 + seed)
    labels = rng.integers(0, 2, (48, 4))
    images = [to_square(draw_face(row.tolist(), rng), SIDE) for row in labels]
    torch.manual_seed(seed)
    network = create_backbone("a025", num_classes=len(attributes)).eval()
    tagger = Tagger(network=network, backbone="a025", resolution=SIDE, attributes=list(attributes), style=network.style)
    columns = [ATTRIBUTES.index(name) for name in attributes]
    with torch.inference_mode():
        maps = network.forward_features(tagger.preprocessing(stack_images(images)))
        pooled = network.forward_head(maps["c5"], pre_logits=True).double()
        spread = pooled.std(0).clamp(min=1e-9)
        centred = (pooled - pooled.mean(0)) / spread
        wanted = 4 * torch.from_numpy(labels[:, columns]).double() - 2
        ridge = centred.T @ centred + 3 * torch.eye(centred.shape[1])
        weight = torch.linalg.solve(ridge, centred.T @ (wanted - wanted.mean(0))).T / spread
        network.classifier.weight.copy_(weight)
        network.classifier.bias.copy_(wanted.mean(0) - weight @ pooled.mean(0))
    tagger.save(folder, metrics={})
    return folder


def crops_of(root: Path, split: str) -> list[np.ndarray]:
    return [read_image(path) for path in sorted((root / "images").glob(f"{split}*"))]
