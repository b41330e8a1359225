"""Entropy coding with static integer tables: range asymmetric numeral systems (rANS), interleaved.

Duda, "Asymmetric numeral systems" (2013); interleaving after Giesen (2014). The tables are made once, from how often
each symbol came up, and stored with the codec. Encoding and decoding are integer arithmetic only, so that every
machine gives the same bytes.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from isplit.codec.coders import check_symbols, decode_nothing
from isplit.errors import InputError, PayloadError

PRECISION = 16
"""Frequencies sum to 2 ** PRECISION: fine enough that the 1 kept for each symbol never seen costs next to nothing."""

MAX_LANES = 1024

CODER_BYTES = 4
"""Bytes that a lone lane adds to the entropy: it ends with a state of 4 bytes, and words are whole."""

_TOTAL = 1 << PRECISION
_MASK = _TOTAL - 1
_START = 1 << 16  # lower end of the states' range [2**16, 2**32); both the encoder's first state and the decoder's last
_WORD_BITS = 16
_STATE_BYTES = 4

# One lane is a Python loop; vectors overtake it at about 50 lanes (benchmarks/codec.py). A lane costs 3 bytes: a state
# of 4, less what of it is information. So one lane up to 8 KiB, and above it one per 128 bytes, which is 2.3 %.
_LANE_BYTES = 128
_FEWEST_LANES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class RansTables:
    """How often each symbol is expected, as integers.

    `frequencies` is (tables, levels) uint16, one table per channel or one for all; each is at least 1, and those of
    a table sum to 65536. `lanes` is the number of interleaved states.

    Raises:
        InputError: on construction, when that is not so.

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
        """Make tables from how often each symbol came up, (tables, levels), in so many images together."""
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
        """What each symbol costs an ideal coder with these tables, in bits (tables, levels)."""
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
    """

    tables: RansTables

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Encode the last symbol first."""
        check_symbols(symbols, levels=self.tables.levels)
        if symbols.size == 0:
            return b""
        entries = self.tables.entries(symbols)
        frequencies, starts = self._frequencies[entries], self._starts[entries]
        if (lanes := self._lanes(symbols.size)) == 1:
            return _encode_alone(frequencies.tolist(), starts.tolist())
        return _encode_lanes(frequencies, starts, lanes)

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Decode the first symbol first."""
        if count == 0:
            return decode_nothing(payload)
        lanes = self._lanes(count)
        head = lanes * _STATE_BYTES
        if len(payload) < head or len(payload) % 2:
            msg = f"{lanes} states and whole words are at least {head} bytes and an even number, got {len(payload)}"
            raise PayloadError(msg)
        states = np.frombuffer(payload[:head], "<u4").astype(np.int64)
        words = np.frombuffer(payload[head:], "<u2").astype(np.int64)
        if (states < _START).any():
            msg = f"a rans state is {states.min()}, not at least {_START}"
            raise PayloadError(msg)
        if lanes == 1:
            return self._decode_alone(int(states[0]), words.tolist(), count)
        return self._decode_lanes(states, words, count)

    def sizes(self, symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the length of `encode` for each row of (images, symbols), many times faster than encoding them.

        All rows take one step together, and only their states are kept.
        """
        images, count = symbols.shape
        if count == 0 or self._lanes(count) > 1:
            return np.array([len(self.encode(row)) for row in symbols], np.int64)
        check_symbols(symbols.ravel(), levels=self.tables.levels)
        columns = np.ascontiguousarray(symbols.T)
        offsets = self.tables.tables_of(count) * self.tables.levels
        states, words = np.full(images, _START, np.int64), np.zeros(images, np.int64)
        for column, offset in zip(columns[::-1], offsets[::-1], strict=True):
            entries = column + offset
            frequencies = self._frequencies[entries]
            full = states >= frequencies << _WORD_BITS
            words += full
            states >>= full * _WORD_BITS
            whole, rest = np.divmod(states, frequencies)
            states = (whole << PRECISION) + rest + self._starts[entries]
        return _STATE_BYTES + 2 * words

    def max_bytes(self, count: int) -> int:
        """Return a bound: no symbol takes more than a word."""
        return self._lanes(count) * _STATE_BYTES + count * 2

    def _lanes(self, count: int) -> int:
        return min(self.tables.lanes, count)

    @cached_property
    def _frequencies(self) -> NDArray[np.int64]:
        return self.tables.frequencies.astype(np.int64).ravel()

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each symbol begins within its own table."""
        frequencies = self.tables.frequencies.astype(np.int64)
        return (np.cumsum(frequencies, axis=1) - frequencies).ravel()

    @cached_property
    def _starts_in_row(self) -> NDArray[np.int64]:
        """Where each symbol begins when the tables are laid end to end: sorted, so that one search serves all."""
        rows = np.arange(len(self.tables.frequencies), dtype=np.int64)
        return self._starts + np.repeat(rows << PRECISION, self.tables.levels)

    @cached_property
    def _rows(self) -> list[tuple[list[int], list[int]]]:
        """Each table's frequencies and starts, as lists."""
        levels = self.tables.levels
        frequencies: list[int] = self._frequencies.tolist()
        starts: list[int] = self._starts.tolist()
        return [(frequencies[i : i + levels], starts[i : i + levels]) for i in range(0, len(starts), levels)]

    def _decode_alone(self, state: int, words: list[int], count: int) -> NDArray[np.uint8]:
        """Decode one lane in plain Python, which is faster than vectors of one element."""
        symbols = bytearray()
        next_word = iter(words)
        positions = self.tables.positions(count)
        for frequencies, starts in self._rows:
            for _ in range(positions):
                slot = state & _MASK
                symbol = bisect_right(starts, slot) - 1
                state = frequencies[symbol] * (state >> PRECISION) + slot - starts[symbol]
                if state < _START:
                    word = next(next_word, None)
                    if word is None:
                        raise _bad_end(f"ends after {len(symbols)} of {count} symbols")
                    state = state << _WORD_BITS | word
                symbols.append(symbol)
        if state != _START or next(next_word, None) is not None:
            raise _bad_end(f"does not end with its {count} symbols")
        return np.frombuffer(symbols, np.uint8)

    def _decode_lanes(self, states: NDArray[np.int64], words: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
        """Decode a symbol of every lane at a time."""
        lanes = states.size
        tables = self.tables.tables_of(count)
        symbols = np.empty(count, np.uint8)
        read = 0
        for first in range(0, count, lanes):
            table = tables[first : first + lanes]
            now = states[: table.size]  # in the last round there may be fewer symbols than lanes
            slots = (now & _MASK) + (table << PRECISION)
            entries = np.searchsorted(self._starts_in_row, slots, side="right") - 1
            symbols[first : first + lanes] = entries - table * self.tables.levels
            now[:] = self._frequencies[entries] * (now >> PRECISION) + slots - self._starts_in_row[entries]
            (short,) = np.nonzero(now < _START)
            if read + short.size > words.size:
                raise _bad_end(f"ends after {first} of {count} symbols")
            now[short] = now[short] << _WORD_BITS | words[read : read + short.size]
            read += short.size
        if read != words.size or (states != _START).any():
            raise _bad_end(f"does not end with its {count} symbols")
        return symbols


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
    ranks = np.argsort(np.argsort(-remainders, axis=1, kind="stable"), axis=1)
    return (frequencies + (ranks < left_over)).astype(np.uint16)


def _encode_alone(frequencies: list[int], starts: list[int]) -> bytes:
    """Encode one lane in plain Python; see `Rans` for what it undoes."""
    state = _START
    words: list[int] = []
    for frequency, start in zip(reversed(frequencies), reversed(starts), strict=True):
        if state >= frequency << _WORD_BITS:
            words.append(state & 0xFFFF)
            state >>= _WORD_BITS
        whole, rest = divmod(state, frequency)
        state = (whole << PRECISION) + rest + start
    words.reverse()
    return state.to_bytes(_STATE_BYTES, "little") + np.array(words, "<u2").tobytes()


def _encode_lanes(frequencies: NDArray[np.int64], starts: NDArray[np.int64], lanes: int) -> bytes:
    """Encode a symbol of every lane at a time."""
    states = np.full(lanes, _START, np.int64)
    words: list[bytes] = []
    for first in range((frequencies.size - 1) // lanes * lanes, -1, -lanes):
        frequency = frequencies[first : first + lanes]
        now = states[: frequency.size]  # in the last round, which comes first here, there may be fewer symbols
        (full,) = np.nonzero(now >= frequency << _WORD_BITS)
        words.append((now[full] & 0xFFFF).astype("<u2").tobytes())
        now[full] >>= _WORD_BITS
        whole, rest = np.divmod(now, frequency)
        now[:] = (whole << PRECISION) + rest + starts[first : first + lanes]
    return states.astype("<u4").tobytes() + b"".join(reversed(words))


def _bad_end(what: str) -> PayloadError:
    return PayloadError(f"the rans payload {what}: it is damaged, or was made with other tables")
