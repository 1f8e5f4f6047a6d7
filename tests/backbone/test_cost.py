"""Costs against what the paper prints, torch's own counter and hand-made sums."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from backbone import create_backbone
from backbone.cost import KINDS, backbone_cost, count_module, network_cost
from backbone.paper import PAPER_NETS, PAPER_PEERS, TABLE_2, TABLE_2_MISPRINT, PaperNet

VARIANTS = (
    {},
    {"norm": "group"},
    {"norm": "layer"},
    {"conv": "full"},
    {"shallow": True},
    {"residual": True},
    {"num_classes": 7},
    {"num_classes": 0},
    {"min_channels": 16},
    {"conv": "full", "shallow": True, "residual": True, "norm": "group", "num_classes": 120},
)


def meta_net(name, **options):
    with torch.device("meta"):
        return create_backbone(name, **options)


def torchs_mult_adds(module, *shape):
    """By torch's counter, which takes a mult-add for two operations."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(torch.empty(*shape, device="meta"))
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def papers_cost(net: PaperNet, **changes):
    options = {"num_classes": net.num_classes, "conv": net.conv, "shallow": net.shallow, **changes}
    return backbone_cost(net.name, net.resolution, **options)


# The paper


def test_to_the_unit():
    cost = backbone_cost("a100")
    assert cost.mult_adds == 568_740_352
    assert cost.params == 4_231_976
    assert cost.weights == 4_231_976 - 2 * 10_944 - 1000  # without gamma and beta of 10,944 channels, and biases
    assert backbone_cost("a100", num_classes=0).params == 3_206_976


def paper_id(net):
    return f"table{'+'.join(map(str, net.tables))}-{net.model.replace(' ', '-')}"


def test_every_table_is_there():
    """Tables 4 to 7 and 9 have these own nets; a row may be printed in several."""
    printed = {table: {net.mult_adds for net in PAPER_NETS if table in net.tables} for table in (4, 5, 6, 7, 8, 9, 10)}
    assert printed == {
        4: {"4866", "569"},
        5: {"325", "307"},
        6: {"569", "325", "149", "41"},
        7: {"569", "418", "290", "186"},
        8: {"569"},
        9: {"76"},
        10: {"569", "325", "418", "239"},
    }


def as_printed(value: float, printed: str) -> str:
    """`value` rounded to the decimals of `printed`: (1.3196, "1.32") -> "1.32"."""
    return f"{value:.{len(printed.partition('.')[2])}f}"


@pytest.mark.parametrize("net", [net for net in PAPER_NETS if not net.known_difference], ids=paper_id)
def test_mult_adds_as_printed(net):
    assert as_printed(papers_cost(net).mult_adds / 1e6, net.mult_adds) == net.mult_adds


@pytest.mark.parametrize("net", PAPER_NETS, ids=paper_id)
def test_parameters_as_printed(net):
    assert as_printed(papers_cost(net).weights / 1e6, net.params) == net.params


def test_papers_parameters_leave_out_norms_and_biases():
    (table_9,) = (net for net in PAPER_NETS if 9 in net.tables)
    assert as_printed(papers_cost(table_9).params / 1e6, table_9.params) == "1.33" != table_9.params


KNOWN_DIFFERENCES = {  # (tables, ours): printed
    ((4,), "4867.29"): "4866",
    ((7,), "290.68"): "290",
    ((9,), "76.52"): "76",
    ((10,), "567.84"): "569",
    ((10,), "417.22"): "418",
}


def test_known_differences_are_these_five():
    differing = [net for net in PAPER_NETS if net.known_difference]
    assert {(net.tables, f"{papers_cost(net).mult_adds / 1e6:.2f}"): net.mult_adds for net in differing} == (
        KNOWN_DIFFERENCES
    )


@pytest.mark.parametrize("net", [net for net in PAPER_NETS if net.known_difference], ids=paper_id)
def test_known_differences_have_the_reason_they_give(net):
    other_classes = 0 if "without the classifier" in net.known_difference else 1000
    assert as_printed(papers_cost(net).mult_adds / 1e6, net.mult_adds) != net.mult_adds
    assert as_printed(papers_cost(net, num_classes=other_classes).mult_adds / 1e6, net.mult_adds) == net.mult_adds


