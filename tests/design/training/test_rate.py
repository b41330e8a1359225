"""Bytes while training, and the quantiser that keeps them within the budget."""

import pytest
import torch

from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.identity import IdentityBottleneck
from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.settings import CODERS
from isplit.design.training.rate import Price, RateControl, SampleLatents, open_price
from isplit.errors import InputError
from isplit.records import Budget

OWNER = CodecOwner("model", "cut")
LAYOUT = PatchLayout((4, 6, 6), 1)
LINEAR = LinearBottleneck([LinearMap(LAYOUT, rank=3)])


def common(budget, **fields):
    """Return the rate control of a design with a common step."""
    return RateControl(owner=OWNER, budget=budget, **fields)


@pytest.fixture
def latents():
    return torch.randn(40, 3, 36) * torch.tensor([10.0, 3.0, 1.0])[:, None]


def sample(latents, judged=None):
    """Return latents as a sample whose tables and payloads are of the same images, unless told otherwise."""
    return SampleLatents(tables=latents, judged=latents if judged is None else judged)


def mean_length(coded, latents):
    symbols = coded.quantiser.symbols(latents).numpy()
    return sum(len(coded.codec.encode_symbols(image)) for image in symbols) / len(symbols)


@pytest.mark.parametrize("budget", [40, 60, 80])
def test_budget_is_filled(latents, budget):
    """Real payloads take the budget to within a per cent, and not more."""
    coded = common(Budget(payload_bytes=budget))(sample(latents))
    assert pytest.approx(mean_length(coded, latents)) == coded.payload_bytes
    assert 0.985 * budget <= coded.payload_bytes <= budget


@pytest.mark.parametrize("coder", CODERS)
def test_every_coder_keeps_the_budget(latents, coder):
    """The step follows from the payloads of the coder that is asked for; coarser coders leave more unused."""
    coded = common(Budget(payload_bytes=75), coder=coder)(sample(latents))
    assert coder == coded.codec.coder
    assert pytest.approx(mean_length(coded, latents)) == coded.payload_bytes
    assert 45 < coded.payload_bytes <= 75


def test_budget_from_far_off(latents):
    """Whatever the step was before, about the same one is found."""
    for step in (1e-3, 1e3):
        coded = common(Budget(payload_bytes=60))(sample(latents), before=LatentQuantiser(Quantiser.common(step)))
        assert 59 <= coded.payload_bytes <= 60


def test_generous_budget(latents):
    """With more bytes than 256 levels of every latent need, the finest step is taken, and the codec says so."""
    coded = common(Budget(payload_bytes=5000))(sample(latents))
    assert coded.payload_bytes < 200
    assert coded.is_finest
    assert 256 == coded.codec.quantiser.levels
    assert not common(Budget(payload_bytes=60))(sample(latents)).is_finest


@pytest.mark.parametrize("budget", [60, 90])
def test_one_wide_latent_does_not_make_the_others_coarse(budget):
    """A latent with a range of thousands of steps has a coarser step of its own, and the budget is filled."""
    latents = torch.randn(300, 3, 36) * torch.tensor([1.0, 1.0, 1.0])[:, None]
    latents[:, 0] *= 3000
    coded = common(Budget(payload_bytes=budget))(sample(latents))
    wide, *others = coded.codec.quantiser.steps
    assert 0.985 * budget <= coded.payload_bytes <= budget
    assert len(set(others)) == 1
    assert wide > 20 * others[0]
    errors = (coded.quantiser.values(coded.quantiser.symbols(latents)) - latents).square().mean((0, 2)).sqrt()
    assert float(errors[1]) < 1


def test_budget_is_filled_on_the_judged_images(latents):
    """The tables are of some images, and the payloads of others take the budget."""
    others = torch.randn(60, 3, 36) * torch.tensor([20.0, 3.0, 1.0])[:, None]
    coded = common(Budget(payload_bytes=70))(sample(latents, judged=others))
    assert pytest.approx(mean_length(coded, others)) == coded.payload_bytes
    assert 0.985 * 70 <= coded.payload_bytes <= 70
    assert common(Budget(payload_bytes=70)).coded(sample(latents), coded.codec.quantiser).payload_bytes < 69


def test_ratio_has_eight_bits(latents):
    """With a budget of elements, the step spreads the latents over 256 levels."""
    coded = common(Budget(element_ratio=2))(sample(latents))
    assert pytest.approx(float(latents.abs().max()) / 127.49) == coded.codec.quantiser.steps[0]


def test_levels_fall_until_the_budget_is_met():
    """What is quantised per channel takes as many levels as the budget allows."""
    latents = torch.rand(30, 4, 36)
    generous = common(Budget(payload_bytes=500), common_step=False)(sample(latents))
    assert 256 == generous.codec.quantiser.levels
    tight = common(Budget(payload_bytes=90), common_step=False)(sample(latents))
    assert tight.payload_bytes <= 90 < generous.payload_bytes
    assert 85 < tight.payload_bytes
    # 90 bytes less the header and the coder's 4 are 4.7 bits for each of the 144 latents, or 25 levels.
    assert 24 <= tight.codec.quantiser.levels <= 27


def test_budget_that_cannot_be_met():
    """Two bits an element are the least."""
    with pytest.raises(InputError, match="give more bytes"):
        common(Budget(payload_bytes=20), common_step=False)(sample(torch.rand(30, 4, 36)))


def test_price_is_what_the_tables_say():
    """The bytes are those of the rounded latents under the static tables; the gradient is the slope in between."""
    quantiser = LatentQuantiser(Quantiser.common(2.0))
    seen = torch.zeros(1, 3, 36)
    seen[:, :, :9] = 2.0  # 0 is three times as frequent as 1
    price = Price(quantiser, seen, budget_bytes=100)
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


def test_price_with_a_step_for_each_channel(latents):
    """A channel with a coarser step costs what its own symbols cost."""
    quantiser = LatentQuantiser(Quantiser.common(1.0, levels=20, scales=[4.0, 1.0, 1.0]))
    scaled = latents / torch.tensor([4.0, 1.0, 1.0])[:, None]
    budget = Budget(payload_bytes=50)
    price = open_price(LINEAR, quantiser, latents, budget, price=0)
    plain = open_price(LINEAR, LatentQuantiser(Quantiser.common(1.0, levels=20)), scaled, budget, price=0)
    assert pytest.approx(float(plain(scaled)), rel=1e-6) == float(price(latents))


def test_price_follows_the_bytes(latents):
    """Above the budget the price goes up, below it down to nothing."""
    quantiser = LatentQuantiser(Quantiser.common(1.0, levels=20))
    price = open_price(LINEAR, quantiser, latents, Budget(payload_bytes=50), price=0.5)
    assert 256 == price.quantiser.quantiser.levels
    price.observe(latents, 100)
    assert 0.5 < price.price
    for _ in range(500):
        price.observe(latents, 10)
    assert 0 == price.price


def test_no_price_without_need(latents):
    """A budget of elements, or a design with fixed bits, has no way to grow."""
    quantiser = LatentQuantiser(Quantiser.common(1.0))
    assert open_price(LINEAR, quantiser, latents, Budget(element_ratio=4), price=0) is None
    identity = IdentityBottleneck(LAYOUT)
    assert open_price(identity, quantiser, latents, Budget(payload_bytes=50), price=0) is None
