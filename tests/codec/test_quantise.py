"""isplit.codec.quantise: by hand, exact in float32, and every level comes back as itself."""

import json
from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from isplit.codec.quantise import WIDEST_STEPS, Quantiser
from isplit.errors import InputError, NonFiniteError

finite = st.floats(-(2.0**100), 2.0**100, width=32)
steps = st.floats(2**-20, 2**20, width=32)


@st.composite
def quantisers(draw, channels=3):
    if draw(st.booleans()):
        return Quantiser.common(draw(steps), levels=draw(st.integers(2, 256)))
    low = np.array(draw(st.lists(st.floats(-100, 100, width=32), min_size=channels, max_size=channels)))
    width = np.array(draw(st.lists(st.floats(0.5, 100, width=32), min_size=channels, max_size=channels)))
    return Quantiser.per_channel(low=low, high=low + width, levels=draw(st.integers(4, 256)))


def test_common_step_by_hand():
    """Symbols are centred on zero, halves go to the even integer, and what is out of range goes to its end."""
    quantiser = Quantiser.common(0.5, levels=8)
    latent = np.array([0, 0.25, 0.75, -0.25, -0.75, 1.5, 9, -2, -9, 1.7], np.float32)

    symbols = quantiser.quantise(latent)

    #        integers -4 .. 3: 0, 0.5, 1.5, -0.5, -1.5, 3, 18, -4, -18, 3.4
    assert [4, 4, 6, 4, 2, 7, 7, 0, 0, 7] == symbols.tolist()
    assert [0, 0, 1, 0, -1, 1.5, 1.5, -2, -2, 1.5] == quantiser.dequantise(symbols).tolist()
    assert 2 == quantiser.count_clipped(latent)


def test_per_channel_by_hand():
    """Each channel's levels go from its low to its high; a constant channel decodes to its value."""
    quantiser = Quantiser.per_channel(low=[0, -3, 7], high=[3, 3, 7], levels=4)
    latent = np.array([[0, 1, 2.4, 5], [-3, -1.1, 0, 3], [7, 7, 7, 7]], np.float32)

    symbols = quantiser.quantise(latent)

    assert [[0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0]] == symbols.tolist()
    assert [[0, 1, 2, 3], [-3, -1, 1, 3], [7, 7, 7, 7]] == quantiser.dequantise(symbols).tolist()
    assert 1 == quantiser.count_clipped(latent)


def test_channels_on_another_axis():
    """Tokens have their channels last: the same as channels first, transposed."""
    quantiser = Quantiser.per_channel(low=[0, -3, 7], high=[3, 3, 9], levels=32)
    latent = np.random.default_rng(0).normal(size=(3, 11)).astype(np.float32)
    expected = quantiser.quantise(latent)

    np.testing.assert_array_equal(expected.T, quantiser.quantise(latent.T, channel_axis=1))
    np.testing.assert_array_equal(expected.T, quantiser.quantise(latent.T, channel_axis=-1))
    np.testing.assert_array_equal(quantiser.dequantise(expected).T, quantiser.dequantise(expected.T, channel_axis=-1))


@given(quantisers(), arrays(np.float32, array_shapes(min_dims=1, max_dims=1).map(lambda s: (3, *s)), elements=finite))
def test_round_trip(quantiser, latent):
    """What is not clipped comes back within half a step, and quantising it again changes nothing."""
    symbols = quantiser.quantise(latent)
    values = quantiser.dequantise(symbols)

    assert symbols.dtype == np.uint8
    assert values.dtype == np.float32
    assert symbols.max() < quantiser.levels
    np.testing.assert_array_equal(symbols, quantiser.quantise(values))
    step = np.array(quantiser.steps)[:, None]
    offset = np.array(quantiser.offsets)[:, None]
    inside = (latent >= values.min(axis=1, keepdims=True)) & (latent <= values.max(axis=1, keepdims=True))
    rounding = 2.0**-22 * (np.abs(latent.astype(np.float64)) + np.abs(offset) + 256 * step)
    error = np.abs(latent.astype(np.float64) - values)
    assert (error <= step / 2 + rounding)[inside].all()


@given(quantisers(), arrays(np.float32, (3, 7), elements=finite))
def test_clipping_is_counted(quantiser, latent):
    """The count is of those values that lie more than half a step beyond an end."""
    ends = quantiser.dequantise(np.broadcast_to(np.array([0, quantiser.levels - 1], np.uint8), (3, 2)))
    step = np.array(quantiser.steps, np.float64)[:, None]
    sure = (latent > ends[:, 1:] + step) | (latent < ends[:, :1] - step)
    maybe = (latent > ends[:, 1:] + step / 4) | (latent < ends[:, :1] - step / 4)

    assert sure.sum() <= quantiser.count_clipped(latent) <= maybe.sum()


