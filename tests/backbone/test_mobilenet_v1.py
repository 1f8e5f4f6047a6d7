"""The network: sizes, padding, options, names, gradients, memory format."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from backbone import FeatureInfo, create_backbone
from backbone.blocks import Conv2d, ConvNorm, ReLU6
from backbone.mobilenet_v1 import NOT_IN_SHALLOW, TABLE_1, scaled_channels

VARIANTS = (
    {},
    {"norm": "group"},
    {"norm": "layer"},
    {"conv": "full"},
    {"shallow": True},
    {"residual": True},
    {"activation": "relu"},
    {"padding": "symmetric"},
    {"min_channels": 16},
    {"conv": "full", "residual": True, "norm": "group"},
    {"shallow": True, "residual": True, "norm": "layer"},
)
SIZES = ((32, 32), (33, 47), (64, 224), (161, 97), (96, 95))  # even, odd and not square


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def images(batch, height, width):
    return torch.rand(batch, 3, height, width) * 2 - 1


# Shapes and sizes


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ["a010", "a033", "a075"])
def test_feature_info_tells_the_maps(name, options):
    net = create_backbone(name, num_classes=5, **options).eval()
    x = images(2, 70, 45)
    with torch.no_grad():
        maps = net.forward_features(x)
        logits = net(x)
    assert list(maps) == [info.name for info in net.feature_info] == ["c3", "c4", "c5"]
    for info in net.feature_info:
        assert maps[info.name].shape == (2, info.channels, math.ceil(70 / info.stride), math.ceil(45 / info.stride))
    assert net.feature_info[-1].channels == net.num_features
    assert logits.shape == (2, 5)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_sizes(size, padding):
    net = create_backbone("a025", num_classes=3, padding=padding).eval()
    with torch.no_grad():
        maps = net.forward_features(images(1, *size))
    for stride, y in zip((8, 16, 32), maps.values(), strict=True):
        assert tuple(y.shape[2:]) == tuple(math.ceil(side / stride) for side in size)


@pytest.mark.parametrize("name", ["a100", "a200"])
def test_feature_info_of_wide_nets(name):
    with torch.device("meta"):
        net = create_backbone(name)
        maps = net.forward_features(torch.empty(1, 3, 224, 224))
    times = int(name[1:]) // 100
    assert net.feature_info == tuple(
        FeatureInfo(key, times * channels, stride)
        for key, channels, stride in (("c3", 256, 8), ("c4", 512, 16), ("c5", 1024, 32))
    )
    assert [y.shape[1] for y in maps.values()] == [info.channels for info in net.feature_info]


def test_maps_are_the_outputs_of_conv5_conv11_and_conv13():
    net = create_backbone("a010").eval()
    outputs = {}
    for name, block in net.blocks.items():
        block.register_forward_hook(lambda _, __, y, name=name: outputs.update({name: y}))
    with torch.no_grad():
        maps = net.forward_features(images(1, 64, 64))
    for key, name in (("c3", "conv5"), ("c4", "conv11"), ("c5", "conv13")):
        assert torch.equal(maps[key], outputs[name])
    assert create_backbone("a010", shallow=True).map_after == {"conv5": "c3", "conv6": "c4", "conv13": "c5"}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 31, 224), "input must be at least 32 pixels high and wide, got 31x224"),
        ((1, 3, 224, 31), "input must be at least 32 pixels high and wide, got 224x31"),
        ((3, 64, 64), r"input must be \(B, 3, H, W\), got shape \(3, 64, 64\)"),
        ((1, 1, 64, 64), r"input must be \(B, 3, H, W\), got shape \(1, 1, 64, 64\)"),
    ],
)
def test_wrong_input(shape, message):
    net = create_backbone("a010")
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(shape))
    with pytest.raises(ValueError, match=message):
        net.forward_features(torch.zeros(shape))


def test_empty_batch():
    assert create_backbone("a010", num_classes=4).eval()(images(0, 32, 32)).shape == (0, 4)


# Table 1 and the options


def convolutions(net):
    return {
        name.removeprefix("blocks."): (module.conv.in_channels, module.conv.out_channels, module.conv.stride[0])
        for name, module in net.named_modules()
        if isinstance(module, ConvNorm)
    }


def test_table_1():
    """Channels and strides as the paper's table has them, layer by layer."""
    expected = {"stem": (3, 32, 2)}
    for (_, before, _), (name, channels, stride) in pairwise(TABLE_1):
        expected[f"{name}.depthwise"] = (before, before, stride)
        expected[f"{name}.pointwise"] = (before, channels, 1)
    layers = convolutions(create_backbone("a100", num_classes=0))
    assert layers == expected
    assert len(layers) + 1 == 28  # with the classifier; "28 layers counting depthwise and pointwise apart"
    assert sum(channels == 512 and stride == 1 for _, channels, stride in TABLE_1) == 5


