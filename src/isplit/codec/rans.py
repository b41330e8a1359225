"""Entropy coding with static integer tables: range asymmetric numeral systems (rANS), interleaved.

Duda, "Asymmetric numeral systems" (2013); interleaving after Giesen (2014). The tables are made once, from how often
each symbol came up, and stored with the codec. Encoding and decoding are integer arithmetic only, so that every
machine gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from isplit.codec import compiled_rans
from isplit.codec.coders import check_symbols, decode_nothing
from isplit.codec.compiled_rans import CompiledRans
from isplit.codec.numpy_rans import PRECISION, STATE_BYTES, NumpyRans, sizes_alone
from isplit.errors import InputError, PayloadError

MAX_LANES = 1024

CODER_BYTES = 4
"""Bytes that a lone lane adds to the entropy: it ends with a state of 4 bytes, and words are whole."""

_TOTAL = 1 << PRECISION

# One lane is a Python loop; vectors overtake it at about 50 lanes (benchmarks/codec.py). A lane costs 3 bytes: a state
# of 4, less what of it is information. So one lane up to 8 KiB, and above it one per 128 bytes, which is 2.3 %.
_LANE_BYTES = 128
_FEWEST_LANES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class RansTables:
    """The expected frequency of each symbol, as integers.

    `frequencies` is (tables, levels) uint16, one table per channel or one for all. Each is at least 1, and those of a
    table sum to 65536. `lanes` is the number of interleaved states.

    Raises:
        InputError: on construction, if the values break these rules.

    """

    frequencies: NDArray[np.uint16]
    lanes: int

    def __post_init__(self) -> None:
        table = self.frequencies
        if table.dtype != np.uint16 or table.ndim != 2 or not table.shape[0] or not 2 <= table.shape[1] <= 256:
            msg = f"frequencies are {table.dtype} of shape {table.shape}: give uint16 of (tables, 2 to 256 levels)"
            raise InputError(msg)
        if not table.all() or (table.sum(axis=1, dtype=np.int64) != _TOTAL).any():
            msg = f"every frequency must be at least 1, and those of a table sum to {_TOTAL}: use from_counts"
            raise InputError(msg)
        if not 1 <= self.lanes <= MAX_LANES:
            msg = f"lanes is {self.lanes}: give 1 to {MAX_LANES}"
            raise InputError(msg)

    @classmethod
    def from_counts(cls, counts: NDArray[np.integer[Any]], *, images: int) -> Self:
        """Make tables from the counts of each symbol, (tables, levels), in `images` images together."""
        one_lane = cls(frequencies=normalise(counts), lanes=1)
        bits = float((counts * one_lane.symbol_bits).sum())
        lanes = min(int(bits / 8 / max(images, 1)) // _LANE_BYTES, MAX_LANES)
        return replace(one_lane, lanes=lanes) if lanes >= _FEWEST_LANES else one_lane

    @property
    def levels(self) -> int:
        """The number of symbols."""
        return self.frequencies.shape[1]

    @property
    def symbol_bits(self) -> NDArray[np.float64]:
        """The bits that each symbol costs an ideal coder with these tables, (tables, levels)."""
        return PRECISION - np.log2(self.frequencies.astype(np.float64))

    def entries(self, symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return each symbol's place in the raveled tables."""
        return self.tables_of(symbols.size) * self.levels + symbols

    def tables_of(self, count: int) -> NDArray[np.int64]:
        """Return the number of the table that each of `count` symbols uses."""
        return np.repeat(np.arange(len(self.frequencies), dtype=np.int64), self.positions(count))

    def positions(self, count: int) -> int:
        """Return how many of `count` symbols use each table.

        Raises:
            InputError: not the same number for each.

        """
        tables = len(self.frequencies)
        if count % tables:
            msg = f"{count} symbols cannot be shared out evenly among {tables} tables"
            raise InputError(msg)
        return count // tables


