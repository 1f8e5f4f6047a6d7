"""Rounding in training: the numbers of 8 bits, norms that need no folding, gradients that pass straight through."""

import copy

import pytest
import torch
from torch import nn

from apps.common.deploy.graph import fold_norms
from backbone import create_backbone
from backbone.blocks import ConvNorm
from backbone.eight_bits import learn_eight_bits, round_activation, round_weight


def network(**options) -> nn.Module:
    torch.manual_seed(0)
    made = create_backbone("a025", num_classes=5, **options)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)  # some below 0
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
    return made.eval()


def levels(x: torch.Tensor, scale: torch.Tensor | float, zero: int, least: int, most: int) -> torch.Tensor:
    """Equation (1) of Jacob et al., real = scale * (integer - zero), in float64."""
    integers = (x.double() / scale + zero).round().clamp(least, most)
    return ((integers - zero) * scale).float()


def per_channel(weight: torch.Tensor) -> torch.Tensor:
    scale = weight.double().abs().flatten(1).amax(1) / 127
    return levels(weight, scale.view(-1, *[1] * (weight.ndim - 1)), 0, -127, 127)


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (6, 1, 3, 3), (5, 7)])
def test_weights_have_255_levels_in_each_channel(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(round_weight(weight), per_channel(weight), rtol=1e-6, atol=1e-7)
    weight[0] = 0
    assert torch.equal(round_weight(weight)[0], weight[0])


def test_activations_have_256_levels():
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)) + 1
    low, high = x.min().item(), x.max().item()
    scale = (high - low) / 255
    of_batch = levels(x, scale, round(-low / scale), 0, 255)
    torch.testing.assert_close(round_activation(x), of_batch, rtol=0, atol=1e-6)
    torch.testing.assert_close(round_activation(x, 0.0, 6.0), levels(x, 6 / 255, 0, 0, 255), rtol=0, atol=1e-6)
    assert torch.equal(round_activation(torch.zeros(3)), torch.zeros(3))
    torch.testing.assert_close(round_activation(torch.tensor([3.0, 4.0])), torch.tensor([191 * 4 / 255, 4.0]))  # from 0


def test_folding_a_norm_first_gives_the_same_integers():
    """Also where a norm turns the sign of a channel: the integers are as many below 0 as above."""
    plain = network()
    learning = copy.deepcopy(plain)
    with torch.no_grad():
        for module in learning.modules():
            if isinstance(module, ConvNorm):
                module.conv.weight.copy_(round_weight(module.conv.weight))
    for folded, rounded in zip(fold_norms(plain).parameters(), fold_norms(learning).parameters(), strict=True):
        if folded.ndim == 4:
            torch.testing.assert_close(per_channel(folded), rounded, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu6", "relu"])
def test_a_network_computes_with_rounded_numbers(activation):
    """As a plain network does whose weights are rounded, and its activations by hand."""
    plain, images = network(activation=activation), torch.randn(2, 3, 64, 64)
    learning, by_hand = copy.deepcopy(plain), copy.deepcopy(plain)
    learn_eight_bits(learning)
    assert list(learning.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        for module in by_hand.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(per_channel(module.weight))
            if isinstance(module, nn.ReLU6 | nn.ReLU):
                module.register_forward_hook(
                    lambda module, _, y: (
                        (y * (255 / (6 if activation == "relu6" else y.max()))).round()
                        / (255 / (6 if activation == "relu6" else y.max()))
                    )
                )
        by_hand.classifier.register_forward_pre_hook(
            lambda _, x: (x[0] * (255 / x[0].max())).round() * (x[0].max() / 255)
        )
        expected, found = by_hand(images), learning(images)
        assert (found - plain(images)).abs().max() > 0.01
        torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
        assert torch.equal(copy.deepcopy(learning)(images), found)  # what the moving average is


def test_gradients_pass_straight_through():
    """Those of a plain layer that has the rounded weights, at the rounded input."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    learning, x = copy.deepcopy(layer), torch.randn(3, 6)
    learn_eight_bits(learning)
    with torch.no_grad():
        layer.weight.copy_(per_channel(layer.weight))
    ours, theirs = x.clone().requires_grad_(), round_activation(x).requires_grad_()
    learning(ours).square().sum().backward()
    layer(theirs).square().sum().backward()
    torch.testing.assert_close(learning.weight.grad, layer.weight.grad)
    torch.testing.assert_close(ours.grad, theirs.grad)
    deep = network().train().to(memory_format=torch.channels_last)
    learn_eight_bits(deep)
    deep(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in deep.parameters())
    assert all(p.grad.stride() == p.stride() for p in deep.parameters())  # as DDP wants them
