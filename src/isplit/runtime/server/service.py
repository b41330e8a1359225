"""Answer requests of the Open Inference Protocol v2 over gRPC."""

# Annotations of inner functions would be evaluated at every request.
from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from isplit.runtime.lean.device_frames import Opening
from isplit.runtime.names import PROVIDER
from isplit.runtime.server.computed import Computed
from isplit.runtime.server.decoding import Wanted, check_logits, decode, decoding_cost
from isplit.runtime.server.engine import provider_to_report
from isplit.runtime.server.front.method import Incoming, Method
from isplit.runtime.server.lean_service import Answered, lean_answer, lean_content, lean_spec
from isplit.runtime.server.log import logger
from isplit.runtime.server.metrics import UNKNOWN_MODEL, Metrics
from isplit.runtime.server.models import Hosted
from isplit.runtime.server.refusal import RefusedError, invalid
from isplit.runtime.server.refusal_log import RefusalLog
from isplit.runtime.server.repository import (
    EXTENSIONS,
    Statistics,
    find_model,
    model_config,
    model_metadata,
    repository_index,
    unknown_model,
)
from isplit.runtime.server.request import (
    OUTPUT,
    VERSION,
    Content,
    InferRequest,
    check_file,
    messages,
    parse,
    read_content,
)

SERVICE = "inference.GRPCInferenceService"
_MAX_ID = 256
"""Most characters of a request's id, which is sent back."""
_MAX_SIMPLE_BYTES = 2**14
"""Most bytes of a request that holds no tensor."""


@dataclass(frozen=True, kw_only=True)
class Decoders:
    """Threads for work that would block the event loop: one pool for each kind, so that slow work delays no other."""

    payloads: Executor
    pictures: Executor
    headers: Executor


