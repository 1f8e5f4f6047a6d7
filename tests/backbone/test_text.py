"""What is said of other libraries' errors."""

import pytest
import torch

from backbone.text import reason_of


def test_reason_of_an_error_says_what_is_wrong():
    with pytest.raises(RuntimeError) as caught:
        torch.nn.Linear(2, 3).load_state_dict({"weight": torch.zeros(3, 1), "bias": torch.zeros(3)})
    said = reason_of(caught.value)
    assert said.startswith("Error(s) in loading state_dict for Linear: size mismatch for weight") and "\n" not in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\ntwo"), "one"),
        (OSError(" one:\n\n"), "one:"),
        (NotImplementedError(), "NotImplementedError"),
        (RuntimeError("\n"), "RuntimeError"),
    ],
)
def test_reason_of_an_error_is_one_line(error, said):
    assert reason_of(error) == said
