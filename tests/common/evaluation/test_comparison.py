import html
import re

import numpy as np
import pytest

from apps.common.evaluation.comparison import Comparison, check_names
from apps.common.evaluation.intervals import Figures


def figures(right: np.ndarray) -> Figures:
    return Figures.of(lambda times: {"top1": times @ right / len(right)}, len(right))


def make(ours: np.ndarray, theirs: np.ndarray, gains: np.ndarray) -> Comparison:
    return Comparison("run/a", "run/<b>", figures(ours), figures(theirs), gains)


def test_photos_won_and_lost_are_shown_the_clearest_first(tmp_path):
    gains = np.array([0, 2, -1, 3, 0, -5, 0.5])
    both = make(gains > 0, gains < 0, gains)
    both.write(tmp_path / "compare.html", lambda i: (np.zeros((4, 8, 3), np.uint8), f"photo {i}"))
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == [f"photo {i}" for i in (3, 1, 6, 5, 2)]
    assert [*re.findall("<h2>(.*?)</h2>", text)] == ["Photos won: 3", "Photos lost: 2"]
    assert "better on 3 photos, worse on 2" in text and html.escape("of run/<b>: difference +0.143") in text
    compared = both.as_json()["compare"]
    assert (compared["model"], compared["won"], compared["lost"]) == ("run/<b>", 3, 2)
    assert compared["difference"]["top1"]["value"] == pytest.approx(1 / 7)


def test_the_verdict_depends_on_whether_the_interval_holds_nothing():
    ours, none = np.arange(300) % 10 > 0, np.arange(300) % 2
    assert make(ours, none, ours - none).describe().split("\n")[0].endswith(": better")
    assert make(none, ours, none - ours).describe().split("\n")[0].endswith(": worse")
    nearly = np.roll(ours, 1)
    assert "no significant difference" in make(ours, nearly, ours * 1.0 - nearly).describe()


def test_models_of_other_classes_are_refused(tmp_path):
    check_names(["a", "b"], ["a", "b"], tmp_path, what="classes")
    with pytest.raises(ValueError, match=r"has other classes than the model \(only one of the two knows b, c\)"):
        check_names(["a", "b"], ["a", "c"], tmp_path, what="classes")
    with pytest.raises(ValueError, match="their order differs"):
        check_names(["a", "b"], ["b", "a"], tmp_path, what="classes")
