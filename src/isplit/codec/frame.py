"""Put a short header before every payload that shows whether the payload arrived whole, and at the right codec.

Version 2, which codecs write:

    bytes  0-1    CRC-16 of the codec_id and the payload: CRC-CCITT (polynomial 0x1021), started from 0xFFFF
           2-     payload

Coder, shape and length are not in it: the request names the model, the model has one codec, and the transport knows
how long the frame is. The codec_id is the first 8 bytes of a SHA-256 over everything that decoding depends on. As it is
part of the check, a frame of another codec is refused as a damaged one is. The check finds every error within 16
neighbouring bits, and all but one in 65,536 of other errors.

Version 1, which the codecs of bundles from before November 2026 write and read:

    bytes  0-1    "iS"
           2      version of this format, 1
           3      coder, see CODER_IDS
           4-11   codec_id
           12-15  length of the payload that follows, in bytes
           16-19  CRC-32 (zlib's) of bytes 0-15 and the payload
           20-    payload

Integers are little endian. The codec says which version it writes and reads. A receiver MUST refuse a frame in which
any field differs from what it expects or from the frame itself; nothing may follow the payload.
"""

import binascii
import struct
import zlib
from dataclasses import dataclass
from typing import Literal, Self

from isplit.codec.coders import CODER_IDS
from isplit.errors import PayloadError

FrameVersion = Literal[1, 2]

HEADER_BYTES = 2
"""The length of the header that new codecs write."""

MAGIC = b"iS"
VERSION_1 = 1
HEADER_BYTES_1 = 20
"""The length of a header of version 1."""

CODEC_ID_BYTES = 8

_FIELDS = struct.Struct("<2sBB8sI")
_CRC = struct.Struct("<I")
_CRC_START = 0xFFFF


@dataclass(frozen=True, kw_only=True)
class FrameHeader:
    """Everything that a frame of version 1 says about itself."""

    coder: int
    codec_id: bytes
    payload_bytes: int
    crc: int

    @classmethod
    def read(cls, frame: bytes) -> Self:
        """Read the header of a frame of version 1. The codec_id, the length and the CRC are not checked here.

        Raises:
            PayloadError: shorter than a header, or another magic, version, or an unknown coder.

        """
        if len(frame) < HEADER_BYTES_1:
            msg = f"the frame has {len(frame)} bytes, fewer than its header's {HEADER_BYTES_1}"
            raise PayloadError(msg)
        magic, version, coder, codec_id, payload_bytes = _FIELDS.unpack_from(frame)
        if magic != MAGIC:
            msg = f"the frame begins with {magic.hex()}, not with isplit's {MAGIC.hex()}: it is something else"
            raise PayloadError(msg)
        if version != VERSION_1:
            msg = f"the frame has version {version}, this isplit reads {VERSION_1}: use the same on both sides"
            raise PayloadError(msg)
        if coder not in CODER_IDS.values():
            known = ", ".join(f"{number} {name}" for name, number in CODER_IDS.items())
            msg = f"the frame names coder {coder}; known are {known}"
            raise PayloadError(msg)
        (crc,) = _CRC.unpack_from(frame, _FIELDS.size)
        return cls(coder=coder, codec_id=codec_id, payload_bytes=payload_bytes, crc=crc)


def header_bytes(version: FrameVersion) -> int:
    """Return the length of a header of that version."""
    return HEADER_BYTES if version == 2 else HEADER_BYTES_1


def pack_frame(payload: bytes, *, coder: int, codec_id: bytes, version: FrameVersion = 2) -> bytes:
    """Return the frame of a payload that the codec with this id and coder has made."""
    if version == 2:
        return _check_of(payload, codec_id) + payload
    fields = _FIELDS.pack(MAGIC, VERSION_1, coder, codec_id, len(payload))
    return fields + _CRC.pack(_checksum(fields, payload)) + payload


def unpack_frame(
    frame: bytes, *, coder: int, codec_id: bytes, max_payload_bytes: int, version: FrameVersion = 2
) -> bytes:
    """Return the payload of a frame of that version, once every field is as it must be.

    `max_payload_bytes` is the most that the codec can have made. It is checked first, before anything is copied.

    Raises:
        PayloadError: the frame is damaged, hostile, or meant for another codec.

    """
    if version == 1:
        return _unpack_version_1(frame, coder=coder, codec_id=codec_id, max_payload_bytes=max_payload_bytes)
    if len(frame) < HEADER_BYTES:
        msg = f"the frame has {len(frame)} bytes, fewer than its header's {HEADER_BYTES}"
        raise PayloadError(msg)
    if len(frame) - HEADER_BYTES > max_payload_bytes:
        msg = f"the frame holds {len(frame) - HEADER_BYTES} bytes, the codec's payloads are at most {max_payload_bytes}"
        raise PayloadError(msg)
    payload = frame[HEADER_BYTES:]
    if (check := _check_of(payload, codec_id)) != frame[:HEADER_BYTES]:
        older = " (it looks like one of version 1)" if frame[:3] == MAGIC + bytes([VERSION_1]) else ""
        msg = (
            f"the frame's CRC-16 is {frame[:HEADER_BYTES].hex()}, its content's is {check.hex()} for codec "
            f"{codec_id.hex()}: it was damaged on the way{older}, or it is another codec's: device and server must "
            "hold the same bundle"
        )
        raise PayloadError(msg)
    return payload


def _check_of(payload: bytes, codec_id: bytes) -> bytes:
    return binascii.crc_hqx(payload, binascii.crc_hqx(codec_id, _CRC_START)).to_bytes(2, "little")


def _unpack_version_1(frame: bytes, *, coder: int, codec_id: bytes, max_payload_bytes: int) -> bytes:
    header = FrameHeader.read(frame)
    if header.coder != coder:
        msg = f"the frame names coder {header.coder}, the codec uses {coder}"
        raise PayloadError(msg)
    if header.codec_id != codec_id:
        msg = (
            f"the frame is for codec {header.codec_id.hex()}, this is {codec_id.hex()}: "
            "device and server must hold the same bundle"
        )
        raise PayloadError(msg)
    if header.payload_bytes > max_payload_bytes:
        msg = (
            f"the frame declares a payload of {header.payload_bytes} bytes, the codec's are at most {max_payload_bytes}"
        )
        raise PayloadError(msg)
    if header.payload_bytes != len(frame) - HEADER_BYTES_1:
        msg = f"the frame declares a payload of {header.payload_bytes} bytes and holds {len(frame) - HEADER_BYTES_1}"
        raise PayloadError(msg)
    payload = frame[HEADER_BYTES_1:]
    if (crc := _checksum(frame[: _FIELDS.size], payload)) != header.crc:
        msg = f"the frame's CRC-32 is {header.crc:08x}, its content's is {crc:08x}: it was damaged on the way"
        raise PayloadError(msg)
    return payload


def _checksum(fields: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(fields))
