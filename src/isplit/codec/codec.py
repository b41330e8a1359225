"""Encode one cut's latents as framed payloads, and decode them.

    latent --Quantiser--> symbols --coder--> bytes --frame--> payload
    latent' <-Quantiser-- symbols <--coder-- bytes <--frame-- payload

Everything is fixed when the codec is made, and the codec's id is a hash of it all. A payload therefore need not
describe itself, and the size of its content is known before a byte of it is read.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from isplit.codec.coders import CODER_IDS, Coder, CoderName, Raw, Zstd
from isplit.codec.frame import (
    CODEC_ID_BYTES,
    HEADER_BYTES,
    FrameVersion,
    header_bytes,
    pack_frame,
    unpack_frame,
)
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import CODER_BYTES, Rans, RansTables, sizes_of_sets
from isplit.codec.rle import Rle
from isplit.errors import InputError, StudyError
from isplit.records import Record, load_arrays, save_arrays

MAX_SYMBOLS = 2**24
"""The largest latent: larger than any feature map at 224 pixels, and small enough to decode on a device."""

# rans is not here, because it needs more than the number of levels.
_PLAIN_CODERS: dict[CoderName, Callable[[int], Coder]] = {"raw": Raw, "zstd": Zstd, "rle": Rle}


def smallest_payload_bytes() -> int:
    """Return the number of bytes that no entropy-coded payload can be shorter than."""
    return HEADER_BYTES + CODER_BYTES + 1


class _Fields(Record):
    """All fields of a codec that are not arrays. A change here changes the id of every codec.

    Codecs from before version 2 of the frame do not name a version; they use the first.
    """

    schema_name: ClassVar[str] = "isplit.codec/1"
    file_name: ClassVar[str] = "codec.json"

    model: str
    cut: str
    shape: tuple[int, ...]
    channel_axis: int
    levels: int
    lowest: int
    steps: int
    coder: CoderName
    tables: int
    lanes: int
    frame: FrameVersion = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """Turns a latent of `shape` (floats of one image) into bytes and back.

    `model` (its fingerprint) and `cut` tie the codec to the place it was made for. `channel_axis` is the axis that the
    quantiser's steps and the coder's tables run along; `tables` are for rans alone. `frame` is the version of the
    frames that the codec writes and reads.

    Raises:
        InputError: on construction, when the parts do not fit together.

    """

    model: str
    cut: str
    shape: tuple[int, ...]
    quantiser: Quantiser
    coder: CoderName = "raw"
    channel_axis: int = 0
    tables: RansTables | None = None
    frame: FrameVersion = 2

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1 or prod(self.shape) > MAX_SYMBOLS:
            msg = f"shape is {self.shape}: give one image's latent, 1 to {MAX_SYMBOLS} values"
            raise InputError(msg)
        if not 0 <= self.channel_axis < len(self.shape):
            msg = f"channel_axis is {self.channel_axis}, the shape {self.shape}: give 0 to {len(self.shape) - 1}"
            raise InputError(msg)
        if self.coder not in CODER_IDS:
            msg = f"there is no coder {self.coder!r}; choose one of {', '.join(CODER_IDS)}"
            raise InputError(msg)
        channels = self.shape[self.channel_axis]
        if self.quantiser.channels not in (None, channels):
            msg = f"the quantiser is for {self.quantiser.channels} channels, the shape {self.shape} has {channels}"
            raise InputError(msg)
        self._check_tables(channels)

    def _check_tables(self, channels: int) -> None:
        if (self.tables is not None) != (self.coder == "rans"):
            msg = (
                f"coder {self.coder} with{'out' if self.tables is None else ''} tables: rans needs them, no other does"
            )
            raise InputError(msg)
        if self.tables is None:
            return
        tables, levels = self.tables.frequencies.shape
        if tables not in (1, channels) or levels != self.quantiser.levels:
            msg = f"{tables} tables of {levels} levels do not fit {channels} channels of {self.quantiser.levels} levels"
            raise InputError(msg)

    def encode(self, latent: NDArray[np.floating[Any]]) -> bytes:
        """Return the payload of a latent, header included.

        Raises:
            InputError: the latent's shape is not the codec's.
            NonFiniteError: the latent holds NaN or infinity.

        """
        self._check_shape(latent)
        return self.encode_symbols(self.quantiser.quantise(latent, channel_axis=self.channel_axis))

    def decode(self, payload: bytes) -> NDArray[np.float32]:
        """Return the latent of a payload.

        Raises:
            PayloadError: the payload is damaged, hostile, or from another codec.

        """
        return self.quantiser.dequantise(self.decode_symbols(payload), channel_axis=self.channel_axis)

    def encode_symbols(self, symbols: NDArray[np.uint8]) -> bytes:
        """Return the payload of a latent that is already quantised (its shape is the codec's)."""
        self._check_shape(symbols)
        coded = self._coder.encode(np.moveaxis(symbols, self.channel_axis, 0).ravel())
        return pack_frame(coded, coder=CODER_IDS[self.coder], codec_id=self.codec_id, version=self.frame)

    def payload_bytes(self, symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the length of each image's payload, header included; symbols are (images, *shape).

        The result equals that of encoding them one by one, but is faster if the coder knows lengths without coding.
        """
        if len(symbols):
            self._check_shape(symbols[0])
        if not isinstance(self._coder, Rans):
            return np.array([len(self.encode_symbols(latent)) for latent in symbols], np.int64)
        return header_bytes(self.frame) + self._coder.sizes(self._rows(symbols))

    def rans_payload_bytes(
        self, symbols: NDArray[np.uint8], sets: Sequence[RansTables], set_of: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the length of each image's payload, header included, with rans and the tables of one of several sets.

        The codec's own coder plays no part.

        Args:
            symbols: Quantised latents, (images, *shape).
            sets: The tables, all of the same shape.
            set_of: The place in `sets` of each image's tables.

        Raises:
            InputError: the latents have another shape than the codec's, or symbols that the tables lack.

        """
        if len(symbols):
            self._check_shape(symbols[0])
        return header_bytes(self.frame) + sizes_of_sets(sets, self._rows(symbols), set_of)

    def _rows(self, symbols: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return symbols (images, *shape) in the order that they are coded in, (images, symbols)."""
        return np.moveaxis(symbols, self.channel_axis + 1, 1).reshape(len(symbols), prod(self.shape))

    def decode_symbols(self, payload: bytes) -> NDArray[np.uint8]:
        """Return the quantised latent of a payload, for a tail that takes uint8."""
        coded = unpack_frame(
            payload,
            coder=CODER_IDS[self.coder],
            codec_id=self.codec_id,
            max_payload_bytes=self._coder.max_bytes(prod(self.shape)),
            version=self.frame,
        )
        symbols = self._coder.decode(coded, prod(self.shape))
        if self.channel_axis == 0:
            return symbols.reshape(self.shape)
        channel = self.shape[self.channel_axis]
        others = self.shape[: self.channel_axis] + self.shape[self.channel_axis + 1 :]
        return np.ascontiguousarray(np.moveaxis(symbols.reshape(channel, *others), 0, self.channel_axis))

    @cached_property
    def max_payload_bytes(self) -> int:
        """The longest payload that `encode` can return, header included; `decode` refuses longer ones."""
        return header_bytes(self.frame) + self._coder.max_bytes(prod(self.shape))

    @cached_property
    def codec_id(self) -> bytes:
        """The first 8 bytes of a SHA-256 over everything that decoding depends on; see `_canonical`."""
        return hashlib.sha256(self._canonical()).digest()[:CODEC_ID_BYTES]

    def with_rans(self, counts: NDArray[np.integer[Any]], *, images: int) -> Self:
        """Return this codec with rans tables from the counts of symbols in so many images (see `count_symbols`).

        Counts of one row, (1, levels), give one table for all channels.
        """
        return replace(self, coder="rans", tables=RansTables.from_counts(counts, images=images))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the codec as arrays by name: "codec" is JSON text, the rest are numbers."""
        arrays: dict[str, NDArray[Any]] = {
            "codec": np.array(self._fields().to_json()),
            "steps": np.array(self.quantiser.steps, np.float32),
            "offsets": np.array(self.quantiser.offsets, np.float32),
        }
        return arrays if self.tables is None else arrays | {"frequencies": self.tables.frequencies}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Make a codec from the arrays of `to_arrays`.

        Raises:
            InputError: the arrays are not a codec's.

        """
        try:
            fields = _Fields.from_json(str(arrays["codec"]))
            steps, offsets = (arrays[name].astype(np.float64).tolist() for name in ("steps", "offsets"))
            quantiser = Quantiser(
                levels=fields.levels, lowest=fields.lowest, steps=tuple(steps), offsets=tuple(offsets)
            )
            tables = RansTables(frequencies=arrays["frequencies"], lanes=fields.lanes) if fields.tables else None
            return cls(
                model=fields.model,
                cut=fields.cut,
                shape=fields.shape,
                quantiser=quantiser,
                coder=fields.coder,
                channel_axis=fields.channel_axis,
                tables=tables,
                frame=fields.frame,
            )
        except (KeyError, TypeError, ValueError) as error:  # InputError and pydantic's errors are ValueErrors too
            msg = f"these arrays are not a codec's: {error}"
            raise InputError(msg) from error

    def save(self, path: Path) -> None:
        """Write the codec to an .npz file.

        Raises:
            StudyError: the file cannot be written.

        """
        save_arrays(path, self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            StudyError: the file is missing, damaged, or not a codec.

        """
        try:
            return cls.from_arrays(load_arrays(path))
        except StudyError:
            raise
        except (OSError, InputError) as error:
            msg = f"cannot read the codec {path}: {error}; make it again"
            raise StudyError(msg) from error

    @cached_property
    def _coder(self) -> Coder:
        return Rans(self.tables) if self.tables is not None else _PLAIN_CODERS[self.coder](self.quantiser.levels)

    def _check_shape(self, latent: NDArray[Any]) -> None:
        if latent.shape != self.shape:
            msg = f"the latent has shape {latent.shape}, the codec {self.shape}: give one image's latent at a time"
            raise InputError(msg)

    def _fields(self) -> _Fields:
        return _Fields(
            model=self.model,
            cut=self.cut,
            shape=self.shape,
            channel_axis=self.channel_axis,
            levels=self.quantiser.levels,
            lowest=self.quantiser.lowest,
            steps=len(self.quantiser.steps),
            coder=self.coder,
            tables=0 if self.tables is None else len(self.tables.frequencies),
            lanes=0 if self.tables is None else self.tables.lanes,
            frame=self.frame,
        )

    def _canonical(self) -> bytes:
        """Return the fields as ASCII JSON, sorted and without spaces, a line feed, then the arrays, little endian.

        The arrays are steps and offsets (float32) and frequencies (uint16); the JSON gives their lengths.
        """
        fields = {"schema": _Fields.schema_name, **self._fields().model_dump()}
        if self.frame == 1:
            del fields["frame"]  # so that codecs from before the second version keep their ids
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        steps, offsets = np.array(self.quantiser.steps, "<f4"), np.array(self.quantiser.offsets, "<f4")
        frequencies = b"" if self.tables is None else self.tables.frequencies.astype("<u2").tobytes()
        return text.encode("ascii") + b"\n" + steps.tobytes() + offsets.tobytes() + frequencies