def test_full_and_shallow():
    full = convolutions(create_backbone("a025", conv="full"))
    assert full["conv2.full"] == (16, 32, 2) and len(full) == 14
    shallow = create_backbone("a025", shallow=True)
    assert set(create_backbone("a025").blocks) - set(shallow.blocks) == set(NOT_IN_SHALLOW)
    assert convolutions(shallow)["conv12.depthwise"] == (128, 128, 2)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("a010", [8, 8, 12, 51, 102]), ("a025", [8, 16, 32, 128, 256]), ("a033", [10, 21, 42, 168, 337])],
)
def test_widths_round_down_and_stop_at_8(name, channels):
    layers = convolutions(create_backbone(name, num_classes=0))
    names = ("stem", "conv1.pointwise", "conv2.pointwise", "conv6.pointwise", "conv13.pointwise")
    assert [layers[layer][1] for layer in names] == channels


def test_min_channels():
    assert scaled_channels(32, 0.25, minimum=8) == 8
    assert scaled_channels(32, 0.25, minimum=16) == 16
    assert convolutions(create_backbone("a025", min_channels=16))["conv1.depthwise"] == (16, 16, 1)


@pytest.mark.parametrize("option", ["padding", "activation", "norm", "conv"])
def test_unknown_option(option):
    with pytest.raises(ValueError, match=f"^{option} must be one of [a-z0-9, ]+, got 'other'$"):
        create_backbone("a100", **{option: "other"})


def test_activation():
    x = torch.tensor([-1.0, 3.0, 9.0])
    assert create_backbone("a010").activation(x.clone()).tolist() == [0, 3, 6]
    assert create_backbone("a010", activation="relu").activation(x.clone()).tolist() == [0, 3, 9]


def test_residual_adds_the_input_before_the_activation():
    net = create_backbone("a010", residual=True).eval()
    block = net.blocks["conv9"]
    x = torch.rand(1, block.depthwise.conv.in_channels, 8, 8)
    with torch.no_grad():
        y = block.pointwise(F.relu6(block.depthwise(x)))
        assert torch.equal(block(x), F.relu6(y + x))
        block.residual = False
        assert torch.equal(block(x), F.relu6(y))


