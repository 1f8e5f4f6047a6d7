"""Intervals are pinned to distributions whose spread is known."""

import math

import numpy as np
import pytest

from apps.common.evaluation.intervals import FEW_PHOTOS, Figures


def top1(right: np.ndarray) -> Figures:
    """Of photos (N,) bool."""
    return Figures.of(lambda times: {"top1": times @ right / len(right)}, len(right))


def test_the_interval_covers_the_true_value_as_often_as_it_says():
    """Top-1 of 100 photos, each correct with probability 0.8: nominally 95 %."""
    rng = np.random.default_rng(5)
    intervals = [top1(rng.random(100) < 0.8).intervals()["top1"] for _ in range(200)]
    covered = np.mean([one.low <= 0.8 <= one.high for one in intervals])
    assert 0.9 <= covered <= 0.99
    assert all(one.low <= one.value <= one.high for one in intervals)


def test_a_paired_difference_has_the_spread_of_the_differences_alone():
    """Of 600 photos one model alone has 40, the other alone 22; the formula of McNemar's setting, a normal law."""
    ours, theirs = np.ones(600), np.ones(600)
    ours[:22], theirs[22:62], ours[62:200], theirs[62:200] = 0, 0, 0, 0
    value, low, high = (top1(ours) - top1(theirs)).intervals()["top1"]
    assert value == pytest.approx(18 / 600)
    spread = math.sqrt((62 / 600 - value**2) / 600)
    assert (low, high) == pytest.approx((value - 1.96 * spread, value + 1.96 * spread), abs=0.1 * spread + 1 / 600)
    unpaired = math.sqrt((ours.var() + theirs.var()) / 600)
    assert high - low < 0.6 * 2 * 1.96 * unpaired


def test_the_same_outcomes_differ_by_exactly_nothing():
    right = np.random.default_rng(1).random(77) < 0.5
    assert (top1(right) - top1(right.copy())).intervals()["top1"] == (0.0, 0.0, 0.0)


def test_the_same_photos_have_the_same_interval_in_parts(monkeypatch):
    """However many resamples are in memory at once."""
    right = np.random.default_rng(1).random(50) < 0.5
    whole = top1(right).intervals()
    monkeypatch.setattr("apps.common.evaluation.intervals.AT_ONCE", 333)
    assert top1(right).intervals() == whole


def test_what_it_means_is_said_of_few_photos_alone():
    some = np.arange(FEW_PHOTOS) % 2
    assert top1(some).describe().startswith(f"95 % interval over {FEW_PHOTOS} photos: top-1 0.4")
    assert top1(some).describe().endswith(".")
    assert "rough" not in top1(some).describe()
    assert "most likely lies somewhere in" in top1(some[:-1]).describe()
    perfect = top1(np.ones(40)).describe()  # the rule of three
    assert "top-1 1.000 to 1.000. No spread" in perfect and "a fault that 3 in 40 photos have may not be" in perfect
    assert "a fault that most photos have" in top1(np.ones(1)).describe()


def test_a_figure_without_a_meaning_is_left_out():
    def measure(times):
        return {"AP": times[:, 0] / times.sum(axis=1), "none": np.full(len(times), np.nan)}

    figures = Figures.of(measure, 10)
    assert set(figures.as_json()["intervals"]) == {"AP"} and figures.note("none") == ""
    nothing = Figures.of(lambda times: {"AP": np.full(len(times), np.nan)}, 10)
    assert (nothing.describe(), nothing.meaning(), nothing.as_json()) == ("", "", {"intervals": {}})


def test_resamples_without_a_meaning_are_left_out_of_an_interval():
    """The share of photo 0 among photos 0 and 1, where one of them is drawn."""
    with np.errstate(invalid="ignore"):
        figures = Figures.of(lambda times: {"AP": times[:, 0] / times[:, :2].sum(axis=1)}, 4)
    assert np.isnan(figures.resampled["AP"]).any()
    assert figures.intervals()["AP"] == (0.5, 0.0, 1.0)
