"""What a run records of its data."""

import pytest

from apps.common.data.data_record import record_data


@pytest.mark.parametrize("names", [[f"c{i}" for i in range(50_001)], ["a", "b" * 1001], ["a", "a"]])
def test_classes_that_no_model_may_have_are_refused_before_training(names):
    with pytest.raises(
        ValueError, match=r"a model may have 50,000 classes of different names in UTF-8 of up to 1,000$"
    ):
        record_data(None, names)


def test_the_most_that_a_model_may_have_are_recorded():
    names = [f"c{i}" for i in range(49_999)] + ["b" * 1000]
    assert record_data(None, names)["data_record"]["classes"] == names
