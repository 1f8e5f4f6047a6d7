"""A classifier's initial weights, and which part of it is trained when; see `apps.common.pretrained`."""

import torch
from torch import nn

from apps.common.pretrained import Pretrained, learn_rounding
from apps.finegrained.choices import FreezeBn
from apps.finegrained.data.batches import make_eval_set
from apps.finegrained.data.load import LabelledSplit
from apps.finegrained.model.create import create_classifier
from backbone.mobilenet_v1 import MobileNetV1
from backbone.weights import unfold_norms


def start_network(
    start: Pretrained,
    split: LabelledSplit,
    width_mult: float,
    resolution: int,
    device: torch.device,
    *,
    qat: bool = False,
) -> MobileNetV1:
    """A network on `device` for the classes of a split, with the weights that it starts from.

    Args:
        qat: see `learn_rounding`.
    """
    network = create_classifier(width_mult, num_classes=len(split.class_names), style=start.style)
    print(start.put_into(network, split.class_names))
    network = network.to(device).to(memory_format=torch.channels_last)
    if start.folded:
        images = make_eval_set(split.photos, resolution=resolution, crop=1.0).some()
        unfold_norms(network, start.preprocessing(images.to(device)))
    if qat:
        learn_rounding(network, start.class_names)
    return network


def set_phase(network: MobileNetV1, *, head_only: bool, freeze_bn: FreezeBn) -> None:
    """Choose what learns: the classifier or everything. A frozen BatchNorm is in eval mode, so its statistics rest."""
    network.train(not head_only)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not head_only or name.startswith("classifier."))
    if freeze_bn != "none":
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
                if freeze_bn == "all":
                    module.requires_grad_(False)
