"""Bytes while training, and the quantiser that keeps them within the budget."""

import pytest
import torch

from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.identity import IdentityBottleneck
from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.training.rate import Price, Tag, calibrate, open_price
from isplit.errors import InputError
from isplit.records import Budget

TAG = Tag("model", "cut")
LAYOUT = PatchLayout((4, 6, 6), 1)


@pytest.fixture
def linear():
    return LinearBottleneck([LinearMap(LAYOUT, rank=3)])


@pytest.fixture
def latents():
    return torch.randn(40, 3, 36) * torch.tensor([10.0, 3.0, 1.0])[:, None]


@pytest.mark.parametrize("budget", [40, 60, 80])
def test_budget_is_filled(linear, latents, budget):
    """Real payloads take the budget to within a per cent, and not more."""
    codec, size = calibrate(linear, latents, Budget(payload_bytes=budget), tag=TAG)
    lengths = [len(codec.encode_symbols(one)) for one in linear.symbols(latents).numpy()]
    assert pytest.approx(sum(lengths) / 40) == size
    assert 0.985 * budget <= size <= budget
    assert codec.quantiser == linear.quantiser


def test_budget_from_far_off(linear, latents):
    """Whatever the step was before, about the same one is found."""
    sizes = []
    for step in (1e-3, 1e3):
        linear.quantiser = Quantiser.common(step)
        sizes.append(calibrate(linear, latents, Budget(payload_bytes=60), tag=TAG)[1])
    assert all(59 <= size <= 60 for size in sizes)


def test_generous_budget(linear, latents):
    """With more bytes than 256 levels need, the finest step is taken."""
    _, size = calibrate(linear, latents, Budget(payload_bytes=5000), tag=TAG)
    assert size < 200
    assert 255 <= linear.quantiser.levels <= 256


def test_ratio_has_eight_bits(linear, latents):
    """With a budget of elements, the step spreads the latents over 256 levels."""
    calibrate(linear, latents, Budget(element_ratio=2), tag=TAG)
    assert pytest.approx(float(latents.abs().max()) / 127.49) == linear.quantiser.steps[0]


def test_bits_fall_until_the_budget_is_met():
    """What is quantised per channel takes as many bits as the budget allows."""
    bottleneck, latents = IdentityBottleneck(LAYOUT), torch.rand(30, 4, 36)
    _, generous = calibrate(bottleneck, latents, Budget(payload_bytes=500), tag=TAG)
    assert 256 == bottleneck.quantiser.levels
    _, tight = calibrate(bottleneck, latents, Budget(payload_bytes=90), tag=TAG)
    assert tight <= 90 < generous
    assert 8 == bottleneck.quantiser.levels  # 3 bits x 144 = 54 bytes; 4 bits are 72 and the tables' loss


def test_budget_that_cannot_be_met():
    """Two bits an element are the least."""
    with pytest.raises(InputError, match="give more bytes"):
        calibrate(IdentityBottleneck(LAYOUT), torch.rand(30, 4, 36), Budget(payload_bytes=40), tag=TAG)


def test_price_is_what_the_tables_say(linear):
    """The bytes are those of the rounded latents under the static tables; the gradient is the slope in between."""
    linear.quantiser = Quantiser.common(2.0)
    counts = torch.zeros(3, 256)
    counts[:, 128], counts[:, 129] = 3, 1  # 0 is three times as frequent as 1
    price = Price(counts, linear, budget_bytes=100)
    zeros = torch.zeros(2, 3, 36, requires_grad=True)
    cost = [16 - torch.tensor(share * (65536 - 256) + 1.0).log2() for share in (0.75, 0.25)]
    base = float(price(torch.zeros(2, 3, 36)))
    assert pytest.approx(HEADER_BYTES + 4 + 108 * float(cost[0]) / 8) == base
    ones = zeros.detach().clone()
    ones[0, 0, 0] = 2.0
    assert pytest.approx(float(cost[1] - cost[0]) / 8 / 2, rel=1e-3) == float(price(ones)) - base
    ones[0, 0, 0] = 0.9
    assert pytest.approx(base) == float(price(ones))
    price(zeros).backward()
    assert pytest.approx(float(cost[1] - cost[0]) / 8 / 2 / 2, rel=1e-3) == float(zeros.grad[0, 0, 0])


def test_price_follows_the_bytes(linear, latents):
    """Above the budget the price goes up, below it down to nothing."""
    linear.quantiser = Quantiser.common(1.0)
    price = open_price(linear, latents, Budget(payload_bytes=50), price=0.5)
    price.observe(latents, 100)
    assert 0.5 < price.price
    for _ in range(500):
        price.observe(latents, 10)
    assert 0 == price.price


def test_no_price_without_need(linear, latents):
    """A budget of elements, or a design with fixed bits, has no way to grow."""
    linear.quantiser = Quantiser.common(1.0)
    assert open_price(linear, latents, Budget(element_ratio=4), price=0) is None
    assert open_price(IdentityBottleneck(LAYOUT), latents, Budget(payload_bytes=50), price=0) is None
