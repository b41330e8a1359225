"""Wrap the parts of a bundle as functions to be timed, each of which does the work of one image."""

import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isplit.codec.bands import Picture
from isplit.codec.image import compress, decode_image, preprocess, restore
from isplit.records import Compression, CutPlacement, Preprocessing, TimeFigure
from isplit.runtime.bundle import Bundle
from isplit.runtime.external_data import external_data_bytes
from isplit.runtime.profile.settings import ProfileSettings
from isplit.runtime.session import Session

PartKind = Literal["preprocess", "whole", "head", "tail", "trace", "encode", "decode", "compress", "restore"]


@dataclass(frozen=True, kw_only=True)
class PartKey:
    """The identity of a part: its kind, and its cut or compression.

    A trace is the whole model with every operator timed.
    """

    kind: PartKind
    cut: str | None = None
    compression: Compression | None = None


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """An ONNX file to be timed, and its input for one image after the other."""

    key: PartKey
    path: Path
    inputs: Sequence[NDArray[Any]]

    @property
    def weight_bytes(self) -> int:
        """The bytes that the file and the weights it refers to take on the disk."""
        return weight_bytes(self.path)

    def open(self, settings: ProfileSettings) -> tuple[Callable[[], object], TimeFigure]:
        """Load the file; return a function that runs it, and the time that loading took.

        Raises:
            BundleError: onnxruntime cannot load it.

        """
        start_s = time.perf_counter()
        session = Session(self.path, threads=settings.threads, provider=settings.provider)
        load_ms = (time.perf_counter() - start_s) * 1e3
        arrays = itertools.cycle(self.inputs)
        return lambda: session.run(next(arrays)), TimeFigure(median_ms=load_ms, p95_ms=load_ms, runs=1)


def weight_bytes(path: Path) -> int:
    """Return the bytes that an ONNX file takes on the disk, including the files it refers to."""
    return path.stat().st_size + external_data_bytes(path)


class BundleParts:
    """Everything of a bundle that can be timed.

    `pictures` are decoded images of any size. Latents and payloads of all cuts are made here, which loads each head
    once.
    """

    def __init__(self, bundle: Bundle, pictures: Sequence[Picture], settings: ProfileSettings) -> None:
        self._bundle = bundle
        self._pictures = pictures
        self._settings = settings
        self._preprocessing = bundle.record.preprocessing
        self.pixels = [preprocess(picture, self._preprocessing) for picture in pictures]
        self._latents = {cut.name: self._run_head(cut) for cut in bundle.record.cuts}

    def models(self) -> Iterator[ModelFile]:
        """Yield every ONNX file: the whole model, heads and tails."""
        images = [pixels[None] for pixels in self.pixels]
        if (whole := self._bundle.local_path or self._bundle.remote_path) is not None:
            yield ModelFile(key=PartKey(kind="whole"), path=whole, inputs=images)
        for cut in self._bundle.record.cuts:
            yield ModelFile(
                key=PartKey(kind="head", cut=cut.name), path=self._bundle.head_path(cut.name), inputs=images
            )
            latents = [latent[None] for latent in self._latents[cut.name]]
            yield ModelFile(
                key=PartKey(kind="tail", cut=cut.name), path=self._bundle.tail_path(cut.name), inputs=latents
            )

    def others(self, compressions: Sequence[Compression]) -> dict[PartKey, Callable[[], object]]:
        """Return the parts that are not ONNX files: preprocessing, entropy coding, and image compression."""
        parts = picture_parts(self._pictures, self._preprocessing, compressions)
        for cut in self._bundle.record.cuts:
            codec = self._bundle.codec(cut.name)
            latents = self._latents[cut.name]
            payloads = [codec.encode_symbols(latent) for latent in latents]
            parts[PartKey(kind="encode", cut=cut.name)] = _each(codec.encode_symbols, latents)
            parts[PartKey(kind="decode", cut=cut.name)] = _each(codec.decode_symbols, payloads)
        return parts

    def _run_head(self, cut: CutPlacement) -> list[NDArray[np.uint8]]:
        session = Session(
            self._bundle.head_path(cut.name), threads=self._settings.threads, provider=self._settings.provider
        )
        return [session.run(pixels[None])[0] for pixels in self.pixels]


def picture_parts(
    pictures: Sequence[Picture], preprocessing: Preprocessing, compressions: Sequence[Compression]
) -> dict[PartKey, Callable[[], object]]:
    """Return the parts that need pictures alone: preprocessing, and image compression in both directions."""
    endless = itertools.cycle(pictures)
    parts: dict[PartKey, Callable[[], object]] = {
        PartKey(kind="preprocess"): lambda: preprocess(next(endless), preprocessing)
    }
    every_pixels = [preprocess(picture, preprocessing) for picture in pictures]
    for compression in compressions:
        files = [compress(pixels, compression) for pixels in every_pixels]
        parts[PartKey(kind="compress", compression=compression)] = _each(
            lambda pixels, compression=compression: compress(pixels, compression), every_pixels
        )
        parts[PartKey(kind="restore", compression=compression)] = _each(
            lambda content: restore(decode_image(io.BytesIO(content), name="the image"), preprocessing), files
        )
    return parts


def _each(function: Callable[[Any], object], arguments: Sequence[Any]) -> Callable[[], object]:
    """Return a function without arguments that takes the next argument at each call."""
    endless = itertools.cycle(arguments)
    return lambda: function(next(endless))
