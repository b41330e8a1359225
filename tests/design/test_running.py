"""What a precision setting means, and what of a network computes in it."""

import pytest
import torch

from isplit.design import running
from isplit.design.running import autocast, chosen_precision, in_float32


@pytest.mark.parametrize(
    ("setting", "device", "fast", "expected"),
    [
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("auto", "cuda", False, "bf16"),
        ("bf16", "cpu", False, "bf16"),
        ("fp32", "cpu", True, "fp32"),
        ("fp32", "cuda", True, "fp32"),
    ],
)
def test_chosen_precision(
    monkeypatch: pytest.MonkeyPatch, setting: str, device: str, fast: bool, expected: str
) -> None:
    """Only "auto" looks at the machine."""
    monkeypatch.setattr(running, "fast_bf16", lambda: fast)
    assert expected == chosen_precision(setting, device=device)


def test_autocast_and_out_of_it() -> None:
    """A product is bfloat16 in bf16, float32 in fp32, and float32 again where `in_float32` says so."""
    matrix = torch.ones(4, 4)
    with autocast("fp32"):
        assert torch.float32 == (matrix @ matrix).dtype
    with autocast("bf16"):
        assert torch.bfloat16 == (matrix @ matrix).dtype
        with in_float32():
            assert torch.float32 == (matrix @ matrix).dtype
