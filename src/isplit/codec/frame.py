"""The frame around every payload: what made it, how long it is, and whether it arrived whole.

    bytes  0-1    "iS"
           2      version of this format, 1
           3      coder, see CODER_IDS
           4-11   codec_id, the first 8 bytes of a SHA-256 over everything that decoding depends on
           12-15  length of the payload that follows, in bytes
           16-19  CRC-32 (zlib's) of bytes 0-15 and the payload
           20-    payload

Integers are little endian. The shape of what is in the payload follows from the codec_id alone. A receiver MUST refuse
a frame in which any field differs from what it expects or from the frame itself; nothing may follow the payload.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Self

from isplit.codec.coders import CODER_IDS
from isplit.errors import PayloadError

MAGIC = b"iS"
VERSION = 1
HEADER_BYTES = 20
CODEC_ID_BYTES = 8

_FIELDS = struct.Struct("<2sBB8sI")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, kw_only=True)
class FrameHeader:
    """What a frame says about itself. A server that hosts several codecs finds the right one by `codec_id`."""

    coder: int
    codec_id: bytes
    payload_bytes: int
    crc: int

    @classmethod
    def read(cls, frame: bytes) -> Self:
        """Read the header of a frame. The codec_id, the length and the CRC are not checked here.

        Raises:
            PayloadError: shorter than a header, or another magic, version, or an unknown coder.

        """
        if len(frame) < HEADER_BYTES:
            msg = f"the frame has {len(frame)} bytes, fewer than its header's {HEADER_BYTES}"
            raise PayloadError(msg)
        magic, version, coder, codec_id, payload_bytes = _FIELDS.unpack_from(frame)
        if magic != MAGIC:
            msg = f"the frame begins with {magic.hex()}, not with isplit's {MAGIC.hex()}: it is something else"
            raise PayloadError(msg)
        if version != VERSION:
            msg = f"the frame has version {version}, this isplit reads {VERSION}: use the same on both sides"
            raise PayloadError(msg)
        if coder not in CODER_IDS.values():
            known = ", ".join(f"{number} {name}" for name, number in CODER_IDS.items())
            msg = f"the frame names coder {coder}; known are {known}"
            raise PayloadError(msg)
        (crc,) = _CRC.unpack_from(frame, _FIELDS.size)
        return cls(coder=coder, codec_id=codec_id, payload_bytes=payload_bytes, crc=crc)


def pack_frame(payload: bytes, *, coder: int, codec_id: bytes) -> bytes:
    """Return the frame of a payload that the codec with this id and coder has made."""
    fields = _FIELDS.pack(MAGIC, VERSION, coder, codec_id, len(payload))
    return fields + _CRC.pack(_checksum(fields, payload)) + payload


def unpack_frame(frame: bytes, *, coder: int, codec_id: bytes, max_payload_bytes: int) -> bytes:
    """Return the payload of a frame, once every field is as it must be.

    `max_payload_bytes` is the most that the codec can have made. It is checked first, before anything is copied.

    Raises:
        PayloadError: the frame is damaged, hostile, or meant for another codec.

    """
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
    if header.payload_bytes != len(frame) - HEADER_BYTES:
        msg = f"the frame declares a payload of {header.payload_bytes} bytes and holds {len(frame) - HEADER_BYTES}"
        raise PayloadError(msg)
    payload = frame[HEADER_BYTES:]
    if (crc := _checksum(frame[: _FIELDS.size], payload)) != header.crc:
        msg = f"the frame's CRC-32 is {header.crc:08x}, its content's is {crc:08x}: it was damaged on the way"
        raise PayloadError(msg)
    return payload


def _checksum(fields: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(fields))
