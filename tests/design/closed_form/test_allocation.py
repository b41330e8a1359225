"""How a byte budget is spent: by hand on tiny latents, and never more than there is."""

from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isplit.codec.codec import Codec, smallest_payload_bytes
from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import CODER_BYTES, count_symbols
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.allocation import (
    Allocation,
    allocate_bytes,
    expected_loss,
    fixed_rank,
    lost_share,
    ratio_ranks,
    rounding_gain,
    useful_ranks,
)
from isplit.design.closed_form.solve import Solution
from isplit.errors import InputError
from isplit.records import Budget
from tests.design.conftest import make_cut

OVERHEAD = HEADER_BYTES + CODER_BYTES


def gaussian(*deviations: float, images: int = 200, positions: int = 4, seed: int = 0) -> torch.Tensor:
    """Latents N×K×P, independent, of these standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images, len(deviations), positions, generator=generator)
    return noise * torch.tensor(deviations)[:, None]


def solution_of(eigenvalues: list[float], *, vectors: int = 1) -> Solution:
    width = len(eigenvalues)
    layout = PatchLayout((vectors, width), -1)
    unit = torch.eye(width)
    values = torch.tensor(eigenvalues, dtype=torch.float64)
    return Solution(layout, torch.zeros(width), torch.ones(width), unit, unit, values)


def real_payloads(latents: torch.Tensor, allocation: Allocation) -> np.ndarray:
    """Return the lengths of the payloads that these latents become with this allocation."""
    quantiser = Quantiser.common(allocation.step, levels=allocation.levels)
    kept = (latents[:, allocation.kept[0]] / allocation.scales[0][:, None]).numpy()
    plain = Codec(model="f" * 64, cut="x", shape=kept.shape[1:], quantiser=quantiser)
    symbols = np.stack([quantiser.quantise(latent) for latent in kept])
    counts = count_symbols(symbols, channel_axis=0, levels=quantiser.levels)
    codec = plain.with_rans(counts, images=len(kept))
    return np.array([len(codec.encode(latent)) for latent in kept])


def test_by_hand() -> None:
    """Two images, one latent, ±1: the finest step has 127 levels a side, and a symbol costs little more than a bit."""
    allocation = allocate_bytes([torch.tensor([[[1.0]], [[-1.0]]])], 100)

    assert (1 / 127.49, 256) == (pytest.approx(allocation.step * float(allocation.scales[0])), allocation.levels)
    assert [[0]] == [places.tolist() for places in allocation.kept]
    bits = 16 - log2((65536 - 256) / 2 + 1)
    assert OVERHEAD + bits / 8 == pytest.approx(allocation.payload_bytes)


def test_latents_of_nothing_but_zeros() -> None:
    """There is still a payload: one latent, which costs next to nothing."""
    allocation = allocate_bytes([torch.zeros(5, 3, 2)], 100)

    assert [1] == [len(places) for places in allocation.kept]
    assert OVERHEAD == pytest.approx(allocation.payload_bytes, abs=0.01)


def test_important_latents_are_kept() -> None:
    """A small budget goes to the latents that save the most error, wherever they stand; the others are not sent."""
    latents = gaussian(1.0, 8.0, 0.5, 4.0)

    assert [[1, 3]] == [places.tolist() for places in allocate_bytes([latents], OVERHEAD + 2).kept]
    assert [[0, 1, 2, 3]] == [places.tolist() for places in allocate_bytes([latents], OVERHEAD + 12).kept]


def test_budget_is_shared_among_maps() -> None:
    """One step for tokens in front and the grid's: both are kept when both matter, only one when not."""
    loud, faint = gaussian(5.0, 4.0, positions=1), gaussian(0.01, positions=16)
    both = allocate_bytes([loud, gaussian(5.0, positions=16)], OVERHEAD + 12)
    tight = allocate_bytes([loud, faint], OVERHEAD + 1)

    assert [2, 1] == [len(places) for places in both.kept]
    assert [2, 0] == [len(places) for places in tight.kept]


def test_a_map_without_latents_is_no_error() -> None:
    """Tokens that no gradient reaches offer none."""
    allocation = allocate_bytes([gaussian(2.0, 1.0, positions=1), torch.zeros(200, 0, 16)], OVERHEAD + 1)

    assert [2, 0] == [len(places) for places in allocation.kept]