@dataclass(frozen=True, eq=False)
class Rans:
    """Interleaved rANS with static tables.

        payload = states, 4 bytes each, one per lane | words, 2 bytes each; little endian

    - Symbol i belongs to lane i mod lanes. There are never more lanes than symbols; no symbols are no bytes.
    - A table's symbols follow each other in [0, 65536): the symbol of slot n is the last that starts at or below n.
    - To decode a symbol with start c and frequency f from state x: n = x mod 65536, x = f * (x div 65536) + n - c;
      and if x is now below 65536, x = 65536 * x + the next word. Symbols are decoded in order, and a word goes to
      the lane that needs one first.
    - A state MUST be at least 65536. After the last symbol each MUST be 65536 and no word may be left.
    - An encoder does the same backwards, starting with all states at 65536. There is one encoding of given symbols.

    Args:
        tables: What the symbols are expected to be.
        compiled: Whether the compiled coder is used, or the one in numpy. Both give the same bytes, symbols and errors.

    """

    tables: RansTables
    compiled: bool = compiled_rans.AVAILABLE

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Encode the last symbol first."""
        check_symbols(symbols, levels=self.tables.levels)
        if symbols.size == 0:
            return b""
        self.tables.positions(symbols.size)  # refuses what the tables cannot share out
        return self._coder.encode(symbols)

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Decode the first symbol first."""
        if count == 0:
            return decode_nothing(payload)
        self.tables.positions(count)
        head = self._lanes(count) * STATE_BYTES
        if len(payload) < head or len(payload) % 2:
            msg = (
                f"{self._lanes(count)} states and whole words are at least {head} bytes and an even number, "
                f"got {len(payload)}"
            )
            raise PayloadError(msg)
        return self._coder.decode(payload, count)

    def sizes(self, symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the length of `encode` for each row of (images, symbols); in numpy, many times faster than encoding.

        Without the compiled coder all rows take one step together, and only their states are kept.
        """
        count = symbols.shape[1]
        if self.compiled or count == 0 or self._lanes(count) > 1:
            return np.array([len(self.encode(row)) for row in symbols], np.int64)
        check_symbols(symbols.ravel(), levels=self.tables.levels)
        self.tables.positions(count)
        return self._numpy_coder.sizes(symbols)

    def max_bytes(self, count: int) -> int:
        """Return a bound: no symbol takes more than a word."""
        return self._lanes(count) * STATE_BYTES + count * 2

    def _lanes(self, count: int) -> int:
        return min(self.tables.lanes, count)

    @cached_property
    def _numpy_coder(self) -> NumpyRans:
        return NumpyRans(self.tables.frequencies, self.tables.lanes)

    @cached_property
    def _coder(self) -> CompiledRans | NumpyRans:
        return CompiledRans(self.tables.frequencies, self.tables.lanes) if self.compiled else self._numpy_coder


def sizes_of_sets(
    sets: Sequence[RansTables],
    symbols: NDArray[np.uint8],
    set_of: NDArray[np.int64],
    *,
    compiled: bool = compiled_rans.AVAILABLE,
) -> NDArray[np.int64]:
    """Return the length of `Rans.encode` for each row of (images, symbols), each with one of several sets of tables.

    Args:
        sets: The tables, all of the same shape.
        symbols: The symbols of each image.
        set_of: The place in `sets` of each image's tables.
        compiled: As for `Rans`. Without it, images of all sets take one step together.

    """
    count = symbols.shape[1]
    if not compiled and count and all(min(tables.lanes, count) == 1 for tables in sets):
        check_symbols(symbols.ravel(), levels=sets[0].levels)
        sets[0].positions(count)
        return sizes_alone(np.stack([tables.frequencies for tables in sets]), symbols, set_of)
    lengths = np.zeros(len(symbols), np.int64)
    for number, tables in enumerate(sets):
        lengths[set_of == number] = Rans(tables, compiled).sizes(symbols[set_of == number])
    return lengths


def rans_coder() -> Literal["compiled", "numpy"]:
    """Return which coder this installation uses: "compiled" where the wheel has it, else "numpy", which is slower.

    Examples:
        >>> rans_coder() in ("compiled", "numpy")
        True

    """
    return "compiled" if compiled_rans.AVAILABLE else "numpy"


def count_symbols(symbols: NDArray[np.uint8], *, channel_axis: int, levels: int) -> NDArray[np.int64]:
    """Return how often each symbol comes up in each channel, (channels, levels).

    Args:
        symbols: Quantised latents of some images, (images, *shape).
        channel_axis: The axis of the channels in one image's shape.
        levels: The number of symbols.

    """
    channels = symbols.shape[channel_axis + 1]
    rows = np.moveaxis(symbols, channel_axis + 1, 0).reshape(channels, -1)
    entries = rows + np.arange(channels, dtype=np.int64)[:, None] * levels
    return np.bincount(entries.ravel(), minlength=channels * levels).reshape(channels, levels).astype(np.int64)


def normalise(counts: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
    """Scale each row of counts to integers that sum to 65536, each at least 1; a row of zeros becomes uniform.

    Every symbol is given 1. The rest is shared out in proportion to the counts, rounded down; what is left over goes
    to the largest remainders, the lower symbol first among equals. All in integers: the same on every machine.

    Raises:
        InputError: not (tables, 2 to 256 levels) of counts that are 0 to 2 ** 40.

    """
    if counts.ndim != 2 or not 2 <= counts.shape[1] <= 256 or not np.issubdtype(counts.dtype, np.integer):
        msg = f"counts are {counts.dtype} of shape {counts.shape}: give integers of (tables, 2 to 256 levels)"
        raise InputError(msg)
    if counts.size and not 0 <= int(counts.min()) <= int(counts.max()) <= 2**40:
        msg = f"counts go from {counts.min()} to {counts.max()}: give 0 to 2 ** 40"
        raise InputError(msg)
    levels = counts.shape[1]
    weights = counts.astype(np.int64)
    weights[weights.sum(axis=1) == 0] = 1
    totals = weights.sum(axis=1, keepdims=True)
    shares, remainders = np.divmod(weights * (_TOTAL - levels), totals)
    frequencies = shares + 1
    left_over = _TOTAL - frequencies.sum(axis=1, keepdims=True)
    order = np.argsort(-remainders, axis=1, kind="stable")
    frequencies[np.arange(len(counts))[:, None], order] += np.arange(levels) < left_over
    return frequencies.astype(np.uint16)