def shares(cost):
    return {
        kind: (f"{100 * sums.mult_adds / cost.mult_adds:.2f}", f"{100 * sums.weights / cost.weights:.2f}")
        for kind, sums in cost.by_kind().items()
    }


def test_table_2():
    """Seven of the eight shares as printed. The eighth, 1.19 % of the mult-adds for the 3x3 convolution, is 1.91 %."""
    ours, (misprinted, counted) = shares(backbone_cost("a100")), TABLE_2_MISPRINT
    assert ours == {**TABLE_2, misprinted: (counted, TABLE_2[misprinted][1])}
    assert (TABLE_2[misprinted][0], counted) == ("1.19", "1.91")


def test_table_2_adds_up_with_our_share_alone():
    printed = [float(mult_adds) for mult_adds, _ in TABLE_2.values()]
    ours = [float(mult_adds) for mult_adds, _ in shares(backbone_cost("a100")).values()]
    assert sum(printed) == pytest.approx(99.29)
    assert sum(ours) == pytest.approx(100, abs=0.021)  # four shares, each rounded by up to 0.005
    assert sum(float(weights) for _, weights in TABLE_2.values()) == pytest.approx(100, abs=0.021)


# The formulas of sections 3.1 to 3.3


def layer(cost, name):
    (found,) = (layer for layer in cost.layers if layer.name == name)
    return found


def test_layers_by_hand():
    cost = backbone_cost("a100")
    assert layer(cost, "stem").mult_adds == 3 * 3 * 3 * 32 * 112 * 112
    assert layer(cost, "conv2.depthwise").mult_adds == 3 * 3 * 64 * 56 * 56
    assert layer(cost, "conv2.pointwise").mult_adds == 64 * 128 * 56 * 56
    assert layer(cost, "conv2.pointwise").params == 64 * 128 + 2 * 128
    assert layer(cost, "classifier").mult_adds == 1024 * 1000
    assert layer(cost, "classifier").params == 1024 * 1000 + 1000
    last = layer(cost, "conv13.depthwise")
    assert (last.in_channels, last.channels, last.stride, last.output_hw) == (1024, 1024, 1, (7, 7))


def test_28_layers_of_which_one_is_full():
    cost = backbone_cost("a100")
    kinds = [layer.kind for layer in cost.layers]
    assert [kinds.count(kind) for kind in KINDS] == [13, 13, 1, 1]
    assert [layer.name for layer in cost.layers[:3]] == ["stem", "conv1.depthwise", "conv1.pointwise"]


def test_separable_costs_1_over_n_plus_1_over_9_of_a_full_convolution():
    """Section 3.1, for every block; the ratio is exact, so it is compared in whole numbers."""
    separable, full = backbone_cost("a075", 160), backbone_cost("a075", 160, conv="full")
    for number in range(1, 14):
        depthwise, pointwise = (layer(separable, f"conv{number}.{part}") for part in ("depthwise", "pointwise"))
        whole = layer(full, f"conv{number}.full")
        N = pointwise.channels
        assert (depthwise.mult_adds + pointwise.mult_adds) * 9 * N == whole.mult_adds * (9 + N)


def test_both_knobs_act_quadratically():
    """Sections 3.3 and 3.4: mult-adds fall with rho squared exactly, and pointwise ones with alpha squared."""
    nets = (("a100", 256), ("a050", 256), ("a100", 128))  # sides that five strides of 2 divide
    whole, narrow, small = (backbone_cost(*net, num_classes=0) for net in nets)
    assert small.mult_adds * 4 == whole.mult_adds
    assert narrow.total("Conv 1x1").mult_adds * 4 == whole.total("Conv 1x1").mult_adds
    assert narrow.total("Conv DW 3x3").mult_adds * 2 == whole.total("Conv DW 3x3").mult_adds
    assert small.params == whole.params


