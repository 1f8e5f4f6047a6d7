"""The initial weights of this app's networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from apps.common import pretrained as common
from apps.common.data.photos import evenly_spaced
from apps.common.images import Normalisation, read_image
from apps.common.pretrained import Pretrained, learn_rounding
from apps.faceattr.data.batches import make_eval_set
from apps.faceattr.model.create import create_network, head_path, parse_width
from apps.faceattr.model.face_finder import FaceFinder, measure_margin
from apps.faceattr.model.tagger import APP, Tagger
from backbone.mobilenet_v1 import MIN_RESOLUTION, Conv
from backbone.weights import unfold_norms

NUM_FRAMED = 64  # training crops to measure the margin around faces on
IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))  # torchvision's


def load_pretrained(backbone: str, weights: str, *, conv: Conv = "separable") -> Pretrained:
    """Find, download where needed, and read what `--weights` names.

    Args:
        backbone: a width of MobileNet V1 as a name, or a classifier of torchvision.
        weights: "none"; "imagenet" (the best published for the width, or torchvision's own); for a width also what
            `apps.common.pretrained.load_pretrained` takes.
        conv: "full" for MobileNet V1's full-convolution twin, which has no published weights.

    Raises:
        ValueError: a wrong name or width, or weights that cannot be had.
    """
    width_mult = parse_width(backbone)
    if width_mult is not None and conv != "full":
        return common.load_pretrained(weights, width_mult=width_mult, app=APP)
    preprocessing = IMAGENET if width_mult is None else Normalisation()
    if weights == "none":
        return Pretrained(summary="random weights", preprocessing=preprocessing)
    if conv == "full" or weights != "imagenet":
        what = f"{backbone} with full convolutions" if conv == "full" else backbone
        raise ValueError(f"--weights {weights} does not exist for {what}; give --weights none")
    import torchvision

    published = torchvision.models.get_model_weights(backbone).DEFAULT
    try:
        state = published.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise ValueError(
            f"cannot download {published.url} ({error}); --weights none starts from random weights"
        ) from None
    return Pretrained(summary=f"torchvision's {published}", preprocessing=preprocessing, state=state)


def start_tagger(
    backbone: str,
    start: Pretrained,
    attributes: Sequence[str],
    photos: Sequence[Path],
    resolution: int,
    device: torch.device,
    *,
    conv: Conv = "separable",
    qat: bool = False,
) -> tuple[Tagger, str]:
    """A tagger whose network is in training mode on `device`, and a sentence about what it starts from.

    Args:
        backbone, conv: see `load_pretrained`.
        photos: face crops of the training set; some are shown to weights whose BatchNorm was folded away.

        qat: see `learn_rounding`.

    Raises:
        ValueError: a wrong name, width or resolution, or weights of another network.
    """
    if resolution < MIN_RESOLUTION:
        raise ValueError(f"resolution must be {MIN_RESOLUTION} pixels or more, got {resolution}")
    width_mult = parse_width(backbone)
    network = create_network(width_mult or backbone, num_attributes=len(attributes), style=start.style, conv=conv)
    if width_mult is None and start.state:
        taken = _take_body(network, start.state)
    else:
        taken = start.put_into(network, list(attributes))
    said = f"{start.summary}: {taken}"
    network = network.to(device).to(memory_format=torch.channels_last)
    if start.folded:
        unfold_norms(network, start.preprocessing(make_eval_set(photos, resolution=resolution).some().to(device)))
    if qat:
        learn_rounding(network, start.class_names)
    framing, framed = measure_framing(photos)
    tagger = Tagger(
        network=network.train(),
        backbone=backbone,
        resolution=resolution,
        attributes=list(attributes),
        style=start.style,
        conv=conv,
        preprocessing=start.preprocessing,
        margin=framing[0],
        drop=framing[1],
    )
    return tagger, f"{said}; {framed}"


def measure_framing(photos: Sequence[Path]) -> tuple[tuple[float, float], str]:
    """Margin and drop of faces in some of the training crops, to cut faces out of photos like them, and a sentence.

    Where no face is found in most of them, or no face finder is installed, faces will be cut out by their box alone.
    """
    if not photos:
        return (0.0, 0.0), "no photos to measure the margin around faces on"
    images = [read_image(photos[i]) for i in evenly_spaced(len(photos), NUM_FRAMED)]
    try:
        framing = measure_margin(images, FaceFinder())
    except ValueError as error:
        return (0.0, 0.0), f"the margin around faces is taken to be 0: {error}"
    if 2 * framing.num_found < framing.num_images:
        found = f"a face is found in {framing.num_found} of {framing.num_images} training crops"
        return (0.0, 0.0), f"the margin around faces is taken to be 0: {found}"
    return (framing.margin, framing.drop), f"faces have a margin of {framing.margin:.2f} in the training crops"


def _take_body(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Give a classifier of torchvision all of its published weights but the head's."""
    head, mine = head_path(network), network.state_dict()
    fitting = {name: value for name, value in state.items() if name in mine and not name.startswith(f"{head}.")}
    network.load_state_dict({**mine, **fitting})
    return "the head is new"
