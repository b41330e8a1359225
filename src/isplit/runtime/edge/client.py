"""Answer each image with a split, exactly once, even if the link or the server fails.

    image -> preprocess -> head -> encode -> breaker -> transport -> logits -> Answer
                  |                             | open, failed for good, or no time left
                  +-------> whole model --------+--> Answer (local-fallback, or failed)

policy.py makes the decisions and wire.py the messages; this module puts them together.
"""

import itertools
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from isplit.errors import BundleError, InputError
from isplit.records import Answer, AnswerSource
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.connecting import connect, wire_note
from isplit.runtime.edge.device import LOCAL, ON_DEVICE, REMOTE, SEGMENTED, Device, Wire, placements_of
from isplit.runtime.edge.job import Job, fault_of
from isplit.runtime.edge.pictures import NoPicture, Picture, open_picture
from isplit.runtime.edge.policy import BreakerState
from isplit.runtime.edge.reserve import Reserve
from isplit.runtime.edge.sender import Sender
from isplit.runtime.edge.server_side import ServerSide
from isplit.runtime.edge.settings import EdgeSettings, positive_ms
from isplit.runtime.edge.stream import pipelined
from isplit.runtime.edge.transport import Transport


class EdgeClient:
    """Classify images with a bundle, partly on this device and partly on a server.

        with isplit.EdgeClient("bundle", "192.168.1.20:8001", deadline_ms=100) as client:
            answer = client.classify("cat.jpg")
            print(answer.class_name, answer.source, answer.timings.total_ms)

    `server` is HOST:PORT, or None to run everything here. Everything else is a field of `EdgeSettings`: give
    `settings`, or single fields as keywords, which replace those of `settings`. `transport` replaces the connection to
    the server.

    A client may be shared between threads. Models are loaded when first needed and kept; see `warm_up`.

    Raises:
        BundleError: the bundle cannot be opened, or one of its models cannot be loaded.
        InputError: the options do not fit the bundle or each other.
        ServerError: the server is required, and cannot be used.

    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        server: str | None = None,
        *,
        settings: EdgeSettings | None = None,
        transport: Transport | None = None,
        **changes: Any,
    ) -> None:
        chosen = replace(settings or EdgeSettings(), **changes)
        self._deadline_ms = chosen.deadline_ms
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, verify=chosen.verify)
        self._classes = self._bundle.record.group.classes
        self._best_count = min(chosen.best_classes, len(self._classes))
        self._placements = placements_of(self._bundle.record)
        self._address = server
        self._has_server = server is not None or transport is not None
        self._placement = self._check_placement(chosen.placement or self._default_placement())
        self._fallback = chosen.fallback and LOCAL in self._placements
        self._reserve = Reserve()
        self._device = Device(
            self._bundle, plain=chosen.wire == "latent", threads=chosen.threads, provider=chosen.provider
        )
        self._name = secrets.token_hex(4)  # so that the ids of two devices never coincide in a server's log
        self._count = itertools.count()
        self._closed = False
        self._transport: Transport | None = None  # made last, because it has to be closed again
        self._server: ServerSide | None = None
        if self._has_server:
            self._transport = transport or connect(str(server), chosen, classes=len(self._classes))
            sender = Sender(
                self._transport,
                retry=chosen.retry,
                breaker=chosen.breaker,
                attempt_timeout_ms=chosen.attempt_timeout_ms,
            )
            self._server = ServerSide(sender, self._bundle.record, reserve=self._reserve if self._fallback else None)
        if server is not None if chosen.require_server is None else chosen.require_server:
            self._require_server()

    def __repr__(self) -> str:
        return f"EdgeClient({str(self._bundle.directory)!r}, {self._address!r}, placement={self._placement!r})"

    @property
    def placements(self) -> tuple[str, ...]:
        """The possible placements: the bundle's cuts, then "remote" and "local" if it has them."""
        return self._placements

    @property
    def provider_fallbacks(self) -> tuple[str, ...]:
        """Why loaded models do not run on the requested provider; empty if they do."""
        return self._device.provider_fallbacks()

    @property
    def wire_note(self) -> str | None:
        """Why requests travel over gRPC although the lean wire was to be used; None if they do not."""
        return wire_note(self._transport)

    def classify(
        self, image: Picture, *, placement: str | None = None, deadline_ms: float | None = None, name: str | None = None
    ) -> Answer:
        """Return the answer to one image.

        A damaged image, a failing server and a missed deadline give answers too; see `Answer.source` and
        `Answer.reason`. `name` is the image's name in the answer (default: its path, or its number).

        Raises:
            InputError: an unknown placement, a deadline that is not above zero, or the client was closed.
            BundleError: a model of the bundle cannot be loaded.

        """
        return self._finish(self._prepare(image, placement=placement, deadline_ms=deadline_ms, name=name))

    def run(
        self,
        images: Iterable[Picture | tuple[str, Picture | NoPicture]],
        *,
        placement: str | Callable[[], str] | None = None,
        deadline_ms: float | None = None,
        depth: int = 2,
    ) -> Iterator[Answer]:
        """Yield one answer per image, in order; the next image's head runs while the last image is on the wire.

        `images` may be (name, image) pairs. At most `depth` images are processed at a time. `placement` may be a
        function that is called before each image, such as a controller. A deadline counts from when the image was
        fetched.

        Raises:
            InputError, BundleError: as `classify`; and any exception that `images` raises.

        """
        if depth < 1:
            msg = f"depth is {depth}; give at least 1, which is one image after the other"
            raise InputError(msg)

        def prepare(item: Picture | tuple[str, Picture | NoPicture]) -> Job:
            name, image = item if isinstance(item, tuple) else (None, item)
            chosen = placement() if callable(placement) else placement
            return self._prepare(image, placement=chosen, deadline_ms=deadline_ms, name=name)

        return pipelined(images, prepare, self._finish, depth=depth)

    def warm_up(self, placement: str | None = None) -> None:
        """Load what a placement needs here, and the fallback, so that the first image does not wait for it.

        Raises:
            InputError, BundleError: as `classify`.

        """
        chosen = self._check_placement(placement or self._placement)
        if chosen not in ON_DEVICE:
            self._device.sample(chosen)
        if chosen == LOCAL or self._fallback:
            for elapsed_ms in self._device.time_whole():
                self._reserve.note_local(elapsed_ms)

    def check_server(self, placement: str | None = None) -> None:
        """Ask the server about a sample image, and check whether its answer can be one of this bundle.

        It takes at most ten seconds. For placement "local" there is nothing to check.

        Raises:
            ServerError: nobody answers, the server refuses (a wrong token, an unknown model), or it serves another
                bundle. The message says which.
            InputError, BundleError: as `classify`.

        """
        chosen = self._check_placement(placement or self._placement)
        if chosen not in ON_DEVICE:
            assert self._server is not None  # `_check_placement` has checked this
            self._server.check(chosen, self._device.sample(chosen))

    def breaker_state(self, placement: str | None = None) -> BreakerState:
        """Return the state of a placement's circuit breaker; while it is open, requests are not even sent."""
        chosen = self._check_placement(placement or self._placement)
        return "closed" if self._server is None else self._server.state(chosen)

    def close(self) -> None:
        """Close the connection; pending requests are answered as failed, or by the fallback."""
        self._closed = True
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(
        self, image: Picture | NoPicture, *, placement: str | None, deadline_ms: float | None, name: str | None
    ) -> Job:
        """Do all work before the request; for local, do all work."""
        if self._closed:
            msg = "the client is closed; open a new one"
            raise InputError(msg)
        index = next(self._count)
        job = Job(
            id=f"{self._name}-{index}",
            index=index,
            image=str(name or (os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {index}")),
            placement=self._check_placement(placement or self._placement),
            best_count=self._best_count,
            deadline_ms=positive_ms(deadline_ms, "deadline_ms") or self._deadline_ms,
            started_unix_s=time.time(),
        )
        try:
            with job.timed("decode_image_ms"):
                picture = open_picture(image, name=job.image)
            with job.timed("preprocess_ms"):
                job.pixels = self._device.preprocess(picture, name=job.image)
            if job.placement in ON_DEVICE:
                self._run_here(job, job.pixels, "local")
            else:
                job.wire = self._encode(job, job.pixels)
        except BundleError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails for one image, the others are answered
            job.failed(fault_of(error))
        return job

    def _encode(self, job: Job, pixels: NDArray[np.uint8]) -> Wire:
        if job.placement == REMOTE:
            with job.timed("encode_ms"):
                return self._device.compress(pixels)
        with job.timed("head_ms"):
            latent = self._device.head(job.placement, pixels)
        job.ran_on = self._device.ran_on(job.placement)
        with job.timed("encode_ms"):
            return self._device.encode(job.placement, latent)

    def _finish(self, job: Job) -> Answer:
        """Ask the server, then the fallback if needed."""
        if job.wire is not None:
            assert self._server is not None  # `_check_placement` has checked this
            try:
                self._server.ask(job, job.wire)
            except Exception as error:  # noqa: BLE001 - whatever a transport raises, the fallback may still answer
                job.failed(fault_of(error))
        if not job.is_answered and job.pixels is not None and job.placement not in ON_DEVICE and self._fallback:
            return self._fall_back(job, job.pixels)
        return job.answer(self._classes)

    def _fall_back(self, job: Job, pixels: NDArray[np.uint8]) -> Answer:
        """Compute the whole model's answer, and note how long it took from here on."""
        was_loaded = self._device.has_loaded(LOCAL)
        begun_s = time.perf_counter()
        try:
            self._run_here(job, pixels, "local-fallback")
        except Exception as error:  # noqa: BLE001 - this image failed, but the next may not
            job.failed(fault_of(error))
            return job.answer(self._classes)
        answer = job.answer(self._classes)
        if was_loaded:
            self._reserve.note_local((time.perf_counter() - begun_s) * 1000)
        return answer

    def _run_here(self, job: Job, pixels: NDArray[np.uint8], source: AnswerSource) -> None:
        name = SEGMENTED if job.placement == SEGMENTED else LOCAL
        with job.timed("local_ms"):
            job.logits = self._device.segmented(pixels) if name == SEGMENTED else self._device.whole(pixels)
        job.ran_on = self._device.ran_on(name)
        job.source = source

    def _require_server(self) -> None:
        """Check the server, and close the connection if the check fails."""
        if self._server is None:
            msg = "require_server is True, and no server is given: give its HOST:PORT, or do not require it"
            raise InputError(msg)
        try:
            self.check_server()
        except BaseException:
            self.close()
            raise

    def _default_placement(self) -> str:
        """Return the first cut where there is a server, else what needs none."""
        if self._has_server:
            return self._placements[0]
        return SEGMENTED if SEGMENTED in self._placements and LOCAL not in self._placements else LOCAL

    def _check_placement(self, placement: str) -> str:
        if placement not in self._placements:
            msg = f"there is no placement {placement!r} in this bundle; choose one of {', '.join(self._placements)}"
            raise InputError(msg)
        if placement not in ON_DEVICE and not self._has_server:
            msg = f"placement {placement!r} needs a server; give one, or choose local"
            raise InputError(msg)
        return placement
