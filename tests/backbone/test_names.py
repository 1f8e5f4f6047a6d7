"""Names and widths, both ways, and what a wrong name is told."""

import pytest

from backbone import backbone_name, parse_backbone
from backbone.names import PAPER_NAMES


def test_papers_names():
    assert [parse_backbone(name) for name in PAPER_NAMES] == [0.25, 0.5, 0.75, 1.0]


def test_round_trip_of_every_name():
    names = [f"a{percent:03d}" for percent in range(10, 201)]
    assert [backbone_name(parse_backbone(name)) for name in names] == names


def test_widths_between_names_round_to_the_nearest():
    assert backbone_name(1 / 3) == "a033"
    assert backbone_name(0.7549) == "a075"


@pytest.mark.parametrize("width_mult", [0, 0.05, -0.5, 2.01, 75])
def test_widths_out_of_range(width_mult):
    with pytest.raises(ValueError, match="any aNNN from a010 to a200"):
        backbone_name(width_mult)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a75", "a075"),
        ("0.75", "a075"),
        ("A075", "a075"),
        ("75", "a075"),
        ("a075 ", "a075"),
        ("mobilenet_0.75", "a075"),
        ("a0.5", "a050"),
        ("1.0", "a100"),
        ("1", "a100"),
        ("a100x", "a100"),
    ],
)
def test_suggestion(given, meant):
    with pytest.raises(ValueError) as error:
        parse_backbone(given)
    assert f"unknown backbone {given!r}: did you mean {meant}? Allowed: " in str(error.value)


@pytest.mark.parametrize("given", ["mobilenet", "a005", "a201", "a000", "a1000", "", "a-50", "a07 5", "b075", "a075\n"])
def test_every_message_says_what_is_allowed(given):
    with pytest.raises(ValueError) as error:
        parse_backbone(given)
    assert repr(given) in str(error.value)
    assert "a025, a050, a075 and a100 are the paper's; any aNNN from a010 to a200" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", ["mobilenet", "a201", "", "alpha"])
def test_no_guess_without_a_reason(given):
    with pytest.raises(ValueError) as error:
        parse_backbone(given)
    assert "did you mean" not in str(error.value)