@given(
    deviations=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    positions=st.integers(1, 9),
    budget=st.floats(smallest_payload_bytes(), 150),
    seed=st.integers(0, 9),
)
def test_budget_is_kept(deviations: list[float], positions: int, budget: float, seed: int) -> None:
    """Neither the estimate nor the mean of real payloads, of the images it was given, is above the budget."""
    latents = gaussian(*deviations, images=60, positions=positions, seed=seed)
    allocation = allocate_bytes([latents], budget)

    assert allocation.payload_bytes <= budget
    assert 2 <= allocation.levels <= 256
    assert real_payloads(latents, allocation).mean() <= budget + 1  # a payload's words are whole


@given(deviations=st.lists(st.floats(0.1, 10), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_more_bytes_are_used(deviations: list[float], seed: int) -> None:
    """A larger budget takes a finer step and at least as many bytes."""
    latents = gaussian(*deviations, images=60, positions=12, seed=seed)
    allocations = [allocate_bytes([latents], OVERHEAD + more) for more in (2, 4, 8, 16)]

    assert sorted(allocation.payload_bytes for allocation in allocations) == [
        allocation.payload_bytes for allocation in allocations
    ]
    assert sorted((allocation.step for allocation in allocations), reverse=True) == [
        allocation.step for allocation in allocations
    ]


@given(deviation=st.floats(0.1, 10), more=st.integers(2, 16), seed=st.integers(0, 9))
def test_budget_is_used(deviation: float, more: int, seed: int) -> None:
    """One latent fills nine tenths of the budget, unless its finest step takes less."""
    latents = gaussian(deviation, images=60, positions=12, seed=seed)
    allocation = allocate_bytes([latents], OVERHEAD + more)

    finest = float(latents.abs().max()) / 127.49
    step = allocation.step * float(allocation.scales[0])
    assert step == pytest.approx(finest) or allocation.payload_bytes - OVERHEAD > 0.9 * more


def test_no_payload_is_that_small() -> None:
    """A budget below header and coder's state is refused in words."""
    with pytest.raises(InputError, match=f"no payload is smaller than {smallest_payload_bytes()} bytes"):
        allocate_bytes([gaussian(1.0)], smallest_payload_bytes() - 1)


def test_fixed_rank() -> None:
    """The first latents, as finely as the levels allow; none is clipped where no image stands out."""
    latents = gaussian(3.0, 2.0, 1.0).clamp(-6, 6)
    allocation = fixed_rank([latents], [2])
    kept = latents[:, :2]

    assert [[0, 1]] == [places.tolist() for places in allocation.kept]
    assert float(kept.abs().max()) / 127.49 == pytest.approx(allocation.step)
    assert 0 == Quantiser.common(allocation.step, levels=256).count_clipped(kept.numpy())
    assert real_payloads(latents, allocation).mean() == pytest.approx(allocation.payload_bytes, abs=4)


def test_an_outlier_is_clipped_rather_than_followed() -> None:
    """One image in 400 with a value far beyond all others leaves the step as it is; three of them do not."""
    latents = gaussian(1.0, images=400)
    ordinary = fixed_rank([latents], [1]).step
    latents[0, 0, 0] = 1000.0
    step = fixed_rank([latents], [1]).step
    latents[:3, 0, 0] = 1000.0
    three = fixed_rank([latents], [1]).step

    assert ordinary == pytest.approx(step, rel=0.1)
    assert 1000 / 127.49 == pytest.approx(three)


def test_a_wide_latent_does_not_make_the_others_coarse() -> None:
    """Beside one of a thousandfold range a latent still gets a step far below its own size; both fit their levels."""
    latents = gaussian(1000.0, 1.0, images=200, positions=4)

    allocation = allocate_bytes([latents], 60)

    assert [0, 1] == allocation.kept[0].tolist()
    wide, narrow = (allocation.step * allocation.scales[0]).tolist()
    assert narrow < 0.2
    assert wide > 10 * narrow
    scaled = latents / allocation.scales[0][:, None]
    assert (
        Quantiser.common(allocation.step, levels=allocation.levels).count_clipped(scaled.numpy())
        <= 0.01 * latents.numel()
    )


def test_useful_ranks_by_hand() -> None:
    """Reverse water-filling: at level 4^-k the first k eigenvalues of 4^-i get k - i bits, k (k + 1) / 2 together.

    15 bytes are 120 bits, so k = 15; those down to a sixteenth of the level, two more, stay in.
    """
    solution = solution_of([4.0**-i for i in range(40)])

    assert [17] == useful_ranks([solution], Budget(payload_bytes=HEADER_BYTES + 15))


def test_useful_ranks_count_every_vector() -> None:
    """What is sent for each of eight vectors costs eight times as much."""
    eigenvalues = [4.0**-i for i in range(40)]
    single, eight = (solution_of(eigenvalues, vectors=vectors) for vectors in (1, 8))

    assert useful_ranks([single], Budget(payload_bytes=HEADER_BYTES + 15)) == useful_ranks(
        [eight], Budget(payload_bytes=HEADER_BYTES + 120)
    )


def test_places_without_gradient_get_rank_nothing() -> None:
    """Eigenvalues of zero are never worth a byte, unless there is nothing else to send."""
    some, none = solution_of([4.0, 1.0]), solution_of([0.0, 0.0], vectors=16)
    budget = Budget(payload_bytes=64)

    assert [2, 0] == useful_ranks([some, none], budget)
    assert [0, 2] == useful_ranks([none, some], budget)
    assert [1, 1] == useful_ranks([none, none], budget)


def test_rounding_gain_brings_rounded_latents_closer() -> None:
    """By hand: 0.6 and 1.6 round to 1 and 2; (0.6 + 3.2) / (1 + 4) of them is closest. What rounds to 0 stays."""
    latents = torch.tensor([[[0.6], [0.2]], [[1.6], [-0.3]]])

    assert [3.8 / 5, 1.0] == pytest.approx(rounding_gain(latents, 1.0).tolist())


SYMBOLS = st.integers(2, 256).flatmap(
    lambda levels: st.tuples(
        st.just(levels),
        st.integers(1, 5).flatmap(
            lambda channels: st.lists(
                st.lists(st.integers(0, levels - 1), min_size=channels * 3, max_size=channels * 3).map(
                    lambda flat: [flat[i * 3 : i * 3 + 3] for i in range(len(flat) // 3)]
                ),
                min_size=1,
                max_size=4,
            )
        ),
    )
)


@pytest.mark.parametrize("coder", ["raw", "zstd", "rle", "rans"])
@given(drawn=SYMBOLS)
def test_lengths_are_those_of_payloads(coder: str, drawn: tuple[int, list[list[list[int]]]]) -> None:
    """For every coder: what `payload_bytes` says is what `encode_symbols` returns."""
    levels, values = drawn
    symbols = np.array(values, np.uint8)
    quantiser = Quantiser.common(0.5, levels=levels)
    codec = Codec(
        model="f" * 64,
        cut="x",
        shape=symbols.shape[1:],
        quantiser=quantiser,
        coder="raw" if coder == "rans" else coder,  # pyright: ignore[reportArgumentType]
    )
    if coder == "rans":
        counts = np.stack([np.bincount(row.ravel(), minlength=levels) for row in symbols.transpose(1, 0, 2)])
        codec = codec.with_rans(counts, images=len(symbols))

    assert [len(codec.encode_symbols(image)) for image in symbols] == codec.payload_bytes(symbols).tolist()


def test_lengths_with_many_lanes() -> None:
    """Large payloads have several states; their lengths are right all the same."""
    rng = np.random.default_rng(0)
    symbols = rng.integers(0, 256, (2, 4, 4000)).astype(np.uint8)
    codec = Codec(model="f" * 64, cut="x", shape=(4, 4000), quantiser=Quantiser.common(1.0)).with_rans(
        np.ones((4, 256), np.int64) * 100, images=1
    )
    many = Codec(model="f" * 64, cut="x", shape=(4, 4000), quantiser=Quantiser.common(1.0)).with_rans(
        np.full((4, 256), 2000), images=1
    )
    assert codec.tables is not None
    assert many.tables is not None
    assert codec.tables.lanes < many.tables.lanes
    for coding in (codec, many):
        assert [len(coding.encode_symbols(image)) for image in symbols] == coding.payload_bytes(symbols).tolist()


def test_lengths_along_another_axis() -> None:
    """Channels may be the latent's last axis."""
    symbols = np.random.default_rng(0).integers(0, 4, (3, 5, 2)).astype(np.uint8)
    plain = Codec(model="f" * 64, cut="x", shape=(5, 2), quantiser=Quantiser.common(1.0, levels=4), channel_axis=1)
    codec = plain.with_rans(np.array([[9, 1, 1, 1], [1, 1, 1, 9]]), images=3)

    assert [len(codec.encode_symbols(image)) for image in symbols] == codec.payload_bytes(symbols).tolist()


@pytest.mark.parametrize(
    ("eigenvalues", "budget", "expected"),
    [
        # 8 bits: log2(2 / theta) = 8 for the two of them, and both lose theta.
        ([4.0, 1.0], Budget(payload_bytes=HEADER_BYTES + 1), 2 * 2**-7 / 5),
        # The second is below theta = 4 / 2**16 and is lost whole.
        ([4.0, 2**-20], Budget(payload_bytes=HEADER_BYTES + 1), (2**-14 + 2**-20) / (4 + 2**-20)),
        # One in two of four elements: the first two are sent.
        ([4.0, 3.0, 2.0, 1.0], Budget(element_ratio=2), 0.3),
        ([0.0, 0.0], Budget(payload_bytes=100), 0.0),
    ],
)
def test_lost_share_by_hand(eigenvalues: list[float], budget: Budget, expected: float) -> None:
    """Reverse water-filling's loss, or the eigenvalues that a ratio leaves out, over all eigenvalues."""
    solution = solution_of(eigenvalues)

    assert expected == pytest.approx(lost_share(solution, make_cut((len(eigenvalues),)), budget), rel=1e-6)


@pytest.mark.parametrize(
    ("budget_bytes", "expected"),
    [
        # 16 bits on four latents of variance 16 and four of 1: at level 1, 1/2 log2(16) = 2 bits for each of the first
        # four are 8, so the level goes below: half of the 8 that are left to each kind, one bit each, level 1/4.
        (HEADER_BYTES + 2, 8 / 4),
        # 8 bits: just the level 1.
        (HEADER_BYTES + 1, 8),
    ],
)
def test_expected_loss_by_hand(budget_bytes: int, expected: float) -> None:
    """Two kinds of latents at four positions, whose second moments are exactly 16 and 1."""
    latents = torch.tensor([4.0, 1.0])[:, None] * torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    loss = expected_loss([torch.stack([latents, -latents])], Budget(payload_bytes=budget_bytes))

    assert pytest.approx(expected, rel=1e-6) == loss


def test_expected_loss_of_nothing() -> None:
    """Latents that never vary lose nothing, and neither do none."""
    nothing = [torch.zeros(5, 2, 3), torch.zeros(5, 0, 1)]

    assert 0 == expected_loss(nothing, Budget(payload_bytes=30)) == expected_loss(nothing[1:], Budget(payload_bytes=30))


def test_a_ratio_without_importance_keeps_a_latent_of_each_map() -> None:
    """Where nothing matters, one latent of each map is sent, so that there is something to send."""
    nothing = [solution_of([0.0, 0.0]), solution_of([0.0, 0.0, 0.0])]

    assert [1, 1] == ratio_ranks(nothing, make_cut((5, 1)), Budget(element_ratio=2))


def test_a_ratio_takes_the_most_important_latents_first() -> None:
    """Of ten elements half are five: 9, 8 and 7, and then the fourth and fifth of their order."""
    solutions = [solution_of([9.0, 2.0, 1.0, 0.5, 0.1]), solution_of([8.0, 7.0, 3.0, 0.0, 0.0])]

    assert [2, 3] == ratio_ranks(solutions, make_cut((10,)), Budget(element_ratio=2))
    assert [1, 0] == ratio_ranks(solutions, make_cut((10,)), Budget(element_ratio=10))
    assert [5, 3] == ratio_ranks(solutions, make_cut((10,)), Budget(element_ratio=1))
