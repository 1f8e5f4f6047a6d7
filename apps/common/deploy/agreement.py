"""Differences between a runtime's outputs and torch's, and their limits."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from apps.common.deploy.formats import TOLERANCE
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import Session


def difference(reference: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> float:
    """The largest difference of outputs of the same names, relative to max(1, largest output); infinite for NaN."""
    worst = 0.0
    for name, expected in reference.items():
        if given[name].shape != expected.shape:
            return float("inf")
        scale = max(1.0, expected.abs().max().item())
        worst = max(worst, torch.nan_to_num((given[name] - expected).abs(), nan=torch.inf).max().item() / scale)
    return worst


BF16_EPS = 2**-8  # one unit in the last place of bfloat16
BF16_FACTOR = 2
"""How much farther from float32 than torch's own bfloat16 a session's may be (root mean square, noise). For 14 networks
OpenVINO's was 0.8 to 1.0 times as far; with red and blue exchanged torch would be 2.4 to 32 times as far."""


def check_session(session: Session, graph: Graph, *, resolution: int, bf16: bool = False) -> None:
    """Raise ValueError if a session's outputs differ from torch's.

    Args:
        bf16: the session computes in bfloat16. Its error depends on the network (0.2 to 8 % of the outputs of 14
            networks), so the limit is a multiple of torch's own error in bfloat16, see `BF16_FACTOR`.
    """
    image = random_image(resolution)
    reference = graph.reference(image)
    given = {name: value.cpu() for name, value in session(image).items()}
    if bf16:
        with torch.autocast("cpu", torch.bfloat16):
            rounded = {name: value.float() for name, value in graph.reference(image).items()}
        far, allowed = rms_difference(reference, given), BF16_FACTOR * max(BF16_EPS, rms_difference(reference, rounded))
    else:
        far, allowed = difference(reference, given), TOLERANCE
    if not far <= allowed:
        raise ValueError(f"{session.name} computes something else than torch, by {far:.2g}, allowed is {allowed:.2g}")


def random_image(side: int) -> Tensor:
    """New random pixels in each call, (1, 3, side, side) uint8, channels last: no file can anticipate them."""
    pixels = np.random.default_rng().integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def rms_difference(reference: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> float:
    """Root mean square of the difference relative to that of the output, for the worst output; infinite for NaN."""
    worst = 0.0
    for name, expected in reference.items():
        if given[name].shape != expected.shape:
            return float("inf")
        far = (given[name] - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp(min=1e-6)
        worst = max(worst, torch.nan_to_num(far, nan=torch.inf).item())
    return worst
