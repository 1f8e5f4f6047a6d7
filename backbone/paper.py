"""The cost figures that the paper (arXiv 1704.04861) prints, as data to compare our counts with.

They are strings, as printed, because the number of decimals is the precision of a comparison. The paper's parameters
are the weights of convolutions and classifier, without normalisation and biases: Table 9's 1.32 million is the count
without them (1.3196), not the one with them (1.3316); the shares of Table 2 agree.
"""

from dataclasses import dataclass

from backbone.cost import Kind
from backbone.mobilenet_v1 import Conv

# Share of each layer type in the mult-adds and in the weights of the net at alpha 1 and 224 pixels, in percent.
TABLE_2: dict[Kind, tuple[str, str]] = {
    "Conv 1x1": ("94.86", "74.59"),
    "Conv DW 3x3": ("3.06", "1.06"),
    "Conv 3x3": ("1.19", "0.02"),
    "Fully connected": ("0.18", "24.33"),
}
# The one share that differs from the formulas, and the formulas' value. With the printed one the four shares add up to
# 99.29, with ours to 100.
TABLE_2_MISPRINT: tuple[Kind, str] = ("Conv 3x3", "1.91")


@dataclass(frozen=True)
class PaperNet:
    """A MobileNet of the paper.

    Attributes:
        tables: the numbers of the tables it is in; Table 10 is on Stanford Dogs (120 classes), the others on ImageNet.
        model: the paper's name for it.
        name, resolution, num_classes, conv, shallow: the same network as options of `backbone_cost`.
        top1: accuracy in percent.
        mult_adds, params: in millions.
        known_difference: why our mult-adds, rounded as the paper's, differ; empty where they are equal.
    """

    tables: tuple[int, ...]
    model: str
    name: str
    resolution: int
    top1: str
    mult_adds: str
    params: str
    num_classes: int = 1000
    conv: Conv = "separable"
    shallow: bool = False
    known_difference: str = ""


_NO_FC = "the printed figure is the count without the classifier, rounded"
_FC_1000 = "the printed figure is the count with 1000 classes, rounded"

PAPER_NETS = (
    PaperNet((4, 6, 7, 8), "1.0 MobileNet-224", "a100", 224, "70.6", "569", "4.2"),
    PaperNet((4,), "Conv MobileNet", "a100", 224, "71.7", "4866", "29.3", conv="full", known_difference=_NO_FC),
    PaperNet((5,), "Shallow MobileNet", "a100", 224, "65.3", "307", "2.9", shallow=True),
    PaperNet((5, 6), "0.75 MobileNet-224", "a075", 224, "68.4", "325", "2.6"),
    PaperNet((6,), "0.5 MobileNet-224", "a050", 224, "63.7", "149", "1.3"),
    PaperNet((6,), "0.25 MobileNet-224", "a025", 224, "50.6", "41", "0.5"),
    PaperNet((7,), "1.0 MobileNet-192", "a100", 192, "69.1", "418", "4.2"),
    PaperNet((7,), "1.0 MobileNet-160", "a100", 160, "67.2", "290", "4.2", known_difference=_NO_FC),
    PaperNet((7,), "1.0 MobileNet-128", "a100", 128, "64.4", "186", "4.2"),
    PaperNet((9,), "0.50 MobileNet-160", "a050", 160, "60.2", "76", "1.32", known_difference=_NO_FC),
    PaperNet((10,), "1.0 MobileNet-224", "a100", 224, "83.3", "569", "3.3", 120, known_difference=_FC_1000),
    PaperNet((10,), "0.75 MobileNet-224", "a075", 224, "81.9", "325", "1.9", 120),
    PaperNet((10,), "1.0 MobileNet-192", "a100", 192, "81.9", "418", "3.3", 120, known_difference=_FC_1000),
    PaperNet((10,), "0.75 MobileNet-192", "a075", 192, "80.5", "239", "1.9", 120),
)


@dataclass(frozen=True)
class PaperPeer:
    """Another network in Table 8 or 9.

    Attributes:
        table: its number.
        model: the paper's name for it.
        torchvision_name: its builder in `torchvision.models`.
        top1: accuracy in percent.
        mult_adds, params: in millions.
        why: the reason why the count of torchvision's network differs, in a few words.
    """

    table: int
    model: str
    torchvision_name: str
    top1: str
    mult_adds: str
    params: str
    why: str


PAPER_PEERS = (
    PaperPeer(
        *(8, "GoogleNet", "googlenet", "69.8", "1550", "6.8"),
        why="torchvision has 3x3 kernels for 5x5; the original counts 1583 and 7.0, the paper's lie between",
    ),
    PaperPeer(
        *(8, "VGG 16", "vgg16", "71.5", "15300", "138"),
        why="the paper's figure fits the convolutions alone, 15347; the classifier adds 124",
    ),
    PaperPeer(
        *(9, "SqueezeNet", "squeezenet1_0", "57.5", "1700", "1.25"),
        why="the paper counts two operations per mult-add: 2 x 861, at 227 pixels with a padded last layer",
    ),
    PaperPeer(
        *(9, "AlexNet", "alexnet", "57.2", "720", "60"),
        why="torchvision has a later, narrower net without groups; the original counts 724 at 227 pixels",
    ),
)