def test_sums():
    cost = backbone_cost("a033", (97, 160), norm="group", residual=True, num_classes=5)
    for field in ("mult_adds", "weights", "params"):
        total = sum(getattr(layer, field) for layer in cost.layers)
        assert getattr(cost, field) == getattr(cost.total(), field) == total
        assert sum(getattr(sums, field) for sums in cost.by_kind().values()) == total


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_weights_and_params_are_those_of_the_net(options):
    net = meta_net("a025", **options)
    cost = network_cost(net)
    assert cost.params == sum(param.numel() for param in net.parameters())
    assert cost.weights == sum(param.numel() for param in net.parameters() if param.ndim > 1)
    assert all(layer.params >= layer.weights for layer in cost.layers)


def test_a_type_the_net_lacks():
    cost = backbone_cost("a100", conv="full", num_classes=0)
    assert list(cost.by_kind()) == ["Conv 3x3"]
    assert cost.total("Conv DW 3x3").mult_adds == 0


def test_frozen_parameters_count():
    net = create_backbone("a010", num_classes=3).requires_grad_(False)
    assert network_cost(net) == backbone_cost("a010", num_classes=3)


@pytest.mark.parametrize("resolution", [31, (31, 224), (224, 10), 0, -5])
def test_too_small(resolution):
    with pytest.raises(ValueError, match=r"resolution must be at least 32 pixels, got -?\d+x-?\d+"):
        backbone_cost("a100", resolution)


def test_wrong_names_and_options():
    with pytest.raises(ValueError, match="did you mean a075"):
        backbone_cost("a75")
    with pytest.raises(ValueError, match="norm must be one of batch, group, layer, got 'instance'"):
        backbone_cost("a075", norm="instance")


# Three counters


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        *(("a010", 161), ("a033", 224), ("a033", (97, 160)), ("a050", 33), ("a075", 300), ("a075", 192)),
        *(("a100", 224), ("a100", 300), ("a100", 161), ("a200", 225)),
    ],
)
def test_counters_agree(name, resolution):
    h, w = (resolution, resolution) if isinstance(resolution, int) else resolution
    net = meta_net(name)
    cost = backbone_cost(name, resolution)
    assert cost.mult_adds == torchs_mult_adds(net, 1, 3, h, w)
    assert (cost.mult_adds, cost.params) == count_module(net, (1, 3, h, w))


def test_over_a_single_pixel_less_is_computed_than_counted():
    """At 32 pixels conv13's depthwise filters see one pixel: the rule counts 9 mult-adds, the net does 1."""
    cost = backbone_cost("a050", 32)
    assert cost.mult_adds - torchs_mult_adds(meta_net("a050"), 1, 3, 32, 32) == 8 * 512


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_counters_agree_on_variants(options):
    net = meta_net("a025", padding="symmetric", **options)  # above, it is "same"
    cost = backbone_cost("a025", 161, **options)
    assert network_cost(net, 161) == cost
    assert cost.mult_adds == torchs_mult_adds(net, 1, 3, 161, 161)
    assert (cost.mult_adds, cost.params) == count_module(net, (1, 3, 161, 161))


def test_output_sizes_are_those_of_a_run():
    net = create_backbone("a010").eval()
    sizes = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            key = name.removeprefix("blocks.").removesuffix(".conv")
            module.register_forward_hook(lambda _, __, y, key=key: sizes.update({key: tuple(y.shape[2:])}))
    with torch.no_grad():
        net(torch.zeros(1, 3, 45, 70))
    cost = backbone_cost("a010", (45, 70))
    assert {layer.name: layer.output_hw for layer in cost.layers if layer.name != "classifier"} == sizes


def test_count_module_by_hand():
    module = nn.Sequential(
        nn.Conv2d(4, 6, (3, 5), stride=2, padding=(1, 2), groups=2),  # 2 of 4 channels each, 15 pixels, 6 x 5 x 4 out
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 5 * 4, 10),
    )
    mult_adds, params = count_module(module, (1, 4, 10, 8))
    assert mult_adds == 2 * 15 * 6 * 5 * 4 + 120 * 10
    assert params == 2 * 15 * 6 + 6 + 120 * 10 + 10
    assert count_module(module, (3, 4, 10, 8)) == (3 * mult_adds, params)


