"""Load the models that a bundle offers on the wire, with their inputs and the batcher behind each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isplit.codec.codec import Codec
from isplit.codec.rans import rans_coder
from isplit.errors import PayloadError
from isplit.records import CutPlacement, Preprocessing, RemotePlacement
from isplit.runtime.bundle import Bundle
from isplit.runtime.server.batcher import Batcher
from isplit.runtime.server.engine import Engine
from isplit.runtime.server.pictures import decode_picture, picture_pixels
from isplit.runtime.server.refusal import invalid
from isplit.runtime.server.request import Content, TensorSpec

REMOTE = "remote"

PIXELS_PER_COST = 2**18
"""Decoding this many pixels takes about as long as all other work for one image."""

QUICK_SYMBOLS, QUICK_RANS_SYMBOLS = 2**16, 2**12
"""Payloads of up to so many symbols are decoded in the thread that receives them, because to hand them to another one
would take as long. The second number is for rans where its coder is compiled; in numpy it is never so quick.
"""

Check = Callable[[], None]
"""Raises RefusedError once nobody waits for the result."""

Decode = Callable[[Content, Check], NDArray[np.uint8]]
"""Decodes a tensor's content to the model's input, N×shape. Calls the check between elements. Raises RefusedError."""

Cost = Callable[[Content], int]
"""Returns how long decoding a content takes, in units of one small image, from its headers alone. Raises RefusedError.
"""


class EngineFactory(Protocol):
    """Makes the engine of an ONNX file, given the shape of one input and the number of logits."""

    def __call__(self, path: Path, *, input_shape: tuple[int, ...], outputs: int) -> Engine:
        """Return the engine; raise BundleError if the file is not what the manifest says."""
        ...


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """A model on the wire, with the inputs that it accepts; `sha256` is that of its ONNX file.

    `quick` says that decoding one element takes at most about a tenth of a millisecond. `cost` is None if all elements
    take about as long.
    """

    name: str
    sha256: str
    specs: Mapping[str, TensorSpec]
    outputs: int
    engine: Engine
    batcher: Batcher
    decode: Decode
    cost: Cost | None
    quick: bool


def host(bundle: Bundle, *, make_engine: EngineFactory, make_batcher: Callable[[Engine], Batcher]) -> dict[str, Hosted]:
    """Load every model of a bundle, keyed by its name on the wire: BUNDLE.CUT and BUNDLE.remote.

    Raises:
        BundleError: a file is not what the manifest says.

    """
    outputs = len(bundle.record.group.classes)
    hosted: dict[str, Hosted] = {}

    def add(
        name: str,
        path: Path,
        shape: tuple[int, ...],
        specs: tuple[TensorSpec, ...],
        decode: Decode,
        *,
        quick: bool = False,
        cost: Cost | None = None,
    ) -> None:
        engine = make_engine(path, input_shape=shape, outputs=outputs)
        full_name = f"{bundle.name}.{name}"
        hosted[full_name] = Hosted(
            name=full_name,
            sha256=bundle.record.files[path.relative_to(bundle.directory).as_posix()].sha256,
            specs={spec.name: spec for spec in specs},
            outputs=outputs,
            engine=engine,
            batcher=make_batcher(engine),
            decode=decode,
            cost=cost,
            quick=quick,
        )

    for cut in bundle.record.cuts:
        codec = bundle.codec(cut.name)
        decode_latents = partial(_latents, codec)
        specs = _cut_specs(cut, codec)
        add(cut.name, bundle.tail_path(cut.name), cut.latent_shape, specs, decode_latents, quick=_is_quick(codec))
    if bundle.record.remote and bundle.remote_path:
        remote, preprocessing = bundle.record.remote, bundle.record.preprocessing
        pixels = (*preprocessing.image_size, preprocessing.channels)
        specs = (TensorSpec(name="image", datatype="BYTES", max_bytes=remote.max_image_bytes),)

        add(
            REMOTE,
            bundle.remote_path,
            pixels,
            specs,
            partial(_pictures, pixels, remote, preprocessing),
            cost=partial(_cost_of_pictures, remote, preprocessing),
        )
    return hosted


def _is_quick(codec: Codec) -> bool:
    """Return whether a payload is decoded faster than another thread could be asked to."""
    if codec.coder == "rans":
        return rans_coder() == "compiled" and prod(codec.shape) <= QUICK_RANS_SYMBOLS
    return prod(codec.shape) <= QUICK_SYMBOLS


def _cut_specs(cut: CutPlacement, codec: Codec) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(name="payload", datatype="BYTES", max_bytes=codec.max_payload_bytes),
        TensorSpec(name="latent", datatype="UINT8", shape=cut.latent_shape),
    )


def _latents(codec: Codec, content: Content, check: Check) -> NDArray[np.uint8]:
    """Decode payloads, or check plain symbols and return them."""
    if content.values is not None:
        levels = codec.quantiser.levels
        if levels < 256 and content.values.max() >= levels:
            msg = f"'latent' holds {content.values.max()}, its symbols end at {levels - 1}"
            raise invalid(msg)
        return content.values
    try:
        if content.rows == 1:
            check()
            return codec.decode_symbols(bytes(content.elements[0]))[np.newaxis]
        latents = np.empty((content.rows, *codec.shape), np.uint8)
        for row, element in enumerate(content.elements):
            check()
            latents[row] = codec.decode_symbols(bytes(element))
    except PayloadError as error:
        raise invalid(str(error)) from error
    return latents


def _pictures(
    pixels: tuple[int, ...],
    remote: RemotePlacement,
    preprocessing: Preprocessing,
    content: Content,
    check: Check,
) -> NDArray[np.uint8]:
    images = np.empty((content.rows, *pixels), np.uint8)
    for row, element in enumerate(content.elements):
        check()
        images[row] = decode_picture(element, remote, preprocessing)
    return images


def _cost_of_pictures(remote: RemotePlacement, preprocessing: Preprocessing, content: Content) -> int:
    return sum(1 + picture_pixels(element, remote, preprocessing) // PIXELS_PER_COST for element in content.elements)
