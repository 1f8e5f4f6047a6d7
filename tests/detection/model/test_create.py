"""The network has the reference's size to the unit (TensorFlow Object Detection API, 90 classes and background)."""

import pytest
import torch

from apps.detection.__main__ import Config, main
from apps.detection.model.create import create_detector
from backbone.cost import count_module


@pytest.mark.parametrize(
    ("backbone", "num_classes", "params"),
    [
        ("a100", 90, 6_819_839),
        ("a100", 80, 6_673_589),
        ("a100", 20, 5_796_089),
        ("a075", 90, 4_110_735),
        ("a075", 80, 4_000_965),
        ("a050", 90, 2_071_583),
        ("a050", 80, 1_998_293),
        ("a025", 90, 702_831),
        ("a025", 80, 666_021),
    ],
)
def test_trainable_parameters(backbone, num_classes, params):
    detector = create_detector(backbone, num_classes=num_classes, head="ssd")
    assert sum(p.numel() for p in detector.parameters() if p.requires_grad) == params


@pytest.mark.parametrize(
    ("backbone", "resolution", "giga"),
    [
        ("a100", 300, "1.237"),
        ("a075", 300, "0.728"),
        ("a050", 300, "0.352"),
        ("a025", 300, "0.119"),
        ("a100", 224, "0.665"),
        ("a075", 256, "0.506"),
        ("a050", 320, "0.382"),
    ],
)
def test_mult_adds(backbone, resolution, giga):
    detector = create_detector(backbone, num_classes=90, resolution=resolution, head="ssd")
    mult_adds, _ = count_module(detector, (1, 3, resolution, resolution))
    assert f"{mult_adds / 1e9:.3f}" == giga


def test_widths_between_the_papers_follow():
    for backbone in ("a010", "a035", "a130"):
        detector = create_detector(backbone, num_classes=2, resolution=64, head="ssd").eval()
        assert detector(torch.zeros(1, 3, 64, 64))["class_logits"].shape == (1, 96, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "a75"}, "did you mean a075"),
        ({"resolution": 10}, "resolution must be 32 pixels or more, got 10"),
        ({"num_classes": 0}, "num_classes must be 1 or more"),
        ({"anchor_shapes": [[(0.2, 1.0)]] * 6}, "anchor_shapes are for an SSD, this is head 'pyramid'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_detector(**{"backbone": "a025", "num_classes": 3, **arguments})


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="built for 64x64"):
        create_detector("a025", num_classes=1, resolution=64)(torch.zeros(1, 3, 96, 96))


def test_the_cost_of_detectors_is_printed(capsys):
    main(Config(backbones=("a075",), num_classes=90))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a075", "ssd", "4,110,735", "728,036,496", "1,917"] in lines
    assert ["a075", "pyramid", "2,310,824", "651,442,248", "1,930"] in lines
