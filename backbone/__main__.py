"""Print the cost of a backbone, layer by layer, beside the paper's figures.

python -m backbone a075 --resolution 192    # layers, layer types (Table 2), what the paper prints
python -m backbone a100 --conv full         # a variant: Table 4's; --shallow is Table 5's
python -m backbone --all                    # 4 widths x 4 resolutions: the 16 nets of Figure 4
python -m backbone --compare                # and GoogLeNet, VGG 16, SqueezeNet, AlexNet (Tables 8 and 9)
python -m backbone choose --max-ms 10       # the 16 nets timed on this machine, and the best that fits; choose --help
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TypedDict, get_args

import torch

from backbone import choose
from backbone.cost import LayerCost, NetworkCost, backbone_cost, count_module
from backbone.mobilenet_v1 import Conv, Norm
from backbone.names import PAPER_NAMES
from backbone.paper import PAPER_NETS, PAPER_PEERS, TABLE_2, TABLE_2_MISPRINT, PaperNet
from backbone.tables import Parser, columns

PAPER_RESOLUTIONS = (224, 192, 160, 128)
WEIGHTS_AND_PARAMS = "weights: kernels and classifier, the paper's parameters; params: norms and biases included"


class Variant(TypedDict):
    """The options of `create_backbone` that change a network's cost, or decide whether the paper has its figures."""

    num_classes: int
    conv: Conv
    shallow: bool
    norm: Norm
    residual: bool


PAPERS: Variant = {"num_classes": 1000, "conv": "separable", "shallow": False, "norm": "batch", "residual": False}


