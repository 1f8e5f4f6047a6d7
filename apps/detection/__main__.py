"""The cost of detectors by width and head.

python -m apps.detection
python -m apps.detection --resolution 320 --num-classes 20 --backbones a100 a035
python -m apps.detection choose --max-ms 20    timed on this machine: python -m backbone choose --for detection
"""

import sys
from dataclasses import dataclass
from typing import get_args

from apps.common.cli import run_command
from apps.detection.choices import Head


@dataclass(frozen=True, kw_only=True)
class Config:
    """The cost of detectors by width and head.

    example: python -m apps.detection --resolution 320
    """

    backbones: tuple[str, ...] = ("a100", "a075", "a050", "a025")
    """widths: a025, a050, a075, a100 (percent), or any aNNN from a010 to a200"""
    resolution: int = 300
    """side of the square input in pixels, 32 or more"""
    num_classes: int = 90
    """number of classes without background; COCO's ids go up to 90, of which 80 are classes"""


def main(config: Config) -> None:
    """Print parameters, mult-adds of one image (MobileNet paper, section 3.1) and anchors of each detector."""
    from apps.detection.model.create import create_detector
    from backbone.cost import count_module

    side, num_classes = config.resolution, config.num_classes
    lines = [
        f"{side}x{side} pixels, {num_classes} classes",
        f"{'':15}{'parameters':>12}{'mult-adds':>16}{'anchors':>10}",
    ]
    for backbone in config.backbones:
        for head in get_args(Head):
            detector = create_detector(backbone, num_classes=num_classes, resolution=side, head=head)
            mult_adds, params = count_module(detector, (1, 3, side, side))
            lines.append(f"{backbone:6}{head:9}{params:12,}{mult_adds:16,}{len(detector.anchors_cxcywh):10,}")
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["choose"]:
        from apps.detection.model.candidates import DETECTORS
        from backbone import choose

        choose.main(sys.argv[2:], DETECTORS)
    else:
        run_command(main, Config)