def test_residual_blocks_are_those_that_keep_the_shape():
    kept = ["conv3", "conv5", "conv7", "conv8", "conv9", "conv10", "conv11", "conv13"]
    for conv in ("separable", "full"):
        blocks = create_backbone("a025", residual=True, conv=conv).blocks
        assert [name for name, block in blocks.items() if block.residual] == kept
    assert not any(block.residual for block in create_backbone("a025").blocks.values())


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_group_and_layer_norm_do_not_depend_on_the_batch(norm):
    net = create_backbone("a025", norm=norm, num_classes=3)
    assert not list(net.buffers())
    x = images(3, 64, 64)
    with torch.no_grad():
        together, alone = net.train()(x), net.eval()(x[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_groups_have_16_channels_and_layer_norm_has_one():
    def groups(norm):
        norms = [m for m in create_backbone("a075", norm=norm).modules() if isinstance(m, nn.GroupNorm)]
        return {m.num_channels: m.num_groups for m in norms}

    assert groups("group") == {24: 3, 48: 3, 96: 6, 192: 12, 384: 24, 768: 48}  # 24 = 3 x 8: no multiple of 16
    assert set(groups("layer").values()) == {1}


def test_norm_eps():
    for norm in ("batch", "group", "layer"):
        net = create_backbone("a010", norm=norm, norm_eps=1e-5)
        assert {m.eps for m in net.modules() if hasattr(m, "eps")} == {1e-5}
    assert {m.eps for m in create_backbone("a010").modules() if hasattr(m, "eps")} == {1e-3}


# Classifier


def test_reset_classifier():
    net = create_backbone("a010").eval()
    pooled = net.forward_head(net.forward_features(images(2, 32, 32))["c5"], pre_logits=True)
    assert pooled.shape == (2, net.num_features) == (2, 102)

    net.reset_classifier(7)
    assert net.num_classes == 7 and net(images(2, 32, 32)).shape == (2, 7)
    assert net.forward_head(torch.zeros(2, 102, 3, 4)).shape == (2, 7)

    with pytest.raises(ValueError, match=r"num_classes must be 0 \(no classifier\) or more, got -1"):
        net.reset_classifier(-1)
    assert net.num_classes == 7 and net(images(2, 32, 32)).shape == (2, 7)  # as it was

    net.reset_classifier(0)
    x = images(2, 32, 32)
    c5 = net.forward_features(x)["c5"]
    assert net.num_classes == 0 and not list(net.classifier.parameters())
    assert torch.equal(net(x), net.forward_head(c5, pre_logits=True))


def test_pre_logits_are_the_average_of_the_map_and_enter_the_classifier():
    net = create_backbone("a010", num_classes=4).eval()
    x = images(2, 70, 45)
    with torch.no_grad():
        c5 = net.forward_features(x)["c5"]
        pooled = net.forward_head(c5, pre_logits=True)
        assert torch.allclose(pooled, F.adaptive_avg_pool2d(c5, 1).flatten(1), atol=1e-6)
        assert torch.equal(net.forward_head(c5), net.classifier(pooled))
        assert torch.equal(net(x), net.forward_head(c5))


# Padding


def padded_as_tensorflow(x, kernel, stride):
    """SAME by its definition: ceil(side / stride) outputs, the odd zero at the bottom and right."""
    height, width = x.shape[2:]
    sums = [max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in (height, width)]
    y = torch.zeros(*x.shape[:2], height + sums[0], width + sums[1])
    y[:, :, sums[0] // 2 : sums[0] // 2 + height, sums[1] // 2 : sums[1] // 2 + width] = x
    return y


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (8, 7), (7, 10), (32, 161), (1, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 2, 1), (3, 2, 4), (3, 1, 1), (3, 1, 4), (1, 1, 1)])
def test_same_padding_is_tensorflows(size, kernel, stride, groups):
    conv = Conv2d(4, 4, kernel, stride=stride, groups=groups, padding="same")
    x = torch.randn(2, 4, *size)
    expected = F.conv2d(padded_as_tensorflow(x, kernel, stride), conv.weight, stride=stride, groups=groups)
    assert expected.shape[2:] == (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    assert torch.allclose(conv(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "equal"), [((8, 8), False), ((7, 7), True), ((8, 7), False), ((7, 8), False), ((9, 5), True)]
)
def test_paddings_differ_where_a_stride_meets_an_even_side(size, equal):
    same = Conv2d(4, 4, 3, stride=2, padding="same")
    symmetric = Conv2d(4, 4, 3, stride=2, padding="symmetric")
    symmetric.load_state_dict(same.state_dict())
    x = torch.randn(1, 4, *size)
    assert symmetric(x).shape == same(x).shape
    assert torch.allclose(symmetric(x), same(x), atol=1e-6) is equal
    assert torch.equal(symmetric(x), F.conv2d(x, same.weight, stride=2, padding=1))


@pytest.mark.parametrize(("side", "equal"), [(64, False), (33, True), (65, True), (34, False)])
def test_paddings_in_the_whole_net(side, equal):
    """65 -> 33 -> 17 -> 9 -> 5 -> 3 pixels: all sides that a stride meets are odd, so the paddings agree."""
    same, symmetric = (create_backbone("a025", num_classes=0, padding=kind).eval() for kind in ("same", "symmetric"))
    symmetric.load_state_dict(same.state_dict())
    x = images(1, side, side)
    with torch.no_grad():
        assert torch.allclose(same(x), symmetric(x), atol=1e-5) is equal


def test_over_a_single_pixel_only_the_middle_of_a_kernel_counts():
    for kernel, stride, groups in ((3, 2, 1), (3, 1, 4), (1, 1, 1)):
        conv = Conv2d(4, 4, kernel, stride=stride, groups=groups, padding="same")
        x = torch.randn(3, 4, 1, 1)
        expected = F.conv2d(x, conv.weight, stride=stride, padding=kernel // 2, groups=groups)
        torch.testing.assert_close(conv(x), expected)


# Gradients


def test_gradients_in_bfloat16_are_finite_over_a_single_pixel():
    """oneDNN's own kernel for this reads memory that nobody wrote: here that memory is full of NaN."""
    conv = Conv2d(16, 32, 3, stride=2, padding="same").to(torch.bfloat16).to(memory_format=torch.channels_last)
    for _ in range(10):
        y = conv(torch.randn(4, 16, 1, 1, dtype=torch.bfloat16).to(memory_format=torch.channels_last))
        conv.weight.grad = None
        spoilt = [torch.full((size,), math.nan) for size in (1000, 5000, 20000, 100000) for _ in range(6)]
        del spoilt
        y.sum().backward()
        assert conv.weight.grad.isfinite().all()


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [(9, 9), (10, 10), (9, 10), (10, 9), (1, 2), (2, 2)])
def test_strided_depthwise_has_the_gradient_of_padding_and_convolving(size, padding):
    """Against a border of zeros that is written out: TensorFlow's is (side + 1) % 2 pixels shorter at the start."""
    conv = Conv2d(8, 8, 3, stride=2, groups=8, padding=padding).double()
    x = torch.randn(2, 8, *size, dtype=torch.double).to(memory_format=torch.channels_last).requires_grad_()
    top, left = (1 if padding == "symmetric" else side % 2 for side in size)
    plain = F.conv2d(F.pad(x, (left, 1, top, 1)), conv.weight, stride=2, groups=8)
    y = conv(x)
    torch.testing.assert_close(y, plain)
    gradient = torch.randn_like(y)
    wanted = torch.autograd.grad(plain, (x, conv.weight), gradient)
    torch.testing.assert_close(torch.autograd.grad(y, (x, conv.weight), gradient), wanted)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), plain)