class InferenceService:
    """Answers requests for the models of a bundle."""

    def __init__(
        self,
        models: Mapping[str, Hosted],
        *,
        max_batch: int,
        metrics: Metrics,
        refusals: RefusalLog,
        decoders: Decoders,
    ) -> None:
        self._models = models
        self._max_batch = max_batch
        self._metrics = metrics
        self._refusals = refusals
        self._decoders = decoders
        self._statistics = {name: Statistics() for name in models}
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.ready = False
        """Whether new requests are accepted; false before the start and after the end of service."""

    def methods(self, *, max_infer_bytes: int) -> tuple[Method, ...]:
        """Return the methods for the front; a ModelInferRequest may have up to `max_infer_bytes`."""
        pb = messages
        simple: dict[str, tuple[Callable[[Any], Any], Any]] = {
            "ServerLive": (self.server_live, pb.ServerLiveRequest),
            "ServerReady": (self.server_ready, pb.ServerReadyRequest),
            "ModelReady": (self.model_ready, pb.ModelReadyRequest),
            "ServerMetadata": (self.server_metadata, pb.ServerMetadataRequest),
            "ModelMetadata": (self.model_metadata, pb.ModelMetadataRequest),
            "ModelConfig": (self.model_config, pb.ModelConfigRequest),
            "RepositoryIndex": (self.repository_index, pb.RepositoryIndexRequest),
            "ModelStatistics": (self.model_statistics, pb.ModelStatisticsRequest),
        }
        methods = [
            Method(path=f"/{SERVICE}/{name}", answer=self._simple(answer, request), max_bytes=_MAX_SIMPLE_BYTES)
            for name, (answer, request) in simple.items()
        ]
        return (*methods, Method(path=f"/{SERVICE}/ModelInfer", answer=self.model_infer, max_bytes=max_infer_bytes))

    def _simple(self, answer: Callable[[Any], Any], request_type: Any) -> Callable[[Incoming], Awaitable[bytes]]:
        """Return a method that parses its request, answers it at once, and serialises the response."""

        async def method(call: Incoming) -> bytes:
            try:
                request = request_type.FromString(bytes(call.message))
                response: bytes = answer(request).SerializeToString()
            except DecodeError as error:
                refusal = invalid(f"the message is not a {request_type.DESCRIPTOR.name}: {error}")
                self._note(UNKNOWN_MODEL, refusal, call.peer)
                raise refusal from error
            except RefusedError as error:
                self._note(UNKNOWN_MODEL, error, call.peer)
                raise
            return response

        return method

    async def idle(self) -> None:
        """Wait until no infer request is under way."""
        await self._idle.wait()

    def server_live(self, _request: Any) -> Any:
        """Report that the process answers."""
        return messages.ServerLiveResponse(live=True)

    def server_ready(self, _request: Any) -> Any:
        """Report whether new requests are accepted."""
        return messages.ServerReadyResponse(ready=self.ready)

    def model_ready(self, request: Any) -> Any:
        """Report whether a model exists and accepts requests."""
        known = request.name in self._models and request.version in ("", VERSION)
        return messages.ModelReadyResponse(ready=self.ready and known and self._models[request.name].batcher.is_alive)

    def server_metadata(self, _request: Any) -> Any:
        """Return the name, the version and the extensions of the server."""
        return messages.ServerMetadataResponse(name="isplit", version=version("isplit"), extensions=EXTENSIONS)

    def model_metadata(self, request: Any) -> Any:
        """Return the inputs and outputs of a model."""
        return model_metadata(find_model(request.name, request.version, self._models))

    def model_config(self, request: Any) -> Any:
        """Return how a model is served, in Triton's format."""
        model = find_model(request.name, request.version, self._models)
        return model_config(model, max_batch=self._max_batch)

    def repository_index(self, request: Any) -> Any:
        """List the models and whether they accept requests."""
        return repository_index(self._models, is_ready=self.ready, only_ready=request.ready)

    def model_statistics(self, request: Any) -> Any:
        """Return the statistics of one model, or of all if none is named."""
        models = [find_model(request.name, request.version, self._models)] if request.name else self._models.values()
        statistics = [self._statistics[model.name].message(model) for model in models]
        return messages.ModelStatisticsResponse(model_stats=statistics)

    async def model_infer(self, call: Incoming) -> bytes:
        """Answer a request, or refuse it with the status that fits the reason."""
        response: bytes = (await self.infer(call)).SerializeToString()
        return response

    async def infer(self, call: Incoming) -> Any:
        """Return the ModelInferResponse to a request.

        Raises:
            RefusedError: There is no answer; all other exceptions are turned into this one.

        """
        with self._under_way(call) as asked:
            self._check_ready()
            request = parse(call.message, max_rows=self._max_batch)
            model = self._models.get(request.message.model_name)
            if model is None:
                raise unknown_model(request.message.model_name, self._models)
            asked.model = model.name
            request_id, content = self._read(request, model)
            pending = [content]
            # From here on, only `pending` refers to the message's memory.
            del content, request
            answered = await self._answered(model, pending, call, asked)
        return _response(request_id, model.name, answered, provider=provider_to_report(model.engine))

    def open_lean(self, opening: Opening, *, max_content_bytes: int) -> Method:
        """Return the method for a model that a device opens on the lean wire.

        Raises:
            RefusedError: There is no such model, or it does not fit what the device expects.

        """
        model = find_model(opening.model, "", self._models)
        spec = lean_spec(opening, model)

        async def answer(call: Incoming) -> bytes:
            with self._under_way(call) as asked:
                asked.model = model.name
                self._check_ready()
                pending = [lean_content(spec, call.message)]
                answered = await self._answered(model, pending, call, asked)
            return lean_answer(opening, model, answered)

        def answer_now(call: Incoming) -> bytes | None:
            if not (model.quick and self.ready and call.is_lone and model.batcher.is_free_for(1)):
                return None
            with self._under_way(call) as asked:
                asked.model = model.name
                begun_s = time.perf_counter()
                latents = model.decode(lean_content(spec, call.message), lambda: None)
                decode_ms = (time.perf_counter() - begun_s) * 1e3
                computed = model.batcher.compute_now(latents)
                check_logits(computed, model.outputs)
                answered = self._note_answered(model, Answered(1, decode_ms, computed), asked)
            return lean_answer(opening, model, answered)

        max_bytes = min(spec.max_bytes or spec.row_bytes, max_content_bytes)
        return Method(path=f"lean {model.name}", answer=answer, max_bytes=max_bytes, answer_now=answer_now)

    @contextmanager
    def _under_way(self, call: Incoming) -> Generator[_Asked]:
        """Count a request, note every way in which it ends without an answer, and let only RefusedError through."""
        asked = _Asked(started=time.monotonic())
        self._running += 1
        self._idle.clear()
        try:
            yield asked
        except asyncio.CancelledError:
            # The caller has gone, or its deadline has passed.
            self._metrics.refused(asked.model, "CANCELLED")
            raise
        except RefusedError as error:
            self._note(asked.model, error, call.peer)
            self._count_refusal(asked)
            raise
        except Exception as error:
            self._count_refusal(asked)
            logger.exception("a request failed", extra={"fields": {"model": asked.model}})
            msg = f"the server failed ({type(error).__name__}); its log says more"
            refusal = RefusedError("INTERNAL", msg)
            self._note(asked.model, refusal, call.peer)
            raise refusal from error
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def _check_ready(self) -> None:
        if not self.ready:
            msg = "the server takes no new requests, it starts or stops: ask another, or try again"
            raise RefusedError("UNAVAILABLE", msg)

    async def _answered(self, model: Hosted, pending: list[Content], call: Incoming, asked: _Asked) -> Answered:
        rows = pending[0].rows
        decode_ms, computed = await self._compute(model, pending, call)
        return self._note_answered(model, Answered(rows, decode_ms, computed), asked)

    def _note_answered(self, model: Hosted, answered: Answered, asked: _Asked) -> Answered:
        """Count an answer, and set the time that it took in the server."""
        answered.server_ms = (time.monotonic() - asked.started) * 1e3
        stages_ms, size = answered.stages_ms(), answered.computed.batch_size
        self._metrics.answered(model.name, images=answered.rows, batch_size=size, stages_ms=stages_ms)
        self._statistics[model.name].answered(images=answered.rows, stages_ms=stages_ms)
        return answered

    def _read(self, request: InferRequest, model: Hosted) -> tuple[str, Content]:
        """Return the request's id and the content of its tensor."""
        request_id: str = request.message.id
        if len(request_id) > _MAX_ID:
            msg = f"the request's id has {len(request_id)} characters, at most {_MAX_ID}"
            raise RefusedError("INVALID_ARGUMENT", msg)
        check_file(request.message, model.sha256)
        return request_id, read_content(request, model.specs, max_rows=self._max_batch)

    async def _compute(self, model: Hosted, pending: list[Content], call: Incoming) -> tuple[float, Computed]:
        """Return the milliseconds of decoding, and the answer."""
        decode_ms = 0.0
        rows, is_plain = pending[0].rows, pending[0].values is not None
        wanted = Wanted(call.deadline)
        loop = asyncio.get_running_loop()

        async def prepare() -> NDArray[np.uint8]:
            nonlocal decode_ms
            started = time.monotonic()
            if is_plain or (model.quick and rows == 1):
                latents = decode(model, pending, wanted)
            else:
                pool = self._decoders.payloads if model.cost is None else self._decoders.pictures
                latents = await loop.run_in_executor(pool, decode, model, pending, wanted)
            if not is_plain:  # plain values are a view of the message
                call.release()
            decode_ms = (time.monotonic() - started) * 1e3
            return latents

        try:
            cost = rows
            if model.cost is not None:
                # The cost is known before any work begins, so that costly requests can be refused.
                cost = await loop.run_in_executor(self._decoders.headers, decoding_cost, model.cost, pending)
            computed = await model.batcher.submit(rows, prepare, deadline=call.deadline, cost=cost)
        finally:
            wanted.ended = True
            pending.clear()  # a thread that starts later finds nothing, and nothing is kept for it
        check_logits(computed, model.outputs)
        return decode_ms, computed

    def _count_refusal(self, asked: _Asked) -> None:
        if asked.model in self._statistics:
            self._statistics[asked.model].refused((time.monotonic() - asked.started) * 1e3)

    def _note(self, label: str, error: RefusedError, peer: str) -> None:
        self._metrics.refused(label, error.status)
        self._refusals.note(error.reason, detail=str(error), peer=peer, model=label)
        error.noted = True


@dataclass(kw_only=True)
class _Asked:
    """A request: when it began, and its model once that is known."""

    started: float
    model: str = UNKNOWN_MODEL


def _response(request_id: str, model: str, answered: Answered, *, provider: str | None) -> Any:
    computed = answered.computed
    response = messages.ModelInferResponse(model_name=model, model_version=VERSION, id=request_id)
    for stage, milliseconds in answered.stages_ms().items():
        response.parameters[f"{stage}_ms"].double_param = milliseconds
    response.parameters["batch_size"].int64_param = computed.batch_size
    if provider is not None:
        response.parameters[PROVIDER].string_param = provider
    response.outputs.add(name=OUTPUT, datatype="FP32", shape=computed.logits.shape)
    response.raw_output_contents.append(np.ascontiguousarray(computed.logits, "<f4").tobytes())
    return response
