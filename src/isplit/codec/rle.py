"""Code runs of the most frequent symbol, usually zero, by their length.

This follows "Quantization and run-length coding are enough" (GLOBECOM 2023). isplit differs in packing the bits of the
other symbols, and in keeping a run among the literals if a token of its own would be longer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isplit.codec.coders import (
    bits_for,
    check_levels,
    check_symbols,
    decode_nothing,
    pack_bits,
    packed_bytes,
    unpack_bits,
)
from isplit.errors import PayloadError

# Five groups of seven bits: more than any count of symbols needs.
_MAX_LENGTH_BYTES = 5


@dataclass(frozen=True)
class Rle:
    """Writes runs of one symbol, and the rest as literals.

        payload = run symbol, 1 byte | lengths | literals
        lengths = run, literals, run, literals, ... : how many symbols of each kind follow, until all are counted

    - No symbols are no bytes; otherwise the run symbol MUST be below `levels`.
    - A length is in groups of seven bits, lowest first; the top bit of a byte says that another follows (LEB128). It
    MUST NOT be longer than needed, nor zero, but for the first run.
    - The lengths MUST sum to the number of symbols exactly; the last may be of either kind.
    - The literals are packed as in `Raw`: as many bits each as the levels need, zeros after the last.
    - An encoder MAY take any symbol as the run symbol and MAY write any run as literals. Ours takes the most frequent
    (the lowest of several), and writes runs of up to 16 bits as literals.
    """

    levels: int

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Write lengths, then literals."""
        check_symbols(symbols, levels=self.levels)
        if symbols.size == 0:
            return b""
        run_symbol = int(np.bincount(symbols, minlength=self.levels).argmax())
        in_run = _long_runs(symbols == run_symbol, longer_than=16 // bits_for(self.levels))
        edges = np.flatnonzero(np.diff(in_run)) + 1
        lengths: list[int] = np.diff(edges, prepend=0, append=symbols.size).tolist()
        if not in_run[0]:
            lengths.insert(0, 0)
        literals = pack_bits(symbols[~in_run], levels=self.levels)
        return bytes([run_symbol]) + b"".join(map(_write_length, lengths)) + literals

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Read lengths until `count` symbols are accounted for, then the literals."""
        if count == 0:
            return decode_nothing(payload)
        if not payload:
            msg = f"{count} symbols are never no bytes"
            raise PayloadError(msg)
        symbols = np.full(count, payload[0], np.uint8)
        check_levels(symbols[:1], levels=self.levels)
        literal = np.zeros(count, np.bool_)
        at, done, is_run = 1, 0, True
        while done < count:
            length, at = _read_length(payload, at)
            if length > count - done or (length == 0 and at > 2):
                what = "run" if is_run else "stretch of literals"
                msg = f"a {what} of {length} symbols is impossible where {count - done} are left"
                raise PayloadError(msg)
            if not is_run:
                literal[done : done + length] = True
            done += length
            is_run = not is_run
        symbols[literal] = unpack_bits(payload[at:], int(np.count_nonzero(literal)), levels=self.levels)
        return symbols

    def max_bytes(self, count: int) -> int:
        """Return an upper bound: all literals, and one more byte for each run that follows 128 or more of them."""
        return packed_bytes(count, levels=self.levels) + count // 64 + 2 + _MAX_LENGTH_BYTES if count else 0


def _long_runs(is_run_symbol: NDArray[np.bool_], *, longer_than: int) -> NDArray[np.bool_]:
    """Clear all stretches of True but those `longer_than` so many."""
    edges = np.flatnonzero(np.diff(is_run_symbol, prepend=False, append=False))
    kept = is_run_symbol.copy()
    for start, stop in edges.reshape(-1, 2).tolist():
        if stop - start <= longer_than:
            kept[start:stop] = False
    return kept


def _write_length(length: int) -> bytes:
    groups = bytearray()
    while length > 127:
        groups.append(length & 127 | 128)
        length >>= 7
    return bytes((*groups, length))


def _read_length(payload: bytes, at: int) -> tuple[int, int]:
    """Return the length that is written at `at`, and the position after it."""
    length = 0
    for i, byte in enumerate(payload[at : at + _MAX_LENGTH_BYTES]):
        length |= (byte & 127) << 7 * i
        if byte < 128:
            if byte == 0 and i > 0:
                break
            return length, at + i + 1
    msg = f"no length can be read at byte {at} of {len(payload)}"
    raise PayloadError(msg)
