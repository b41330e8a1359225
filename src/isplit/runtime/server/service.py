"""Answer requests of the Open Inference Protocol v2 over gRPC."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from isplit.runtime.names import PROVIDER
from isplit.runtime.server.batcher import Computed
from isplit.runtime.server.engine import provider_to_report
from isplit.runtime.server.front.method import Incoming, Method
from isplit.runtime.server.log import logger
from isplit.runtime.server.metrics import UNKNOWN_MODEL, Metrics
from isplit.runtime.server.models import Cost, Hosted
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
        self._running += 1
        self._idle.clear()
        try:
            response: bytes = (await self.infer(call)).SerializeToString()
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
        return response

    async def infer(self, call: Incoming) -> Any:
        """Return the ModelInferResponse to a request.

        Raises:
            RefusedError: There is no answer; all other exceptions are turned into this one.

        """
        started = time.monotonic()
        label = UNKNOWN_MODEL
        try:
            if not self.ready:
                msg = "the server takes no new requests, it starts or stops: ask another, or try again"
                raise RefusedError("UNAVAILABLE", msg)
            request = parse(call.message, max_rows=self._max_batch)
            model = self._models.get(request.message.model_name)
            if model is None:
                raise unknown_model(request.message.model_name, self._models)
            label = model.name
            request_id, content = self._read(request, model)
            rows = content.rows
            pending = [content]
            # From here on, only `pending` refers to the message's memory.
            del content, request
            decode_ms, computed = await self._compute(model, pending, call)
        except asyncio.CancelledError:
            # The caller has gone, or its deadline has passed.
            self._metrics.refused(label, "CANCELLED")
            raise
        except RefusedError as error:
            self._note(label, error, call.peer)
            self._count_refusal(label, started)
            raise
        except Exception as error:
            self._count_refusal(label, started)
            logger.exception("a request failed", extra={"fields": {"model": label}})
            msg = f"the server failed ({type(error).__name__}); its log says more"
            refusal = RefusedError("INTERNAL", msg)
            self._note(label, refusal, call.peer)
            raise refusal from error
        stages_ms = {"decode": decode_ms, "queue": computed.queue_ms, "infer": computed.infer_ms}
        stages_ms["server"] = (time.monotonic() - started) * 1e3
        self._metrics.answered(label, images=rows, batch_size=computed.batch_size, stages_ms=stages_ms)
        self._statistics[label].answered(images=rows, stages_ms=stages_ms)
        return _response(request_id, label, computed, stages_ms, provider=provider_to_report(model.engine))

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
        wanted = _Wanted(call.deadline)
        loop = asyncio.get_running_loop()

        async def prepare() -> NDArray[np.uint8]:
            nonlocal decode_ms
            started = time.monotonic()
            if is_plain or (model.quick and rows == 1):
                latents = _decode(model, pending, wanted)
            else:
                pool = self._decoders.payloads if model.cost is None else self._decoders.pictures
                latents = await loop.run_in_executor(pool, _decode, model, pending, wanted)
            if not is_plain:  # plain values are a view of the message
                call.release()
            decode_ms = (time.monotonic() - started) * 1e3
            return latents

        try:
            cost = rows
            if model.cost is not None:
                # The cost is known before any work begins, so that costly requests can be refused.
                cost = await loop.run_in_executor(self._decoders.headers, _cost, model.cost, pending)
            computed = await model.batcher.submit(rows, prepare, deadline=call.deadline, cost=cost)
        finally:
            wanted.ended = True
            pending.clear()  # a thread that starts later finds nothing, and nothing is kept for it
        _check_logits(computed.logits, model.outputs)
        return decode_ms, computed

    def _count_refusal(self, label: str, started: float) -> None:
        if label in self._statistics:
            self._statistics[label].refused((time.monotonic() - started) * 1e3)

    def _note(self, label: str, error: RefusedError, peer: str) -> None:
        self._metrics.refused(label, error.status)
        self._refusals.note(error.reason, detail=str(error), peer=peer, model=label)
        error.noted = True


def _decode(model: Hosted, pending: list[Content], wanted: "_Wanted") -> NDArray[np.uint8]:
    wanted.check()
    return model.decode(pending.pop(), wanted.check)


def _cost(cost: Cost, pending: list[Content]) -> int:
    return cost(pending[0]) if pending else 0


def _check_logits(logits: NDArray[np.float32], outputs: int) -> None:
    """Refuse to pass on logits that a model of this bundle should not give.

    Raises:
        RefusedError: INTERNAL, because the logits are not as many as there are classes, or not finite.

    """
    if logits.shape[1:] != (outputs,):
        msg = f"the model gave logits of shape {logits.shape}, there are {outputs} classes: export the bundle again"
    elif not np.isfinite(logits).all():
        msg = "the model gave logits that are NaN or infinite: check its weights, and export the bundle again"
    else:
        return
    raise RefusedError("INTERNAL", msg, reason="bad_logits")


class _Wanted:
    """Tells another thread whether anybody still waits for what it decodes."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.ended = False

    def check(self) -> None:
        """Stop work that nobody waits for."""
        if self.ended:
            raise RefusedError("UNAVAILABLE", "the caller has gone")
        if time.monotonic() >= self._deadline:
            raise RefusedError("DEADLINE_EXCEEDED", "the deadline passed while the request was decoded")


def _response(
    request_id: str, model: str, computed: Computed, stages_ms: dict[str, float], *, provider: str | None
) -> Any:
    response = messages.ModelInferResponse(model_name=model, model_version=VERSION, id=request_id)
    for stage, milliseconds in stages_ms.items():
        response.parameters[f"{stage}_ms"].double_param = milliseconds
    response.parameters["batch_size"].int64_param = computed.batch_size
    if provider is not None:
        response.parameters[PROVIDER].string_param = provider
    response.outputs.add(name=OUTPUT, datatype="FP32", shape=computed.logits.shape)
    response.raw_output_contents.append(np.ascontiguousarray(computed.logits, "<f4").tobytes())
    return response
