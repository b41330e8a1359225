"""Turn symbols into bytes and back without loss: the contract of a coder, and the two simplest ones.

A coder takes a flat uint8 array of symbols below `levels`, channel after channel. An empty array gives no bytes. Bytes
from the wire are checked before memory is allocated: the caller tells a coder how many symbols to expect, and the
payload does not.
"""

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from isplit.codec.quantise import MAX_LEVELS
from isplit.errors import InputError, PayloadError
from isplit.records import CoderName

CODER_IDS: dict[CoderName, int] = {"raw": 1, "zstd": 2, "rle": 3, "rans": 4}
"""The number of each coder in a frame, 1 to 255. It is permanent: a number is never given to another coder."""

# A higher level does not shorten latents of some hundred bytes, and is slower.
_ZSTD_LEVEL = 12


class Coder(Protocol):
    """Turns symbols into bytes and back; equal symbols give equal bytes on every machine."""

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Return the bytes of a flat array of symbols.

        Raises:
            InputError: a symbol is not below the coder's number of levels.

        """
        ...

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Return the `count` symbols of a payload.

        Raises:
            PayloadError: the payload does not hold exactly so many symbols.

        """
        ...

    def max_bytes(self, count: int) -> int:
        """Return the most bytes that `encode` can return for `count` symbols; longer payloads are refused."""
        ...


@dataclass(frozen=True)
class Raw:
    """Writes symbols in as many bits as the levels need, the highest bit first; the last byte is filled with zeros."""

    levels: int

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Pack the symbols."""
        check_symbols(symbols, levels=self.levels)
        return pack_bits(symbols, levels=self.levels)

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Unpack the symbols."""
        return unpack_bits(payload, count, levels=self.levels)

    def max_bytes(self, count: int) -> int:
        """Return the length, which is always the same."""
        return packed_bytes(count, levels=self.levels)


@dataclass(frozen=True)
class Zstd:
    """Writes one Zstandard frame (RFC 8878) of one byte per symbol, with its content size and without a checksum."""

    levels: int

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Compress at a fixed level. The bytes depend on the version of libzstd; the symbols they hold do not."""
        check_symbols(symbols, levels=self.levels)
        if symbols.size == 0:
            return b""
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True).compress(symbols.tobytes())

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Decompress a payload after checking that its frame declares exactly `count` bytes."""
        if count == 0:
            return decode_nothing(payload)
        try:
            declared = zstandard.get_frame_parameters(payload).content_size
            if declared != count:
                known = "no content size" if declared == zstandard.CONTENTSIZE_UNKNOWN else f"{declared} bytes"
                msg = f"the zstd payload declares {known}, the codec has {count} symbols"
                raise PayloadError(msg)
            content = _decompressors.zstd.decompress(payload, max_output_size=count, allow_extra_data=False)
        except zstandard.ZstdError as error:
            msg = f"the zstd payload is damaged: {error}"
            raise PayloadError(msg) from error
        if len(content) != count:
            msg = f"the zstd payload holds {len(content)} bytes, the codec has {count} symbols"
            raise PayloadError(msg)
        symbols = np.frombuffer(content, np.uint8).copy()
        check_levels(symbols, levels=self.levels)
        return symbols

    def max_bytes(self, count: int) -> int:
        """Return zstd's own bound (ZSTD_COMPRESSBOUND)."""
        return count + (count >> 8) + 64 + 18


class _Decompressors(threading.local):
    """A decompressor for each thread: making one takes as long as decoding a small payload, and none may be shared."""

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdDecompressor()


_decompressors = _Decompressors()


def check_symbols(symbols: NDArray[np.uint8], *, levels: int) -> None:
    """Refuse to encode anything but a flat array of symbols below `levels`.

    Raises:
        InputError: it is not.

    """
    if symbols.ndim != 1 or symbols.dtype != np.uint8:
        msg = f"symbols are {symbols.dtype} of shape {symbols.shape}: give a flat uint8 array"
        raise InputError(msg)
    if symbols.size and int(symbols.max()) >= levels:
        msg = f"symbol {int(symbols.max())} is not below {levels}: quantise with as many levels as the coder has"
        raise InputError(msg)


def check_levels(symbols: NDArray[np.uint8], *, levels: int) -> None:
    """Refuse decoded symbols that the quantiser does not have.

    Raises:
        PayloadError: a symbol is not below `levels`.

    """
    if levels < MAX_LEVELS and symbols.size and int(symbols.max()) >= levels:
        msg = f"the payload holds symbol {int(symbols.max())}, the codec has {levels} levels"
        raise PayloadError(msg)


def packed_bytes(count: int, *, levels: int) -> int:
    """Return the length of `count` symbols in as many bits as `levels` need."""
    return (count * bits_for(levels) + 7) // 8


def bits_for(levels: int) -> int:
    """Return the number of bits that distinguish `levels` symbols."""
    return (levels - 1).bit_length()


def pack_bits(symbols: NDArray[np.uint8], *, levels: int) -> bytes:
    """Return the lowest bits of the symbols one after another, the highest first, and zeros after the last."""
    bits = bits_for(levels)
    if bits == 8:
        return symbols.tobytes()
    return np.packbits(np.unpackbits(symbols[:, None], axis=1)[:, 8 - bits :]).tobytes()


def unpack_bits(packed: bytes, count: int, *, levels: int) -> NDArray[np.uint8]:
    """Undo `pack_bits`.

    Raises:
        PayloadError: another length, bits set after the last symbol, or a symbol that is not below `levels`.

    """
    bits = bits_for(levels)
    expected = packed_bytes(count, levels=levels)
    if len(packed) != expected:
        msg = f"{count} symbols of {bits} bits are {expected} bytes, got {len(packed)}"
        raise PayloadError(msg)
    if bits == 8:
        symbols = np.frombuffer(packed, np.uint8).copy()
    else:
        flat = np.unpackbits(np.frombuffer(packed, np.uint8))
        if flat[count * bits :].any():
            msg = f"bits are set after the last of {count} symbols"
            raise PayloadError(msg)
        # packbits fills a row's last byte on the right: shift the bits back to the bottom.
        symbols = np.packbits(flat[: count * bits].reshape(count, bits), axis=1)[:, 0] >> np.uint8(8 - bits)
    check_levels(symbols, levels=levels)
    return symbols


def decode_nothing(payload: bytes) -> NDArray[np.uint8]:
    """Return no symbols from no bytes.

    Raises:
        PayloadError: there are bytes.

    """
    if payload:
        msg = f"no symbols are no bytes, got {len(payload)}"
        raise PayloadError(msg)
    return np.empty(0, np.uint8)
