"""Print what a backbone costs, layer by layer, beside the paper's figures.

    python -m backbone a075 --resolution 192    # layers, layer types (Table 2), what the paper prints
    python -m backbone a100 --conv full         # a variant: Table 4's; --shallow is Table 5's
    python -m backbone --all                    # 4 widths x 4 resolutions: the 16 nets of Figure 4
    python -m backbone --compare                # and GoogLeNet, VGG 16, SqueezeNet, AlexNet (Tables 8 and 9)
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import NoReturn, TypedDict, get_args

import torch

from backbone.cost import LayerCost, NetworkCost, backbone_cost, count_module
from backbone.mobilenet_v1 import Conv, Norm
from backbone.names import PAPER_NAMES, parse_backbone
from backbone.paper import PAPER_NETS, PAPER_PEERS, TABLE_2, TABLE_2_MISPRINT, PaperNet

PAPER_RESOLUTIONS = (224, 192, 160, 128)
WEIGHTS_AND_PARAMS = "weights: of kernels and classifier, the paper's parameters; params: with norms and biases too"


class Variant(TypedDict):
    """The options of `create_backbone` that change what a net costs, or whether the paper's figures are of it."""

    num_classes: int
    conv: Conv
    shallow: bool
    norm: Norm
    residual: bool


PAPERS: Variant = {"num_classes": 1000, "conv": "separable", "shallow": False, "norm": "batch", "residual": False}


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake ends in one line without the usage block."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(args: Sequence[str] | None = None) -> None:
    """Print the tables that the flags ask for; a mistake ends in one line on stderr and exit code 2.

    Args:
        args: the flags; None for those of the command line.
    """
    parser = make_parser()
    flags = parser.parse_args(args)
    variant = Variant(
        num_classes=flags.num_classes,
        conv=flags.conv,
        shallow=flags.shallow,
        norm=flags.norm,
        residual=flags.residual,
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
    print("\n".join(line.rstrip() for line in lines))


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
    parser.add_argument("--conv", choices=get_args(Conv), default="separable", help="full is Table 4's")
    parser.add_argument("--shallow", action="store_true", help="without the five 14x14x512 blocks (Table 5)")
    parser.add_argument("--norm", choices=get_args(Norm), default="batch", help="(default: batch)")
    parser.add_argument("--residual", action="store_true", help="blocks add their input where shapes allow")
    parser.add_argument("--all", action="store_true", help="the 16 nets of Figure 4 instead of one")
    parser.add_argument("--compare", action="store_true", help="add the nets of others in Tables 8 and 9")
    return parser


def _hw(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a side (192) or HEIGHTxWIDTH (240x320), got {text!r}") from None


def one_net(name: str, hw: tuple[int, int], variant: Variant) -> list[str]:
    """The cost of one net: per layer, per layer type, and beside the paper's."""
    cost = backbone_cost(name, hw, **variant)
    rows = [("layer", "filter", "stride", "output", "mult-adds", "share", "weights", "params")]
    for layer in cost.layers:
        size = "x".join(map(str, layer.output_hw))
        figures = (f"{layer.mult_adds:,}", _share(layer.mult_adds, cost.mult_adds))
        figures += (f"{layer.weights:,}", f"{layer.params:,}")
        rows.append((layer.name, _filter(layer), str(layer.stride), size, *figures))
    rows.append(("total", "", "", "", f"{cost.mult_adds:,}", "100.00 %", f"{cost.weights:,}", f"{cost.params:,}"))
    lines = [f"MobileNet V1 {name}, {_described(variant, name)}, on {_pixels(hw)}", ""]
    lines += _columns(rows, "llrrrrrr")
    lines += [WEIGHTS_AND_PARAMS]
    if variant["residual"]:
        lines += ["residual additions have no multiplication and are not counted"]
    return [*lines, "", *_table_2(cost, of_paper=(name, hw, variant) == ("a100", (224, 224), PAPERS)), "", *_papers(name, hw, variant)]


def _table_2(cost: NetworkCost, *, of_paper: bool) -> list[str]:
    """The share of each layer type; `of_paper`: beside the paper's, this being the net that they are of."""
    rows = [("layer type", "mult-adds", "share", "weights", "share", "mult-adds", "weights")]
    for kind, total in cost.by_kind().items():
        mult_adds, weights = TABLE_2[kind]
        mark = "*" if kind == TABLE_2_MISPRINT[0] else " "
        ours = (f"{total.mult_adds:,}", _share(total.mult_adds, cost.mult_adds))
        ours += (f"{total.weights:,}", _share(total.weights, cost.weights))
        rows.append((kind, *ours, f"{mult_adds} %{mark}", f"{weights} %"))
    if not of_paper:
        return _columns([row[:-2] for row in rows], "lrrrr")
    as_printed = sum(float(mult_adds) for mult_adds, _ in TABLE_2.values())
    return [
        *_columns(rows, "lrrrrrr", groups=(("", 1), ("", 4), ("Table 2", 2))),
        f"* with the printed {TABLE_2[TABLE_2_MISPRINT[0]][0]} the paper's four shares add up to {as_printed:.2f}, with the "
        f"{TABLE_2_MISPRINT[1]} that we count",
        "  to 100: two digits must have changed places in print",
    ]
