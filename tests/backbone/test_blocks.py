"""BatchNorm of few channels against torch's in 64 bits; blocks under torch's transforms and export."""

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbone.blocks import BatchNorm2d, Conv2d, ConvStyle, DepthwiseSeparable, _Folded


def run(norm: nn.BatchNorm2d, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """One step of training: output, gradients and running statistics."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm.train()(x).mul_(1)  # in place, as the activation after it
    y.backward(gradient.to(y.dtype))
    found = {"y": y.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    return found | {"mean": norm.running_mean, "var": norm.running_var, "batches": norm.num_batches_tracked}


def case(channels: int, height: int, width: int, dtype: torch.dtype) -> tuple[list[nn.BatchNorm2d], Tensor, Tensor]:
    """Our norm and torch's in 64 bits, with equal parameters; a batch, and a gradient."""
    rng = torch.Generator().manual_seed(channels)
    norms = [BatchNorm2d(channels, eps=1e-3), nn.BatchNorm2d(channels, eps=1e-3).double()]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 3, generator=rng.manual_seed(1))
        nn.init.uniform_(norm.bias, -1, 1, generator=rng.manual_seed(2))
    norms[1].load_state_dict(norms[0].state_dict())
    x = torch.randn(4, channels, height, width, generator=rng) * torch.linspace(0.5, 4, channels)[:, None, None] + 1
    gradient = torch.randn(4, channels, height, width, generator=rng)
    last = torch.channels_last
    return norms, x.to(dtype).to(memory_format=last), gradient.to(dtype).to(memory_format=last)


@pytest.mark.parametrize("size", [(20, 20), (15, 22), (1, 2)])
@pytest.mark.parametrize("channels", [8, 12, 24, 40])
def test_few_channels_give_what_torch_gives_in_64_bits(channels: int, size: tuple[int, int]) -> None:
    (ours, exact), x, gradient = case(channels, *size, torch.float32)
    assert type(ours(x).grad_fn).__name__ == "_FoldedBackward"
    ours.reset_running_stats()
    found, wanted = run(ours, x, gradient), run(exact, x.double(), gradient)
    for name, value in wanted.items():
        assert (found[name] - value).abs().max() <= 5e-6 * value.abs().max().clamp(min=1), name
    assert found["y"].is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_as_close_to_64_bits_as_torch_is() -> None:
    (ours, exact), x, gradient = case(24, 30, 30, torch.bfloat16)
    theirs = nn.BatchNorm2d(24, eps=1e-3)
    theirs.load_state_dict(ours.state_dict())
    found, same, wanted = run(ours, x, gradient), run(theirs, x, gradient), run(exact, x.double(), gradient)
    assert found["y"].dtype == found["x"].dtype == torch.bfloat16
    for name in ("y", "x", "weight", "bias", "mean", "var"):
        off, usual = ((one[name].double() - wanted[name]).abs().max() for one in (found, same))
        assert off <= 2 * usual + 1e-6, name  # x: two roundings, torch's has one


def test_the_gradient_is_that_of_the_function() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.double).to(memory_format=torch.channels_last).requires_grad_()
    weight, bias = (torch.randn(3, dtype=torch.double, requires_grad=True) for _ in range(2))
    statistics = torch.zeros(3, dtype=torch.double), torch.ones(3, dtype=torch.double)
    torch.autograd.gradcheck(lambda *of: _Folded.apply(*of, *statistics, 0.1, 1e-3, 8), (x, weight, bias))


def test_elsewhere_it_is_torchs() -> None:
    (ours, _), x, gradient = case(24, 5, 5, torch.float32)
    theirs = nn.BatchNorm2d(24, eps=1e-3)
    theirs.load_state_dict(ours.state_dict())
    for same, batch in [("layout", x.contiguous()), ("odd", x[:1].contiguous(memory_format=torch.channels_last))]:
        assert torch.equal(*(run(norm, batch, gradient[: len(batch)])["y"] for norm in (ours, theirs))), same
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_a_frozen_input_gets_no_gradient() -> None:
    (ours, _), x, _ = case(8, 4, 4, torch.float32)
    ours(x).sum().backward()
    assert ours.weight.grad is not None and x.grad is None


@pytest.mark.parametrize(
    "settings", [{"momentum": None}, {"affine": False}, {"bias": False}, {"track_running_stats": False}], ids=str
)
def test_settings_of_torchs_norm_are_allowed(settings: dict) -> None:
    """`torch.optim.swa_utils.update_bn` sets the momentum to None."""
    x = torch.randn(4, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    ours, theirs = (kind(8, **settings) for kind in (BatchNorm2d, nn.BatchNorm2d))
    for _ in range(2):
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("channels", [1, 16])
def test_an_input_of_other_channels_is_refused_and_changes_nothing(channels: int) -> None:
    norm = BatchNorm2d(8)
    with pytest.raises(RuntimeError, match=f"running_mean should contain {channels} elements not 8"):
        norm(torch.randn(4, channels, 4, 4).contiguous(memory_format=torch.channels_last))
    assert not norm.running_mean.any()


@pytest.mark.parametrize(("kernel", "channels", "groups"), [(1, 6, 6), (3, 6, 3), (3, 12, 6), (3, 6, 6)])
def test_strided_convolutions_in_groups_are_torchs_over_a_border_of_zeros(kernel, channels, groups) -> None:
    conv = Conv2d(6, channels, kernel, stride=2, groups=groups, padding="symmetric").train()
    x = torch.randn(2, 6, 8, 7, requires_grad=True)
    bordered = F.pad(x, (kernel // 2,) * 4)
    expected = F.conv2d(bordered.double(), conv.weight.double(), stride=2, groups=groups)
    torch.testing.assert_close(conv(x), expected.float())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_blocks_in_eval_mode_can_be_transformed_and_exported(padding) -> None:
    """Of torch's own operators: functions with a gradient of our own have no forward mode and no ONNX."""
    style = ConvStyle(padding=padding, activation="relu6", norm="batch", norm_eps=1e-3)
    depthwise, pointwise = style.conv_norm(6, 6, 3, stride=2, groups=6), style.conv_norm(6, 8, 1)
    block = DepthwiseSeparable(depthwise, pointwise, style.make_activation(), residual=False).double().eval()
    x, direction = torch.randn(2, 2, 6, 8, 8, dtype=torch.double)
    y, change = torch.func.jvp(block, (x,), (direction,))
    step = 1e-7 * direction
    torch.testing.assert_close(change, (block(x + step) - block(x - step)) / 2e-7, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.vmap(block)(x[:, None])[:, 0], y)
    torch.testing.assert_close(torch.jit.trace(block, x)(x), y)
    torch.onnx.export(block, (x,), io.BytesIO(), dynamo=False)
