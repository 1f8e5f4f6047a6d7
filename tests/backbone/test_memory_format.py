"""Channels last goes through the network, forward and backward, without a copy into another layout."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from backbone import create_backbone
from tests.backbone.test_mobilenet_v1 import VARIANTS, images


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def is_channels_last(x):
    return x.ndim != 4 or x.is_contiguous(memory_format=torch.channels_last)


def conversions(net, x):
    """How often a tensor is copied into another layout while `net` runs on `x`; padding's own copy is none."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        net(x)
    return sum(event.name in ("aten::contiguous", "aten::clone", "aten::to_mkldnn") for event in profiler.events())


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_channels_last_goes_through_without_a_copy(options):
    net = create_backbone("a025", num_classes=5, **options).eval().to(memory_format=torch.channels_last)
    x = images(2, 64, 48).to(memory_format=torch.channels_last)
    assert conversions(net, x) == 0

    seen, other = [], []
    for name, module in net.named_modules():
        if not list(module.children()):
            seen.append(name)

            def look(_, inputs, output, name=name):
                if not all(map(is_channels_last, (*inputs, output))):
                    other.append(name)

            module.register_forward_hook(look)
    with torch.no_grad():
        maps = net.forward_features(x)
        net(x)
    assert len(seen) > 40 and other == []
    assert all(map(is_channels_last, maps.values()))


def test_the_count_of_copies_sees_a_copy():
    """The other way round, input and kernels in different formats, the first convolution converts."""
    net = create_backbone("a025", num_classes=5).eval().to(memory_format=torch.channels_last)
    assert conversions(net, images(1, 64, 48)) > 0


@pytest.mark.parametrize("options", [{}, {"norm": "group"}, {"conv": "full"}, {"padding": "symmetric"}], ids=str)
def test_channels_last_gradients(options):
    """They keep the format too, but for the last activation and norm: there it is that of the mean, until the norm."""
    net = create_backbone("a025", num_classes=5, **options).to(memory_format=torch.channels_last)
    x = images(2, 64, 48).to(memory_format=torch.channels_last).requires_grad_()
    other = set()
    for name, module in net.named_modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            module.inplace = False  # torch forbids backward hooks on what is then changed in place
        if not list(module.children()):

            def look(_, inputs, outputs, name=name):
                if not all(is_channels_last(grad) for grad in (*inputs, *outputs) if grad is not None):
                    other.add(name)

            module.register_full_backward_hook(look)
    net(x).square().sum().backward()
    assert {name.rpartition(".")[2] for name in other} <= {"activation", "norm"}
    assert all(name.startswith("blocks.conv13.") for name in other)
    assert is_channels_last(x.grad)
    assert all(is_channels_last(param.grad) for param in net.parameters())
