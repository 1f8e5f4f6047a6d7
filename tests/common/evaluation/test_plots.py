"""Figures of runs and of reports: what is drawn is what was given."""

import numpy as np

from apps.common.evaluation.plots import confusion_figure


def test_the_confusion_matrix_shows_counts_and_shares():
    confusion = np.array([[3, 1], [0, 0]])
    axes = confusion_figure(confusion, ["a$", "b"]).axes[0]
    assert {(t.get_position(), t.get_text()) for t in axes.texts} == {((0, 0), "3"), ((1, 0), "1")}
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a$", "b"]
    part = confusion_figure(confusion, None, total=np.array([8, 4])).axes[0]
    assert part.images[0].get_array().tolist() == [[0.375, 0.125], [0, 0]]
    assert not part.texts
