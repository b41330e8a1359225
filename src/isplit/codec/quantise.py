"""Quantise latents to symbols of at most eight bits and back, with scales that are fixed at build time.

    x --(x - offset) / step--> round half to even --clip--> symbol, 0 .. levels - 1
    symbol --(lowest + symbol) * step + offset--> x'

Every operation is a single IEEE 754 float32 operation (`np.subtract`, `np.divide`, `np.rint`, ...), never fused and
never reordered, so that every machine gives the same symbols and the same x'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isplit.errors import InputError, NonFiniteError

MAX_LEVELS = 256
"""A symbol is one byte."""

WIDEST_STEPS = MAX_LEVELS // 2 - 0.51
"""The largest value, in steps, that a common step with all levels rounds without clipping, on either side of zero."""

# Below this a float32 is subnormal, and some machines round such numbers to zero.
_SMALLEST_STEP = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """Affine quantisation to `levels` symbols; make one with `common` or `per_channel`.

    Symbol s stands for the integer `lowest` + s, and this for that many `steps` above `offsets`. There is one step
    and one offset for all channels, or one each per channel. Both are kept as floats that float32 holds exactly, so
    that the fields pass through JSON unchanged.

    Raises:
        InputError: on construction, when the fields do not fit together, or when float32 is too coarse to tell two
            neighbouring levels apart (an offset that is huge beside its step).

    """

    levels: int
    lowest: int
    steps: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def common(cls, step: float, *, levels: int = MAX_LEVELS, scales: ArrayLike | None = None) -> Self:
        """Return a quantiser with one step for all latents and symbols centred on zero, so that zero is kept exactly.

        It is for the latents of a linear bottleneck, which its weighting has made comparable.

        Args:
            step: The step.
            levels: The number of symbols.
            scales: For each channel the factor by which its step is coarser, for channels that would not fit into the
                levels otherwise; None, or ones alone, for none.

        """
        factors = np.ones(1) if scales is None else np.asarray(scales, np.float64)
        steps = _float32(step) if bool((factors == 1).all()) else _float32(step * factors)
        return cls(levels=levels, lowest=-(levels // 2), steps=steps, offsets=(0.0,) * len(steps))

    @classmethod
    def per_channel(cls, *, low: ArrayLike, high: ArrayLike, levels: int) -> Self:
        """Return a scale and an offset for each channel, which spread 4 to 256 levels from low to high.

        A channel with low = high always decodes to that value.
        """
        if not 4 <= levels <= MAX_LEVELS:
            msg = f"levels is {levels}: give 4 to {MAX_LEVELS}"
            raise InputError(msg)
        lows, highs = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if lows.ndim != 1 or lows.shape != highs.shape or not bool((lows <= highs).all()):
            msg = f"low {lows.shape} and high {highs.shape} must be one number per channel each, low <= high"
            raise InputError(msg)
        steps = np.where(lows < highs, (highs - lows) / (levels - 1), 1.0)
        return cls(levels=levels, lowest=0, steps=_float32(steps), offsets=_float32(lows))

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= MAX_LEVELS or not -self.levels < self.lowest <= 0:
            msg = f"{self.levels} levels from {self.lowest}: give 2 to {MAX_LEVELS} levels that include zero"
            raise InputError(msg)
        if not self.steps or len(self.steps) != len(self.offsets):
            msg = f"got {len(self.steps)} steps and {len(self.offsets)} offsets: give as many of each, at least one"
            raise InputError(msg)
        # Written so that NaN fails too.
        steps_fit = all(_SMALLEST_STEP <= step < float("inf") for step in self.steps)
        if not steps_fit or not all(abs(offset) < float("inf") for offset in self.offsets):
            msg = "every step must be a positive number that float32 holds, and every offset a finite one"
            raise InputError(msg)
        if _float32(self.steps) != self.steps or _float32(self.offsets) != self.offsets:
            msg = "steps and offsets must be numbers that float32 holds exactly: pass them through np.float32"
            raise InputError(msg)
        self._check_levels_differ()

    def _check_levels_differ(self) -> None:
        """Try every level of every channel: each must come back as itself."""
        levels = np.broadcast_to(np.arange(self.levels, dtype=np.uint8), (len(self.steps), self.levels))
        values = self.dequantise(levels)
        if not np.isfinite(values).all() or not np.array_equal(self.quantise(values), levels):
            msg = f"float32 cannot hold {self.levels} levels of these steps and offsets: use larger steps"
            raise InputError(msg)

    @property
    def channels(self) -> int | None:
        """The number of channels that a latent must have; None where one step serves any number."""
        return len(self.steps) if len(self.steps) > 1 else None

    def quantise(self, latent: NDArray[np.floating[Any]], *, channel_axis: int = 0) -> NDArray[np.uint8]:
        """Return the symbol of every value; values beyond the range become its ends (`count_clipped` counts them).

        Wider floats are rounded to float32 first.

        Raises:
            NonFiniteError: the latent holds NaN or infinity.
            InputError: it has another number of channels.

        """
        integers = self._round(latent, channel_axis)
        clipped = np.clip(integers, np.float32(self.lowest), np.float32(self.highest))
        return (clipped - np.float32(self.lowest)).astype(np.uint8)

    def count_clipped(self, latent: NDArray[np.floating[Any]], *, channel_axis: int = 0) -> int:
        """Return the number of values outside the range, which `quantise` moves to an end of it."""
        integers = self._round(latent, channel_axis)
        return int(np.count_nonzero((integers < self.lowest) | (integers > self.highest)))

    def dequantise(self, symbols: NDArray[np.uint8], *, channel_axis: int = 0) -> NDArray[np.float32]:
        """Return the value of each symbol; `quantise` gives the same symbols back."""
        steps, offsets = self._along(symbols, channel_axis)
        return (symbols.astype(np.float32) + np.float32(self.lowest)) * steps + offsets

    @property
    def highest(self) -> int:
        """The integer of the last symbol."""
        return self.lowest + self.levels - 1

    def _round(self, latent: NDArray[np.floating[Any]], channel_axis: int) -> NDArray[np.float32]:
        steps, offsets = self._along(latent, channel_axis)
        # What overflows float32 is far beyond the last level, unless it was infinite before.
        with np.errstate(over="ignore"):
            values = latent.astype(np.float32)
            if not np.isfinite(values).all():
                bad = int(np.count_nonzero(~np.isfinite(values)))
                msg = f"{bad} of {values.size} values of the latent are NaN or infinite and cannot be quantised"
                raise NonFiniteError(msg)
            return np.rint((values - offsets) / steps)

    def _along(self, array: NDArray[Any], channel_axis: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return steps and offsets shaped so that they broadcast along the channels of `array`."""
        steps, offsets = self._arrays
        if steps.size == 1:
            return steps, offsets
        if not -array.ndim <= channel_axis < array.ndim or array.shape[channel_axis] != steps.size:
            msg = f"a latent of shape {array.shape} does not have {steps.size} channels on axis {channel_axis}"
            raise InputError(msg)
        shape = [1] * array.ndim
        shape[channel_axis] = steps.size
        return steps.reshape(shape), offsets.reshape(shape)

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.array(self.steps, np.float32), np.array(self.offsets, np.float32)


def levels_for_peak(peak: int) -> int:
    """Return how many levels of a common step hold the integers from -`peak` to `peak`, up to one byte.

    Each level costs the entropy coder's tables a little, so there are no more than needed.
    """
    return min(2 * peak + 2, MAX_LEVELS)


def _float32(values: ArrayLike | Sequence[float]) -> tuple[float, ...]:
    with np.errstate(over="ignore"):  # to infinity, which __post_init__ refuses
        return tuple(np.atleast_1d(np.asarray(values, np.float64)).astype(np.float32).astype(np.float64).tolist())
