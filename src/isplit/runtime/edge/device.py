"""Run heads, codecs and the whole model on the device; each is loaded when it is first needed."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.bands import Picture
from isplit.codec.image import compress, preprocess
from isplit.errors import EngineError
from isplit.records import BundleRecord
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.transport import TensorName
from isplit.runtime.memory import map_large_blocks, release_freed
from isplit.runtime.providers import Provider, ProviderChoice

if TYPE_CHECKING:
    from isplit.runtime.session import Session

LOCAL, REMOTE, SEGMENTED = "local", "remote", "segmented"

ON_DEVICE = frozenset((LOCAL, SEGMENTED))
"""The placements that need no server."""

_TIMED_RUNS, _TIMED_MS = 10, 250.0
"""At the start, the whole model is run this often, or until this much time has passed."""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """What is sent to the server for one image: the tensor's name, shape and content."""

    tensor: TensorName
    content: bytes
    shape: tuple[int, ...]


class Device:
    """Run the device's side of a bundle. It may be shared between threads.

    `plain` sends latents as they are, for servers without a codec. `threads` and `provider` are as for `Session`.
    """

    def __init__(self, bundle: Bundle, *, plain: bool, threads: int, provider: Provider) -> None:
        self._bundle = bundle
        self._plain = plain
        self._threads = threads
        self._provider: Provider = provider
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._segment_choice: ProviderChoice | None = None

    def preprocess(self, picture: Picture, *, name: str = "the image") -> NDArray[np.uint8]:
        """Return the model's pixels, (H, W, C); error messages call the picture `name`.

        Raises:
            DataError: the picture has no pixels that fit this model.

        """
        return preprocess(picture, self._bundle.record.preprocessing, name=name)

    def head(self, cut: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return one image's quantised latent; `pixels` are (H, W, C).

        Raises:
            EngineError: onnxruntime failed, or the latent does not fit the manifest.

        """
        latent = self._session(cut).run(pixels[None])[0]
        wanted = self._bundle.record.cut(cut).latent_shape
        if latent.shape != wanted or latent.dtype != np.uint8:
            msg = f"the head of {cut} gives {latent.dtype} {latent.shape}, not uint8 {wanted}: export the bundle again"
            raise EngineError(msg)
        return latent

    def encode(self, cut: str, latent: NDArray[np.uint8]) -> Wire:
        """Encode a quantised latent for the server."""
        if self._plain:
            return Wire(tensor="latent", content=latent.tobytes(), shape=(1, *latent.shape))
        return Wire(tensor="payload", content=self._bundle.codec(cut).encode_symbols(latent), shape=(1,))

    def compress(self, pixels: NDArray[np.uint8]) -> Wire:
        """Compress pixels, (H, W, C), as the bundle recommends."""
        remote = self._bundle.record.remote
        assert remote is not None  # the client has checked this
        return Wire(tensor="image", content=compress(pixels, remote.recommended), shape=(1,))

    def whole(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the whole model's logits, (K,).

        Raises:
            EngineError: onnxruntime failed, or the logits are not finite or not as many as there are classes.

        """
        return self._checked_logits(self._session(LOCAL).run(pixels[None])[0])

    def segmented(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits, (K,), of the segments run one after the other: each is loaded, run and freed.

        Raises:
            BundleError: onnxruntime cannot load a segment.
            EngineError: onnxruntime failed, the blocks of a layer do not fit together, or there is not one finite logit
                for each class.

        """
        segmented = self._bundle.record.segmented
        assert segmented is not None  # the client has seen to it
        crossing: NDArray[Any] = pixels[None]
        with self._lock:  # two images at once would need the memory of two segments
            map_large_blocks()
            for files, axis in segmented.segments:
                outputs = [self._run_and_free(file, crossing) for file in files]
                try:
                    crossing = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=axis)
                except ValueError as error:
                    msg = f"the outputs of {files[0]} to {files[-1]} do not fit together: export the bundle again"
                    raise EngineError(msg) from error
        return self._checked_logits(crossing[0])

    def _run_and_free(self, file: str, values: NDArray[Any]) -> NDArray[Any]:
        """Load one file of a segment, return its output, and give its memory back to the system."""
        from isplit.runtime.session import Session

        session = Session(self._bundle.directory / file, threads=self._threads, provider=self._provider, lean=True)
        output = session.run(values)
        self._segment_choice = session.choice
        del session
        release_freed()
        return output

    def _checked_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        classes = len(self._bundle.record.group.classes)
        if logits.shape != (classes,) or logits.dtype != np.float32:
            msg = f"the model on this device gives {logits.dtype} {logits.shape}, not {classes} float32 logits"
            raise EngineError(f"{msg}: export the bundle again")
        if not np.isfinite(logits).all():
            msg = "the model on this device gives logits that are not finite for this image"
            raise EngineError(msg)
        return logits

    def sample(self, placement: str) -> Wire:
        """Load what a placement needs on the device, run it on a sample image, and return what would be sent."""
        Image.preinit()  # Pillow registers its formats when it first opens a file.
        pixels = self.sample_pixels()
        if placement == REMOTE:
            return self.compress(pixels)
        return self.encode(placement, self.head(placement, pixels))

    def time_whole(self) -> list[float]:
        """Load the whole model, and return several measurements of its time on a sample image, in ms.

        The first run of a model takes longer and is left out. A slow model is run only twice.
        """
        pixels = self.sample_pixels()[None]
        session = self._session(LOCAL)
        session.run(pixels)  # not `whole`, because NaN from a sample says nothing about real images
        times_ms: list[float] = []
        while len(times_ms) < _TIMED_RUNS and sum(times_ms) < _TIMED_MS:
            begun_s = time.perf_counter()
            session.run(pixels)
            times_ms.append((time.perf_counter() - begun_s) * 1000)
        return times_ms

    def has_loaded(self, name: str) -> bool:
        """Return whether a model (a cut's head, or "local") is loaded, so that running it takes the usual time."""
        return name in self._sessions

    def ran_on(self, name: str) -> ProviderChoice:
        """Return the execution provider of a model that has run (a cut's head, "local" or "segmented")."""
        if name == SEGMENTED:
            assert self._segment_choice is not None  # a segment has run
            return self._segment_choice
        return self._sessions[name].choice

    def provider_fallbacks(self) -> tuple[str, ...]:
        """Return why loaded models do not run on the requested provider, each reason once."""
        reasons = [session.choice.fallback for session in list(self._sessions.values())]
        return tuple(dict.fromkeys(reason for reason in reasons if reason))

    def sample_pixels(self) -> NDArray[np.uint8]:
        """Return a ramp from dark to light, (H, W, C): few bytes in every format, but more than one value."""
        preprocessing = self._bundle.record.preprocessing
        height, width = preprocessing.image_size
        ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
        return np.broadcast_to(ramp, (height, width, preprocessing.channels)).copy()

    def _session(self, name: str) -> "Session":
        session = self._sessions.get(name)
        if session is not None:
            return session
        # One thread loads; the others wait instead of loading the same file again.
        with self._lock:
            if name not in self._sessions:
                from isplit.runtime.session import Session  # importing onnxruntime takes as long as everything else

                self._sessions[name] = Session(self._path(name), threads=self._threads, provider=self._provider)
            return self._sessions[name]

    def _path(self, name: str) -> Path:
        if name != LOCAL:
            return self._bundle.head_path(name)
        path = self._bundle.local_path
        assert path is not None  # the client has checked this
        return path


def placements_of(record: BundleRecord) -> tuple[str, ...]:
    """Return the names of a bundle's placements: its cuts in order, then those of the whole model that it has."""
    held = ((REMOTE, record.remote), (LOCAL, record.local), (SEGMENTED, record.segmented))
    whole = tuple(name for name, placement in held if placement)
    return tuple(cut.name for cut in record.cuts) + whole
