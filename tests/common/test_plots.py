"""Figures of runs and of reports: what is drawn is what was given."""

import numpy as np
import pytest

from apps.common.evaluation.calibration import Bin
from apps.common.plots import confusion_figure, draw_reliability, new_figure


def test_the_confusion_matrix_shows_counts_and_shares():
    confusion = np.array([[3, 1], [0, 0]])
    axes = confusion_figure(confusion, ["a$", "b"]).axes[0]
    assert {(t.get_position(), t.get_text()) for t in axes.texts} == {((0, 0), "3"), ((1, 0), "1")}
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a$", "b"]
    part = confusion_figure(confusion, None, total=np.array([8, 4])).axes[0]
    assert part.images[0].get_array().tolist() == [[0.375, 0.125], [0, 0]]
    assert not part.texts


def test_a_reliability_diagram_has_a_dot_for_each_bin_and_its_area_shows_the_photos():
    axes = new_figure(4, 4).subplots()
    draw_reliability(axes, [Bin(1, 0.2, 0.1), Bin(3, 0.9, 0.8)])
    (dots,) = axes.collections
    assert dots.get_offsets().tolist() == [pytest.approx([0.2, 0.1]), pytest.approx([0.9, 0.8])]
    assert dots.get_sizes().tolist() == [20 + 400 / 4, 20 + 400 * 3 / 4]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0, 1], [0.1, 0.8]]
