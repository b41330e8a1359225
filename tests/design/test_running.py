"""What a precision setting means, and what of a network computes in it."""

import pytest
import torch

from isplit.design import running
from isplit.design.running import autocast, chosen_precision, fast_bf16, in_float32
from isplit.errors import InputError

CARD = torch.device("cuda:0")


@pytest.mark.parametrize(
    ("setting", "device", "fast", "expected"),
    [
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("auto", "cuda:0", True, "bf16"),
        ("auto", "cuda:0", False, "fp32"),
        ("auto", "mps", False, "fp32"),
        ("bf16", "cpu", False, "bf16"),
        ("bf16", "cuda:0", True, "bf16"),
        ("fp32", "cpu", True, "fp32"),
        ("fp32", "cuda:0", True, "fp32"),
    ],
)
def test_chosen_precision(
    monkeypatch: pytest.MonkeyPatch, setting: str, device: str, fast: bool, expected: str
) -> None:
    """Only "auto" looks at the device's hardware."""
    monkeypatch.setattr(running, "fast_bf16", lambda device: fast)
    assert expected == chosen_precision(setting, device=torch.device(device))


def test_an_accelerator_without_bf16_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card would not fall back to the emulation that a processor has: it is said."""
    monkeypatch.setattr(running, "fast_bf16", lambda device: False)
    with pytest.raises(InputError, match="cuda:0 does not have in hardware"):
        chosen_precision("bf16", device=CARD)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_cards_from_ampere_on(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: bool) -> None:
    """A card says by its compute capability whether it multiplies bfloat16; Apple's and others do not say."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert expected == fast_bf16(CARD)
    assert not fast_bf16(torch.device("mps"))


def test_autocast_and_out_of_it() -> None:
    """A product is bfloat16 in bf16, float32 in fp32, and float32 again where `in_float32` says so."""
    matrix = torch.ones(4, 4)
    with autocast("fp32"):
        assert torch.float32 == (matrix @ matrix).dtype
    with autocast("bf16"):
        assert torch.bfloat16 == (matrix @ matrix).dtype
        with in_float32():
            assert torch.float32 == (matrix @ matrix).dtype
