import pytest
import torch

from apps.common.device import autocast, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": False}, "none"), ({}, "none")],
)
def test_precision_is_bfloat16_where_the_processor_multiplies_in_it(monkeypatch, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert choose_precision(CPU, "auto") == precision


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_precision_that_was_asked_for_is_used_anywhere(amp):
    assert choose_precision(CPU, amp) == amp
    assert choose_precision(torch.device("mps"), amp) == amp


def test_apples_gpus_compute_in_float32():
    assert choose_precision(torch.device("mps"), "auto") == "none"


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(amp, dtype):
    with autocast(CPU, amp):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