@given(quantisers())
def test_fields_pass_through_json(quantiser):
    """The fields are plain numbers, and what JSON gives back is the same quantiser."""
    fields = json.loads(json.dumps(asdict(quantiser)))

    assert quantiser == Quantiser(**fields | {name: tuple(fields[name]) for name in ("steps", "offsets")})


def test_wider_floats_are_rounded_first():
    """A float64 latent gives the symbols of its float32 rounding."""
    quantiser = Quantiser.common(1.0, levels=256)
    latent = np.array([0.5 + 1e-12, 2.5 - 1e-12, -1.5])

    assert quantiser.quantise(latent.astype(np.float32)).tolist() == quantiser.quantise(latent).tolist()
    assert [128, 130, 126] == quantiser.quantise(latent).tolist()


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_a_quotient_beyond_float32_is_clipped(value):
    """A finite value that overflows when it is divided by the step goes to the end, without a warning."""
    quantiser = Quantiser.common(1e-3, levels=256)

    assert [255 if value > 0 else 0] == quantiser.quantise(np.array([value], np.float32)).tolist()
    assert 1 == quantiser.count_clipped(np.array([value], np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_not_finite_is_refused(value):
    """NaN, infinity and what float32 cannot hold have no symbol."""
    latent = np.array([0, value, 1])

    with pytest.raises(NonFiniteError, match=r"1 of 3 values"):
        Quantiser.common(1.0).quantise(latent)
    with pytest.raises(NonFiniteError, match=r"1 of 3 values"):
        Quantiser.common(1.0).count_clipped(latent)


def test_frozen():
    """A quantiser does not change once it is made."""
    with pytest.raises(FrozenInstanceError):
        Quantiser.common(1.0).levels = 2


@pytest.mark.parametrize("step", [0, -1, np.nan, np.inf, 1e-40, 1e300])
def test_unusable_step(step):
    """A step is a positive float32 that no machine rounds to zero."""
    with pytest.raises(InputError, match="positive number"):
        Quantiser.common(step)


@pytest.mark.parametrize("levels", [-1, 0, 1, 257])
def test_unusable_levels(levels):
    """A symbol is one byte, and one level says nothing."""
    with pytest.raises(InputError, match="levels"):
        Quantiser.common(1.0, levels=levels)


@pytest.mark.parametrize("levels", [3, 257])
def test_unusable_levels_per_channel(levels):
    """Per channel there are 4 to 256 levels."""
    with pytest.raises(InputError, match="4 to 256"):
        Quantiser.per_channel(low=[0], high=[1], levels=levels)


@pytest.mark.parametrize(("low", "high"), [([0, 1], [1]), (0, 1), ([1], [0]), ([np.nan], [1])])
def test_unusable_range(low, high):
    """Low and high belong together."""
    with pytest.raises(InputError, match="low <= high"):
        Quantiser.per_channel(low=low, high=high, levels=256)


def test_offset_too_large_for_its_step():
    """Where float32 cannot tell two levels apart, nothing is built that would decode to something else."""
    with pytest.raises(InputError, match="larger steps"):
        Quantiser.per_channel(low=[1e6], high=[1e6 + 1], levels=256)


def test_fields_float32_cannot_hold():
    """A step that float32 would round is refused, so that the fields are what is computed with."""
    with pytest.raises(InputError, match=r"np\.float32"):
        Quantiser(levels=4, lowest=0, steps=(0.1,), offsets=(0.0,))


def test_wrong_channels():
    """A latent with another number of channels is an error, not a broadcast."""
    quantiser = Quantiser.per_channel(low=[0, 0, 0], high=[1, 1, 1], levels=256)

    with pytest.raises(InputError, match=r"\(1, 5\) does not have 3 channels on axis 0"):
        quantiser.quantise(np.zeros((1, 5), np.float32))


def test_scales_of_a_common_step():
    """Scales make some channels coarser; ones alone leave the one step that serves any number of channels."""
    scaled = Quantiser.common(0.5, levels=8, scales=[1, 3, 1])
    assert (0.5, 1.5, 0.5) == scaled.steps
    assert 3 == scaled.channels
    assert -4 == scaled.lowest
    assert Quantiser.common(0.5, levels=8) == Quantiser.common(0.5, levels=8, scales=[1, 1, 1])


def test_widest_steps_are_not_clipped():
    """All 256 levels reach 127.49 steps on either side; from 127.5 on a value rounds to 128, which has no symbol."""
    quantiser = Quantiser.common(1.0)

    assert 127.49 == WIDEST_STEPS
    assert 0 == quantiser.count_clipped(np.array([WIDEST_STEPS, -WIDEST_STEPS], np.float32))
    assert 1 == quantiser.count_clipped(np.array([WIDEST_STEPS + 0.02, -WIDEST_STEPS - 0.02], np.float32))
