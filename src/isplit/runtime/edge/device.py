"""What runs on the device itself: heads, codecs and the whole model, each loaded when it is first needed."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.image import compress, preprocess
from isplit.errors import EngineError
from isplit.records import BundleRecord
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.transport import TensorName
from isplit.runtime.providers import Provider, ProviderChoice

if TYPE_CHECKING:
    from isplit.runtime.session import Session

LOCAL, REMOTE = "local", "remote"

_TIMED_RUNS, _TIMED_MS = 10, 250.0
"""At a start the whole model is run so often, or until so much time has passed."""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """What goes to the server for one image: the tensor's name and shape, and its content."""

    tensor: TensorName
    content: bytes
    shape: tuple[int, ...]


class Device:
    """The device's side of a bundle. Safe to share between threads.

    `plain` sends latents as they are, for servers that know no codec. `threads` and `provider` are as for `Session`.
    """

    def __init__(self, bundle: Bundle, *, plain: bool, threads: int, provider: Provider) -> None:
        self._bundle = bundle
        self._plain = plain
        self._threads = threads
        self._provider: Provider = provider
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def preprocess(self, picture: Image.Image, *, name: str = "the image") -> NDArray[np.uint8]:
        """Return the model's pixels, (H, W, C); `name` is what error messages call the picture.

        Raises:
            DataError: a picture of a kind that has no pixels for this model.

        """
        return preprocess(picture, self._bundle.record.preprocessing, name=name)

    def head(self, cut: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return one image's latent, quantised; `pixels` are (H, W, C).

        Raises:
            EngineError: onnxruntime failed, or the latent is not what the manifest says.

        """
        latent = self._session(cut).run(pixels[None])[0]
        wanted = self._bundle.record.cut(cut).latent_shape
        if latent.shape != wanted or latent.dtype != np.uint8:
            msg = f"the head of {cut} gives {latent.dtype} {latent.shape}, not uint8 {wanted}: export the bundle again"
            raise EngineError(msg)
        return latent

    def encode(self, cut: str, latent: NDArray[np.uint8]) -> Wire:
        """Return what to send of a quantised latent."""
        if self._plain:
            return Wire(tensor="latent", content=latent.tobytes(), shape=(1, *latent.shape))
        return Wire(tensor="payload", content=self._bundle.codec(cut).encode_symbols(latent), shape=(1,))

    def compress(self, pixels: NDArray[np.uint8]) -> Wire:
        """Return what to send of pixels, (H, W, C), as the bundle recommends."""
        remote = self._bundle.record.remote
        assert remote is not None  # the client has seen to it
        return Wire(tensor="image", content=compress(pixels, remote.recommended), shape=(1,))

    def whole(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the whole model's logits, (K,).

        Raises:
            EngineError: onnxruntime failed, or there is not one finite logit for each class.

        """
        logits = self._session(LOCAL).run(pixels[None])[0]
        classes = len(self._bundle.record.group.classes)
        if logits.shape != (classes,) or logits.dtype != np.float32:
            msg = f"the model on this device gives {logits.dtype} {logits.shape}, not {classes} float32 logits"
            raise EngineError(f"{msg}: export the bundle again")
        if not np.isfinite(logits).all():
            msg = "the model on this device gives logits that are not finite for this image"
            raise EngineError(msg)
        return logits

    def sample(self, placement: str) -> Wire:
        """Load what a placement runs on the device, run it on a sample image, and return what would be sent of it."""
        Image.preinit()  # Pillow looks for its formats when it first opens a file
        pixels = self._sample_pixels()
        if placement == REMOTE:
            return self.compress(pixels)
        return self.encode(placement, self.head(placement, pixels))

    def time_whole(self) -> list[float]:
        """Load the whole model, and return how long it takes on a sample image, in ms, a few times over.

        The first run of a model takes longer, and is left out. A slow model is run twice only.
        """
        pixels = self._sample_pixels()[None]
        session = self._session(LOCAL)
        session.run(pixels)  # not `whole`: that a sample gives NaN says nothing about real images
        times_ms: list[float] = []
        while len(times_ms) < _TIMED_RUNS and sum(times_ms) < _TIMED_MS:
            begun_s = time.perf_counter()
            session.run(pixels)
            times_ms.append((time.perf_counter() - begun_s) * 1000)
        return times_ms

    def has_loaded(self, name: str) -> bool:
        """Say whether a model (a cut's head, or "local") is loaded, so that to run it takes no longer than usual."""
        return name in self._sessions

    def ran_on(self, name: str) -> ProviderChoice:
        """Return what a loaded model (a cut's head, or "local") runs on."""
        return self._sessions[name].choice

    def provider_fallbacks(self) -> tuple[str, ...]:
        """Return why loaded models do not run on the provider that was asked for: each reason once."""
        reasons = [session.choice.fallback for session in list(self._sessions.values())]
        return tuple(dict.fromkeys(reason for reason in reasons if reason))

    def _sample_pixels(self) -> NDArray[np.uint8]:
        """Return a ramp from dark to light, (H, W, C): few bytes in every format, and not one value everywhere."""
        preprocessing = self._bundle.record.preprocessing
        height, width = preprocessing.image_size
        ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
        return np.broadcast_to(ramp, (height, width, preprocessing.channels)).copy()

    def _session(self, name: str) -> "Session":
        session = self._sessions.get(name)
        if session is not None:
            return session
        # One thread loads; the others wait for it rather than load the same file again.
        with self._lock:
            if name not in self._sessions:
                from isplit.runtime.session import Session  # onnxruntime takes as long to import as all the rest

                self._sessions[name] = Session(self._path(name), threads=self._threads, provider=self._provider)
            return self._sessions[name]

    def _path(self, name: str) -> Path:
        if name != LOCAL:
            return self._bundle.head_path(name)
        path = self._bundle.local_path
        assert path is not None  # the client has seen to it
        return path


def placements_of(record: BundleRecord) -> tuple[str, ...]:
    """Return the names of a bundle's placements: its cuts in order, then remote and local where it has them."""
    whole = tuple(name for name, held in ((REMOTE, record.remote), (LOCAL, record.local)) if held)
    return tuple(cut.name for cut in record.cuts) + whole