def test_count_module_takes_a_shared_layer_once_per_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(self.layer(x))

    assert count_module(Twice(), (1, 8)) == (2 * 64, 72)


def test_count_module_leaves_the_module_alone():
    net = create_backbone("a010", num_classes=3)
    net.blocks["conv1"].eval()
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    count_module(net, (1, 3, 32, 32))
    assert [module.training for module in net.modules()] == modes
    assert not any(module._forward_hooks for module in net.modules())
    assert all(param.device.type == "cpu" for param in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


# The nets of others


@pytest.fixture(scope="module")
def peers():
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        return {
            "googlenet": models.googlenet(aux_logits=False, init_weights=False),
            "vgg16": models.vgg16(),
            "squeezenet1_0": models.squeezenet1_0(),
            "alexnet": models.alexnet(),
        }


def in_millions(module, side=224):
    mult_adds, params = count_module(module, (1, 3, side, side))
    return mult_adds / 1e6, params / 1e6


def test_peers_by_torchs_counter(peers):
    assert sorted(peers) == sorted(peer.torchvision_name for peer in PAPER_PEERS)
    for module in peers.values():
        assert count_module(module, (1, 3, 224, 224))[0] == torchs_mult_adds(module, 1, 3, 224, 224)


def why(torchvision_name):
    (found,) = (peer.why for peer in PAPER_PEERS if peer.torchvision_name == torchvision_name)
    return found


def test_vgg16_is_the_papers_by_its_convolutions(peers):
    """15,300 million, to three digits; with the classifier, 15,470."""
    mult_adds, params = in_millions(peers["vgg16"])
    convolutions, _ = in_millions(peers["vgg16"].features)
    assert f"{convolutions:.3g}" == f"{15300:.3g}"
    assert f"{params:.0f}" == "138"
    assert f"convolutions alone, {convolutions:.0f}" in why("vgg16")
    assert f"the classifier adds {mult_adds - convolutions:.0f}" in why("vgg16")


def test_googlenet_with_the_originals_5x5_kernels(peers):
    original = copy.deepcopy(peers["googlenet"])
    for name, module in original.named_modules():
        if name.endswith("branch3.1"):
            conv = module.conv
            module.conv = nn.Conv2d(conv.in_channels, conv.out_channels, 5, padding=2, bias=False, device="meta")
    mult_adds, params = in_millions(original)
    assert f"the original counts {mult_adds:.0f} and {params:.1f}" in why("googlenet")
    fewer_mult_adds, fewer_params = in_millions(peers["googlenet"])
    assert fewer_mult_adds < 1550 < mult_adds and fewer_params < 6.8 < params


def test_squeezenet_is_the_papers_with_two_operations_a_mult_add(peers):
    """The original's last convolution pads its 1x1 kernel; torchvision's does not."""
    original = copy.deepcopy(peers["squeezenet1_0"])
    original.classifier[1].padding = (1, 1)
    mult_adds, params = in_millions(original, 227)
    assert f"{2 * mult_adds:.2g}" == f"{1700:.2g}"
    assert f"{params:.2f}" == "1.25"
    assert f"2 x {mult_adds:.0f}" in why("squeezenet1_0")


def test_alexnet_is_the_papers_with_the_originals_groups(peers):
    with torch.device("meta"):
        original = nn.Sequential(
            *(nn.Conv2d(3, 96, 11, 4), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.MaxPool2d(3, 2)),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.Conv2d(384, 384, 3, padding=1, groups=2),
            *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.MaxPool2d(3, 2), nn.Flatten()),
            *(nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)),
        )
    mult_adds, params = in_millions(original, 227)
    assert f"{mult_adds:.2g}" == f"{720:.2g}"
    assert 60 <= params < 61
    assert f"counts {mult_adds:.0f} at 227 pixels" in why("alexnet")
    assert all(module.groups == 1 for module in peers["alexnet"].modules() if isinstance(module, nn.Conv2d))
