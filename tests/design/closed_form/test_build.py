"""A basis and a budget become a split: its rank, its step, its tables, and payloads that keep the budget."""

from types import SimpleNamespace

import pytest
import torch

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.allocation import allocate_bytes
from isplit.design.closed_form.basis import Basis
from isplit.design.closed_form.build import build_split
from isplit.design.closed_form.solve import Solution
from isplit.records import Budget
from tests.design.conftest import make_cut

VIEW = SimpleNamespace(fingerprint="f" * 64)


def basis_of(latents):
    """A basis of tokens whose map changes nothing, so that its latents N×K×P are what crosses."""
    _, channels, positions = latents.shape
    layout = PatchLayout((positions, channels), -1)
    unit = torch.eye(channels)
    solution = Solution(
        layout, torch.zeros(channels), torch.ones(channels), unit, unit, latents.double().square().mean((0, 2))
    )
    return Basis(
        cut=make_cut(shape=(positions, channels), axis=-1),
        prefix=0,
        samples_per_dimension=9.0,
        solutions=[solution],
        latents=[latents],
    )


def noise(*deviations, images=60, positions=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(images, len(deviations), positions, generator=generator) * torch.tensor(deviations)[:, None]


def payloads(built, latents):
    """Return the lengths of the payloads that these latents become."""
    with torch.no_grad():
        symbols = built.symbols(latents.transpose(1, 2)).numpy()
    return [len(built.codec.encode_symbols(image)) for image in symbols]


def test_a_ratio_keeps_so_many_latents():
    """A quarter of four channels is the one that matters most, in all 256 levels; with half there are two."""
    basis = basis_of(noise(4.0, 2.0, 1.0, 0.5))

    shapes = [build_split(VIEW, basis, Budget(element_ratio=ratio)).bottleneck.latent_shape for ratio in (4, 2)]

    assert [1, 2] == [shape[0] for shape in shapes]
    assert 256 == build_split(VIEW, basis, Budget(element_ratio=4)).codec.quantiser.levels


@pytest.mark.parametrize("coder", ["rans", "zstd", "rle", "raw"])
@pytest.mark.parametrize("budget", [30, 60])
def test_real_payloads_keep_a_budget_of_bytes(coder, budget):
    """With each coder the mean payload, header included, is no longer than the budget."""
    latents = noise(4.0, 2.0, 1.0, 0.5)
    built = build_split(VIEW, basis_of(latents), Budget(payload_bytes=budget), coder=coder)

    lengths = payloads(built, latents)
    assert sum(lengths) / len(lengths) <= budget


@pytest.mark.parametrize("images", [20, 60, 300])
@pytest.mark.parametrize("budget", [24, 40])
def test_other_images_keep_the_budget(images, budget):
    """Tables fit their own images best: payloads of other images are as long as the budget says, to a few per cent."""
    generator = torch.Generator().manual_seed(1)
    deviations = torch.tensor([8.0, 6.0, 4.0, 3.0, 2.0, 1.0])
    latents, others = (torch.randn(count, 6, 6, generator=generator) * deviations[:, None] for count in (images, 400))

    built = build_split(VIEW, basis_of(latents), Budget(payload_bytes=budget))

    mean = sum(payloads(built, others)) / len(others)
    assert 0.93 * budget < mean <= 1.02 * budget


def test_a_coder_that_beats_rans_gets_a_finer_step():
    """Where an image's positions are all alike, runs take few bytes: rans would take nearly twice the budget."""
    latents = noise(4.0, images=60, positions=1).repeat(1, 1, 64)
    budget = 40

    built = build_split(VIEW, basis_of(latents), Budget(payload_bytes=budget), coder="rle")

    lengths = payloads(built, latents)
    assert sum(lengths) / len(lengths) <= budget
    (step,) = set(built.codec.quantiser.steps)
    assert step < allocate_bytes([latents], 1.9 * budget).step


@pytest.mark.parametrize(
    ("slope", "excess"), [(0.3, 20.0), (0.1, 5.0), (1.0, 0.1), (0.9, 4.0), (1.5, 10.0), (0.5, -20)]
)
def test_a_budget_is_filled_however_payloads_follow_the_estimate(monkeypatch, slope, excess):
    """Payloads of other images may hardly follow the estimate, and come in jumps: their mean still fills the budget.

    At the estimate of 96 bytes they take `excess` bytes more than the budget, and `slope` bytes less for each byte
    that the estimate becomes smaller.
    """
    budget, means = 96, []

    def payload_bytes(_view, _basis, allocation):
        means.append(round(budget + excess + slope * (allocation.payload_bytes - budget), 1))
        return means[-1]

    monkeypatch.setattr("isplit.design.closed_form.build.cross_validated_payload_bytes", payload_bytes)
    latents = torch.randn(60, 200, 1, generator=torch.Generator().manual_seed(0))
    build_split(VIEW, basis_of(latents * torch.logspace(1, -1, 200)[:, None]), Budget(payload_bytes=budget))

    assert 0.95 * budget <= max(mean for mean in means if mean <= budget)
