"""The rows of the paper's study: what each table compares, and the paper's figures of it."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from paper_runs import TEACHER, Setting

from apps.finegrained.choices import Augment
from backbone.cost import backbone_cost
from backbone.names import PAPER_NAMES
from backbone.paper import PAPER_NETS, PaperNet
from backbone.weights.figures import ALPHAS, GOOGLE_TOP1, RESOLUTIONS


class Asked(NamedTuple):
    """What the rows depend on.

    Attributes:
        width: of Table 4 and of the questions.
        augment: the study's own; a row that names it is the same run as one that names none.
        strong_decay: a weight decay that a run of some hundred steps can feel, unlike the classifier's own.
    """

    width: str
    augment: Augment
    strong_decay: float


class Row(NamedTuple):
    """A line of a table.

    Attributes:
        label: what is special about it.
        setting: what is trained.
        like: the network whose figures the paper prints, if it is another width than ours.
    """

    label: str
    setting: Setting
    like: Setting | None = None

    @property
    def net(self) -> PaperNet | None:
        """The paper's, if it prints any figures of this network on ImageNet."""
        setting = self.like or self.setting
        if setting != Setting(
            backbone=setting.backbone, paper_side=setting.paper_side, conv=setting.conv, shallow=setting.shallow
        ):
            return None
        key = (setting.backbone, setting.paper_side, setting.conv, setting.shallow, 1000)
        return next((n for n in PAPER_NETS if (n.name, n.resolution, n.conv, n.shallow, n.num_classes) == key), None)

    @property
    def published_top1(self) -> float | None:
        """On ImageNet, in percent: the paper's, or else of the weight files that its authors published."""
        if self.net:
            return float(self.net.top1)
        setting = self.like or self.setting
        if setting != Setting(backbone=setting.backbone, paper_side=setting.paper_side):
            return None
        alpha = int(setting.backbone[1:]) / 100
        if alpha not in ALPHAS:
            return None
        return GOOGLE_TOP1[ALPHAS.index(alpha)][RESOLUTIONS.index(setting.paper_side)]

    @property
    def paper_cost(self) -> tuple[float, float]:
        """Million mult-adds and million weights of the network with 1000 classes at the paper's resolution."""
        setting = self.like or self.setting
        cost = backbone_cost(setting.backbone, setting.paper_side, **setting.variant)
        return cost.mult_adds / 1e6, cost.weights / 1e6


def table_4(asked: Asked) -> list[Row]:
    """Full convolutions against depthwise separable ones."""
    return [
        Row("full convolutions", Setting(backbone=asked.width, conv="full"), Setting(conv="full")),
        Row("depthwise separable", Setting(backbone=asked.width), Setting()),
    ]


def table_5(_: Asked) -> list[Row]:
    """Thinner against shallower."""
    return [
        Row("0.75 MobileNet", Setting(backbone="a075")),
        Row("shallow MobileNet", Setting(shallow=True)),
    ]


def table_6(_: Asked) -> list[Row]:
    """The width multiplier."""
    return [Row(f"{int(name[1:]) / 100:g} MobileNet", Setting(backbone=name)) for name in reversed(PAPER_NAMES)]


def table_7(_: Asked) -> list[Row]:
    """The resolution multiplier."""
    return [Row(f"1.0 MobileNet-{side}", Setting(paper_side=side)) for side in RESOLUTIONS]


def figures_4_5(_: Asked) -> list[Row]:
    """Both multipliers."""
    return [
        Row(f"{int(name[1:]) / 100:g} MobileNet-{side}", Setting(backbone=name, paper_side=side))
        for name in reversed(PAPER_NAMES)
        for side in RESOLUTIONS
    ]


def residual(asked: Asked) -> list[Row]:
    """Residual connections where stride and channels allow."""
    return [Row("plain", Setting(backbone=asked.width)), Row("residual", Setting(backbone=asked.width, residual=True))]


def norm(asked: Asked) -> list[Row]:
    """What normalises."""
    return [
        Row("BatchNorm", Setting(backbone=asked.width)),
        Row("GroupNorm, 16 channels a group", Setting(backbone=asked.width, norm="group")),
        Row("LayerNorm", Setting(backbone=asked.width, norm="layer")),
    ]


def decay(asked: Asked) -> list[Row]:
    """Weight decay of the depthwise filters (section 3.2), at a decay that a short run can feel."""
    strong = Setting(backbone=asked.width, weight_decay=asked.strong_decay)
    everywhere = Setting(backbone=asked.width, weight_decay=asked.strong_decay, decay="everywhere")
    return [
        Row(f"{asked.strong_decay:g}, none on depthwise filters", strong),
        Row(f"{asked.strong_decay:g}, on depthwise filters, too", everywhere),
        Row(f"{Setting().weight_decay:g}, none on depthwise filters", Setting(backbone=asked.width)),
    ]


def augment(asked: Asked) -> list[Row]:
    """Little against much augmentation (section 3.2), of a network and of the smallest."""
    return [
        Row(f"{name}, {amount}", Setting(backbone=name, augment=amount))
        for name in dict.fromkeys((asked.width, PAPER_NAMES[0]))
        for amount in ("mirror", "light", "full")
    ]


def distill(_: Asked) -> list[Row]:
    """Widths with and without a teacher, the network of width 1 (section 4.5)."""
    return [
        Row(f"{name}, {'taught' if taught else 'alone'}", Setting(backbone=name, taught=taught))
        for taught in (False, True)
        for name in ("a075", "a050", "a025")
    ] + [Row("a100, the teacher", TEACHER)]


TABLES: dict[str, Callable[[Asked], list[Row]]] = {
    "4": table_4,
    "5": table_5,
    "6": table_6,
    "7": table_7,
    "figures-4-5": figures_4_5,
    "residual": residual,
    "norm": norm,
    "decay": decay,
    "augment": augment,
    "distill": distill,
}


def rows_of(table: str, asked: Asked) -> list[Row]:
    """The rows of a table."""
    rows = TABLES[table](asked)
    usual = [dataclasses.replace(row.setting, augment=None) for row in rows]
    return [
        row._replace(setting=setting) if row.setting.augment == asked.augment else row
        for row, setting in zip(rows, usual, strict=True)
    ]


def title_of(table: str) -> str:
    """With what it is about."""
    about = (TABLES[table].__doc__ or "").rstrip(".")
    return f"Table {table}: {about}" if table.isdecimal() else about


def is_papers(table: str) -> bool:
    """Whether the paper has it; else it is a question that its readers ask."""
    return table.isdecimal() or table.startswith("figures")
