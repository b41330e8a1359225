"""Interleaved rANS in C, where the wheel brought it: the same bytes as numpy_rans.py, in less time.

The extension is optional. Where it could not be compiled, or is not of this processor, the numpy coder runs.
"""

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from isplit.codec.numpy_rans import damaged, starts_of

native: ModuleType | None
try:
    from isplit.codec import _rans as native  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType] - a C file
except ImportError:
    native = None

AVAILABLE = native is not None
"""Whether this installation has the compiled coder."""


@dataclass(frozen=True, eq=False)
class CompiledRans:
    """The compiled coder of given tables; it may be used where `AVAILABLE` is True.

    Long payloads are coded without holding Python's lock, so that a server's threads go on meanwhile.

    Args:
        frequencies: uint16 (tables, levels), as `RansTables` has checked them.
        lanes: The number of interleaved states, at least 1; fewer symbols have fewer.

    """

    frequencies: NDArray[np.uint16]
    lanes: int

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Return the payload of symbols, at least one, each below the number of levels."""
        assert native is not None
        return native.encode(np.ascontiguousarray(symbols), *self._tables)

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Return the `count` symbols, at least one, of a payload of whole words that has room for the states.

        Raises:
            PayloadError: the payload does not hold exactly so many symbols.

        """
        assert native is not None
        symbols = np.empty(count, np.uint8)
        try:
            native.decode(payload, symbols, *self._tables)
        except ValueError as error:
            raise damaged(str(error)) from None
        return symbols

    @cached_property
    def _tables(self) -> tuple[NDArray[np.uint16], NDArray[np.uint16], int, int]:
        """The arguments of the extension's functions that stay the same."""
        frequencies = np.ascontiguousarray(self.frequencies)
        return frequencies, starts_of(frequencies).astype(np.uint16), len(frequencies), self.lanes
