"""Interleaved rANS in numpy and plain Python: the compiled coder's reference, and its stand-in where it is missing.

The format is described at `isplit.codec.rans.Rans`, which checks what comes in.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isplit.errors import PayloadError

PRECISION = 16
"""Frequencies sum to 2 ** PRECISION: fine enough that the 1 kept for each symbol never seen costs next to nothing."""

STATE_BYTES = 4

_MASK = (1 << PRECISION) - 1
_START = 1 << 16  # lower end of the states' range [2**16, 2**32); both the encoder's first state and the decoder's last
_WORD_BITS = 16
_LOOKED_UP = 256
"""Symbols of each image whose frequencies are looked up at once where only lengths are asked for."""


@dataclass(frozen=True, eq=False)
class NumpyRans:
    """The reference coder of given tables.

    Args:
        frequencies: uint16 (tables, levels), as `RansTables` has checked them.
        lanes: The number of interleaved states, at least 1; fewer symbols have fewer.

    """

    frequencies: NDArray[np.uint16]
    lanes: int

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Return the payload of symbols, at least one, each below the number of levels."""
        entries = self._tables_of(symbols.size) * self.frequencies.shape[1] + symbols
        frequencies, starts = self._frequencies[entries], self._starts[entries]
        if (lanes := min(self.lanes, symbols.size)) == 1:
            return _encode_alone(frequencies.tolist(), starts.tolist())
        return _encode_lanes(frequencies, starts, lanes)

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Return the `count` symbols, at least one, of a payload of whole words that has room for the states.

        Raises:
            PayloadError: the payload does not hold exactly so many symbols.

        """
        lanes = min(self.lanes, count)
        head = lanes * STATE_BYTES
        states = np.frombuffer(payload[:head], "<u4").astype(np.int64)
        words = np.frombuffer(payload[head:], "<u2").astype(np.int64)
        if (states < _START).any():
            raise damaged(f"has the state {states[states < _START][0]}")
        if lanes == 1:
            return self._decode_alone(int(states[0]), words.tolist(), count)
        return self._decode_lanes(states, words, count)

    def sizes(self, symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the length of `encode` for each row of (images, symbols), for a single lane."""
        return sizes_alone(self.frequencies[None], symbols, np.zeros(len(symbols), np.int64))

    def _tables_of(self, count: int) -> NDArray[np.int64]:
        """Return the number of the table that each of `count` symbols uses."""
        tables = len(self.frequencies)
        return np.repeat(np.arange(tables, dtype=np.int64), count // tables)

    @cached_property
    def _frequencies(self) -> NDArray[np.int64]:
        return self.frequencies.astype(np.int64).ravel()

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each symbol begins within its own table."""
        return starts_of(self.frequencies).ravel()

    @cached_property
    def _starts_in_row(self) -> NDArray[np.int64]:
        """Where each symbol begins when the tables are laid end to end: sorted, so that one search serves all."""
        rows = np.arange(len(self.frequencies), dtype=np.int64)
        return self._starts + np.repeat(rows << PRECISION, self.frequencies.shape[1])

    @cached_property
    def _rows(self) -> list[tuple[list[int], list[int]]]:
        """Each table's frequencies and starts, as lists."""
        return list(zip(self.frequencies.tolist(), starts_of(self.frequencies).tolist(), strict=True))

    def _decode_alone(self, state: int, words: list[int], count: int) -> NDArray[np.uint8]:
        """Decode one lane in plain Python, which is faster than vectors of one element."""
        symbols = bytearray()
        next_word = iter(words)
        positions = count // len(self.frequencies)
        for frequencies, starts in self._rows:
            for _ in range(positions):
                slot = state & _MASK
                symbol = bisect_right(starts, slot) - 1
                state = frequencies[symbol] * (state >> PRECISION) + slot - starts[symbol]
                if state < _START:
                    word = next(next_word, None)
                    if word is None:
                        raise damaged(f"ends after {len(symbols)} of {count} symbols")
                    state = state << _WORD_BITS | word
                symbols.append(symbol)
        if state != _START or next(next_word, None) is not None:
            raise damaged(f"does not end with its {count} symbols")
        return np.frombuffer(symbols, np.uint8)

    def _decode_lanes(self, states: NDArray[np.int64], words: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
        """Decode a symbol of every lane at a time."""
        lanes = states.size
        tables = self._tables_of(count)
        symbols = np.empty(count, np.uint8)
        words_read = 0
        for first in range(0, count, lanes):
            table = tables[first : first + lanes]
            now = states[: table.size]  # in the last round there may be fewer symbols than lanes
            slots = (now & _MASK) + (table << PRECISION)
            entries = np.searchsorted(self._starts_in_row, slots, side="right") - 1
            symbols[first : first + lanes] = entries - table * self.frequencies.shape[1]
            now[:] = self._frequencies[entries] * (now >> PRECISION) + slots - self._starts_in_row[entries]
            (short,) = np.nonzero(now < _START)
            if words_read + short.size > words.size:
                raise damaged(f"ends after {first} of {count} symbols")
            now[short] = now[short] << _WORD_BITS | words[words_read : words_read + short.size]
            words_read += short.size
        if words_read != words.size or (states != _START).any():
            raise damaged(f"does not end with its {count} symbols")
        return symbols


def sizes_alone(
    frequencies: NDArray[np.uint16], symbols: NDArray[np.uint8], table_sets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the length of each row of symbols, encoded in a single lane with one of several sets of tables.

    All rows take one step together, and only their states are kept.

    Args:
        frequencies: (sets, tables, levels), each set as `RansTables` has checked it.
        symbols: (images, symbols), as many for each table.
        table_sets: The set of each image.

    """
    images, count = symbols.shape
    _, tables, levels = frequencies.shape
    every_frequency = frequencies.astype(np.int64).ravel()
    every_start = np.stack([starts_of(of_set) for of_set in frequencies]).ravel()
    tables_of = np.repeat(np.arange(tables, dtype=np.int64), count // tables)
    states, words = np.full(images, _START, np.int64), np.zeros(images, np.int64)
    for end in range(count, 0, -_LOOKED_UP):
        block = slice(max(0, end - _LOOKED_UP), end)
        entries = ((tables_of[block, None] + table_sets * tables) * levels + symbols[:, block].T)[::-1]
        widths = every_frequency[entries]
        for frequency, full_state, start in zip(widths, widths << _WORD_BITS, every_start[entries], strict=True):
            full = states >= full_state
            words += full
            states >>= full * _WORD_BITS
            whole, rest = np.divmod(states, frequency)
            states = (whole << PRECISION) + rest + start
    return STATE_BYTES + 2 * words


def starts_of(frequencies: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return where each symbol's slots begin within its own table, (tables, levels); below 65536."""
    widths = frequencies.astype(np.int64)
    return np.cumsum(widths, axis=1) - widths


def damaged(what: str) -> PayloadError:
    """Return the error of a payload that is no encoding with these tables."""
    return PayloadError(f"the rans payload {what}: it is damaged, or was made with other tables")


def _encode_alone(frequencies: list[int], starts: list[int]) -> bytes:
    """Encode one lane in plain Python."""
    state = _START
    words: list[int] = []
    for frequency, start in zip(reversed(frequencies), reversed(starts), strict=True):
        if state >= frequency << _WORD_BITS:
            words.append(state & 0xFFFF)
            state >>= _WORD_BITS
        whole, rest = divmod(state, frequency)
        state = (whole << PRECISION) + rest + start
    words.reverse()
    return state.to_bytes(STATE_BYTES, "little") + np.array(words, "<u2").tobytes()


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