@pytest.mark.parametrize("side", [9, 10])
def test_strided_depthwise_in_bfloat16_has_the_gradient_of_float32(side):
    conv = Conv2d(8, 8, 3, stride=2, groups=8, padding="same")
    x = torch.randn(2, 8, side, side).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    x32 = x.detach().float().requires_grad_()
    exact = conv(x32)
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.02)
    gradient = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, conv.weight), gradient)
    wanted = torch.autograd.grad(exact, (x32, conv.weight), gradient.float())
    torch.testing.assert_close(found, (wanted[0].bfloat16(), wanted[1]), rtol=0, atol=1e-5)


def test_relu6_in_place_has_torchs_gradient():
    x = torch.tensor([-1.0, 0.0, 0.5, 6.0, 7.0, math.nan], requires_grad=True)
    weights = torch.arange(1.0, 7.0)
    given = x * 1
    result = ReLU6(inplace=True)(given)
    assert result.data_ptr() == given.data_ptr()
    torch.testing.assert_close(result, F.relu6(x), equal_nan=True)
    (gradient,) = torch.autograd.grad(result, x, weights)
    (expected,) = torch.autograd.grad(F.relu6(x), x, weights)
    torch.testing.assert_close(gradient, expected)


def test_relu6_in_place_keeps_no_copy_for_the_gradient():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        given = torch.randn(4, requires_grad=True) * 1  # keeps what it multiplies
        kept.clear()
        ReLU6(inplace=True)(given)
    assert kept == [given.data_ptr()]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ["a010", "a050"])
def test_every_parameter_gets_a_gradient(name, options):
    net = create_backbone(name, num_classes=5, **options)
    F.cross_entropy(net(images(4, 64, 64)), torch.tensor([0, 1, 2, 3])).backward()
    without = [key for key, param in net.named_parameters() if param.grad is None or not param.grad.any()]
    assert without == []
    assert all(param.grad.isfinite().all() for param in net.parameters())


# Names of the weights


def test_state_dict_keys_are_stable():
    """Checkpoints hold these names. A change of theirs is a change of every file that people have."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    layers = ["stem"]
    for number in range(1, 14):
        layers += [f"blocks.conv{number}.depthwise", f"blocks.conv{number}.pointwise"]
    keys = [f"{layer}.{key}" for layer in layers for key in ("conv.weight", *(f"norm.{name}" for name in norm))]
    assert list(create_backbone("a025").state_dict()) == [*keys, "classifier.weight", "classifier.bias"]


def test_state_dict_keys_of_the_variants():
    keys = list(create_backbone("a025", conv="full", norm="layer", shallow=True, num_classes=0).state_dict())
    layers = ["stem", *(f"blocks.conv{number}.full" for number in (1, 2, 3, 4, 5, 6, 12, 13))]
    assert keys == [f"{layer}.{key}" for layer in layers for key in ("conv.weight", "norm.weight", "norm.bias")]
    assert list(create_backbone("a025", residual=True).state_dict()) == list(create_backbone("a025").state_dict())


def test_same_seed_same_net():
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(create_backbone("a010").state_dict())
    assert all(torch.equal(value, nets[1][key]) for key, value in nets[0].items())