def main(args: Sequence[str] | None = None) -> None:
    """Print the tables that the flags ask for; a mistake ends in one line on stderr and exit code 2.

    Args:
        args: the flags; None for the command line's.
    """
    given = sys.argv[1:] if args is None else args
    if given[:1] == ["choose"]:
        return choose.main(given[1:])
    parser = make_parser()
    flags = parser.parse_args(given)
    variant = Variant(
        num_classes=flags.num_classes, conv=flags.conv, shallow=flags.shallow, norm=flags.norm, residual=flags.residual
    )
    name, hw = flags.name or "a100", flags.resolution or (224, 224)
    try:
        if flags.all and (flags.name or flags.resolution):
            raise ValueError("--all has its own 16 widths and resolutions: leave out the name and --resolution")
        lines = figure_4(variant) if flags.all else one_net(name, hw, variant)
        if flags.compare:
            lines += tables_8_and_9(name, hw, variant)
    except ModuleNotFoundError as error:
        parser.error(f"--compare takes the other nets from torchvision: {error}")
    except ValueError as error:
        parser.error(str(error))
    try:
        print("\n".join(line.rstrip() for line in lines), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> Parser:
    """The flags, documented by their help."""
    parser = Parser(
        prog="python -m backbone",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", help="a025 a050 a075 a100 or any aNNN from a010 to a200 (default: a100)")
    parser.add_argument("--resolution", type=_hw, help="pixels of a side, or HEIGHTxWIDTH (default: 224)")
    parser.add_argument("--num-classes", type=int, default=1000, help="0 for no classifier (default: 1000)")
    parser.add_argument(
        "--conv", choices=get_args(Conv), default="separable", help="(default: separable; full: Table 4)"
    )
    parser.add_argument("--shallow", action="store_true", help="without the five 14x14x512 blocks (Table 5)")
    parser.add_argument("--norm", choices=get_args(Norm), default="batch", help="normalisation (default: batch)")
    parser.add_argument("--residual", action="store_true", help="blocks add their input where shapes allow")
    parser.add_argument("--all", action="store_true", help="the 16 nets of Figure 4 instead of one")
    parser.add_argument("--compare", action="store_true", help="add the other networks of Tables 8 and 9")
    return parser


def _hw(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.split("x") if "x" in text else (text, text))
        return height, width
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a side (192) or HEIGHTxWIDTH (240x320), got {text!r}") from None


def one_net(name: str, hw: tuple[int, int], variant: Variant) -> list[str]:
    """The cost of one network: per layer, per layer type, and beside the paper's figures."""
    cost = backbone_cost(name, hw, **variant)
    rows = [("layer", "filter", "stride", "output", "mult-adds", "share", "weights", "params")]
    for layer in cost.layers:
        rows.append(
            (
                layer.name,
                _filter(layer),
                str(layer.stride),
                "x".join(map(str, layer.output_hw)),
                f"{layer.mult_adds:,}",
                _percent(layer.mult_adds, cost.mult_adds),
                f"{layer.weights:,}",
                f"{layer.params:,}",
            )
        )
    rows.append(("total", "", "", "", f"{cost.mult_adds:,}", "100.00 %", f"{cost.weights:,}", f"{cost.params:,}"))
    lines = [f"MobileNet V1 {name} on {hw[0]}x{hw[1]} pixels, {_described(variant)}", ""]
    lines += [*columns(rows, "llrrrrrr"), WEIGHTS_AND_PARAMS]
    if variant["residual"]:
        lines.append("residual additions have no multiplication: the paper's rule does not count them")
    is_table_2s = (name, hw, variant) == ("a100", (224, 224), PAPERS)
    return [*lines, "", *_layer_types(cost, beside_table_2=is_table_2s), "", *_papers_figures(name, hw, variant)]


def _layer_types(cost: NetworkCost, *, beside_table_2: bool) -> list[str]:
    """The share of each layer type; Table 2 lists them for alpha 1 and 224 pixels."""
    misprinted, ours = TABLE_2_MISPRINT
    rows = [("layer type", "mult-adds", "share", "weights", "share", "mult-adds", "weights")]
    for kind, total in cost.by_kind().items():
        rows.append(
            (
                kind,
                f"{total.mult_adds:,}",
                _percent(total.mult_adds, cost.mult_adds),
                f"{total.weights:,}",
                _percent(total.weights, cost.weights),
                TABLE_2[kind][0] + (" %*" if kind == misprinted else " % "),
                TABLE_2[kind][1] + " %",
            )
        )
    if not beside_table_2:
        return columns([row[:5] for row in rows], "lrrrr")
    printed_sum = sum(float(mult_adds) for mult_adds, _ in TABLE_2.values())
    return [
        *columns(rows, "lrrrrrr", groups=(("", 1), ("counted", 4), ("Table 2", 2))),
        f"* probably {ours} with two digits swapped in print: the four printed shares add up to only {printed_sum:.2f}",
    ]


def _papers_figures(name: str, hw: tuple[int, int], variant: Variant) -> list[str]:
    """The paper's figures of a network, beside our counts with the paper's number of classes."""
    nets = [net for net in PAPER_NETS if _is_the_papers(net, name, hw, variant)]
    if not nets:
        return ["The paper prints no figures for this network."]
    rows = [("model", "table", "classes", "top-1", "M mult-adds", "M params", "M mult-adds", "M weights")]
    for net in nets:
        cost = backbone_cost(name, hw, **(variant | {"num_classes": net.num_classes}))
        ours = (_millions(cost.mult_adds), _millions(cost.weights))
        tables = ", ".join(map(str, net.tables))
        rows.append((net.model, tables, str(net.num_classes), net.top1, _marked(net), net.params, *ours))
    return [*columns(rows, "llrrrrrr", groups=(("", 3), ("the paper", 3), ("counted", 2))), *_notes(nets)]


def figure_4(variant: Variant) -> list[str]:
    """The 16 networks of Figure 4, both knobs at four settings, beside the paper's figures where it prints them."""
    ours = ("M mult-adds", "of first", "M weights", "M params")
    rows = [("name", "pixels", *ours, "top-1", "M mult-adds", "M params", "table")]
    seen = []
    first = backbone_cost(PAPER_NAMES[-1], PAPER_RESOLUTIONS[0], **variant)
    for name in reversed(PAPER_NAMES):
        for side in PAPER_RESOLUTIONS:
            cost = backbone_cost(name, side, **variant)
            nets = [net for net in PAPER_NETS if _is_the_papers(net, name, (side, side), variant)]
            nets = [net for net in nets if net.num_classes == variant["num_classes"]]
            share = _percent(cost.mult_adds, first.mult_adds)
            ours = (_millions(cost.mult_adds), share, _millions(cost.weights), _millions(cost.params))
            papers = ("", "", "", "")
            for net in nets:
                papers = (net.top1, _marked(net), net.params, ", ".join(map(str, net.tables)))
            rows.append((name, str(side), *ours, *papers))
            seen += nets
    groups = (("", 2), ("counted", 4), ("the paper", 4))
    title = f"MobileNet V1, width x resolution as in Figure 4, {_described(variant)}"
    return [title, "", *columns(rows, "lrrrrrrrrl", groups=groups), *_notes(seen), WEIGHTS_AND_PARAMS]


def tables_8_and_9(name: str, hw: tuple[int, int], variant: Variant) -> list[str]:
    """Other networks, built by torchvision and counted by the same rule, and their cost relative to the chosen one."""
    import torchvision

    chosen = backbone_cost(name, hw, **variant)

    def counted(mult_adds: int, params: int) -> tuple[str, ...]:
        times = (f"{mult_adds / chosen.mult_adds:.2f}", f"{params / chosen.params:.2f}")
        return _millions(mult_adds), _millions(params), *times

    header = ("model", "top-1", "M mult-adds", "M params", "M mult-adds", "M params", "mult-adds", "params")
    rows: list[tuple[str, ...]] = [header]
    if (name, hw, variant) != ("a100", (224, 224), PAPERS):  # Table 8 has that one itself
        rows.append((f"{name} {hw[0]}x{hw[1]}", "", "", "", *counted(chosen.mult_adds, chosen.params)))
    for net in PAPER_NETS:
        if {8, 9} & set(net.tables):
            cost = backbone_cost(net.name, net.resolution)
            rows.append((net.model, net.top1, _marked(net), net.params, *counted(cost.mult_adds, cost.params)))
    for number, peer in enumerate(PAPER_PEERS, 1):
        with torch.device("meta"):
            options = {"aux_logits": False, "init_weights": False} if peer.torchvision_name == "googlenet" else {}
            module = getattr(torchvision.models, peer.torchvision_name)(**options)
        ours = counted(*count_module(module, (1, 3, 224, 224)))
        rows.append((f"{peer.model} [{number}]", peer.top1, f"{peer.mult_adds} ", peer.params, *ours))
    groups = (("Tables 8 and 9", 1), ("the paper", 3), ("counted", 2), (f"times {name}", 2))
    return [
        "",
        *columns(rows, "lrrrrrrr", groups=groups),
        *_notes([net for net in PAPER_NETS if {8, 9} & set(net.tables)]),
        *(f"[{number}] {peer.why}" for number, peer in enumerate(PAPER_PEERS, 1)),
    ]


def _is_the_papers(net: PaperNet, name: str, hw: tuple[int, int], variant: Variant) -> bool:
    """Whether these options build the paper's `net`, apart from the number of classes."""
    if variant["norm"] != "batch" or variant["residual"]:
        return False
    theirs = (net.name, (net.resolution, net.resolution), net.conv, net.shallow)
    return theirs == (name, hw, variant["conv"], variant["shallow"])


def _marked(net: PaperNet) -> str:
    return net.mult_adds + ("*" if net.known_difference else " ")


def _notes(nets: Iterable[PaperNet]) -> list[str]:
    reasons = dict.fromkeys(net.known_difference for net in nets if net.known_difference)
    return [f"* {reason}" for reason in reasons]


def _described(variant: Variant) -> str:
    words = [f"{variant['num_classes']} classes" if variant["num_classes"] else "no classifier"]
    words += ["full convolutions"] if variant["conv"] == "full" else []
    words += ["shallow"] if variant["shallow"] else []
    words += [f"{variant['norm']} norm"] if variant["norm"] != "batch" else []
    words += ["residual"] if variant["residual"] else []
    return ", ".join(words)


def _filter(layer: LayerCost) -> str:
    """The filter's shape as Table 1 writes it: "3x3x32 dw" for a depthwise one."""
    if layer.kind == "Fully connected":
        return f"{layer.in_channels}x{layer.channels}"
    if layer.kind == "Conv DW 3x3":
        return f"3x3x{layer.channels} dw"
    return f"{layer.kind.removeprefix('Conv ')}x{layer.in_channels}x{layer.channels}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


if __name__ == "__main__":
    main()
