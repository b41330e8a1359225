"""The Open Inference Protocol v2 over gRPC: six methods, and what becomes of each request."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from importlib.metadata import version
from math import inf
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from isplit.runtime.names import PROVIDER
from isplit.runtime.server.batcher import Computed
from isplit.runtime.server.engine import provider_to_report
from isplit.runtime.server.log import event, logger
from isplit.runtime.server.metrics import UNKNOWN_MODEL, Metrics
from isplit.runtime.server.models import Hosted
from isplit.runtime.server.refusal import RefusalStatus, RefusedError
from isplit.runtime.server.request import OUTPUT, VERSION, Content, check_file, messages, parse, read_content

SERVICE = "inference.GRPCInferenceService"
_MAX_ID = 256
"""Characters of a request's id, which is sent back."""


class InferenceService:
    """Answers requests for the models of a bundle. `decoder` runs what would hold up the event loop."""

    def __init__(self, models: Mapping[str, Hosted], *, max_batch: int, metrics: Metrics, decoder: Executor) -> None:
        self._models = models
        self._max_batch = max_batch
        self._metrics = metrics
        self._decoder = decoder
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.ready = False
        """Whether new requests are taken: not yet, or no longer, while false."""

    def handler(self) -> Any:
        """Return the methods for a gRPC server. Others of the service are UNIMPLEMENTED."""
        pb = messages
        unary: dict[str, tuple[Callable[[Any, Any], Awaitable[Any]], Any, Any]] = {
            "ServerLive": (self.server_live, pb.ServerLiveRequest, pb.ServerLiveResponse),
            "ServerReady": (self.server_ready, pb.ServerReadyRequest, pb.ServerReadyResponse),
            "ModelReady": (self.model_ready, pb.ModelReadyRequest, pb.ModelReadyResponse),
            "ServerMetadata": (self.server_metadata, pb.ServerMetadataRequest, pb.ServerMetadataResponse),
            "ModelMetadata": (self.model_metadata, pb.ModelMetadataRequest, pb.ModelMetadataResponse),
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=response.SerializeToString
            )
            for name, (method, request, response) in unary.items()
        }
        # Infer requests are parsed by us: what is wrong with them is the caller's fault, not INTERNAL.
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(
            self.model_infer, response_serializer=pb.ModelInferResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def idle(self) -> None:
        """Wait until no infer request is under way."""
        await self._idle.wait()

    async def server_live(self, _request: Any, _context: Any) -> Any:
        """Say that the process answers."""
        return messages.ServerLiveResponse(live=True)

    async def server_ready(self, _request: Any, _context: Any) -> Any:
        """Say whether new requests are taken."""
        return messages.ServerReadyResponse(ready=self.ready)

    async def model_ready(self, request: Any, _context: Any) -> Any:
        """Say whether a model is there and takes requests."""
        known = request.name in self._models and request.version in ("", VERSION)
        return messages.ModelReadyResponse(ready=self.ready and known)

    async def server_metadata(self, _request: Any, _context: Any) -> Any:
        """Say who we are."""
        return messages.ServerMetadataResponse(name="isplit", version=version("isplit"), extensions=[])

    async def model_metadata(self, request: Any, context: Any) -> Any:
        """Say what a model takes and gives; -1 stands for the batch."""
        model = self._models.get(request.name)
        if model is None or request.version not in ("", VERSION):
            await context.abort(grpc.StatusCode.NOT_FOUND, str(_unknown(request.name, self._models)))
            return None
        tensor = messages.ModelMetadataResponse.TensorMetadata
        return messages.ModelMetadataResponse(
            name=model.name,
            versions=[VERSION],
            platform="onnxruntime_onnx",
            inputs=[
                tensor(name=spec.name, datatype=spec.datatype, shape=(-1, *spec.shape)) for spec in model.specs.values()
            ],
            outputs=[tensor(name=OUTPUT, datatype="FP32", shape=(-1, model.outputs))],
        )

    async def model_infer(self, raw: bytes, context: Any) -> Any:
        """Answer a request, or refuse it with the status that says why."""
        started = time.monotonic()
        remaining: float | None = context.time_remaining()
        self._running += 1
        self._idle.clear()
        try:
            return await self.infer(raw, deadline=inf if remaining is None else started + remaining, started=started)
        except RefusedError as error:
            await context.abort(getattr(grpc.StatusCode, error.status), str(error))
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def infer(self, raw: bytes, *, deadline: float, started: float) -> Any:
        """Return the ModelInferResponse to the bytes of a request; times are of time.monotonic.

        Raises:
            RefusedError: there is no answer; every other exception has become one.

        """
        label = UNKNOWN_MODEL
        try:
            if not self.ready:
                msg = "the server takes no new requests, it starts or stops: ask another, or try again"
                raise RefusedError("UNAVAILABLE", msg)
            request = parse(raw, max_rows=self._max_batch)
            model = self._models.get(request.model_name)
            if model is None:
                raise _unknown(request.model_name, self._models)
            label = model.name
            if len(request.id) > _MAX_ID:
                msg = f"the request's id has {len(request.id)} characters, at most {_MAX_ID}"
                raise RefusedError("INVALID_ARGUMENT", msg)
            check_file(request, model.sha256)
            content = read_content(request, model.specs, max_rows=self._max_batch)
            decode_ms, computed = await self._compute(model, content, deadline)
        except asyncio.CancelledError:
            # The caller has gone, or gRPC has seen the deadline pass.
            self._metrics.refused(label, "CANCELLED")
            raise
        except RefusedError as error:
            self._note(label, error.status, str(error))
            raise
        except Exception as error:
            logger.exception("a request failed", extra={"fields": {"model": label}})
            self._metrics.refused(label, "INTERNAL")
            msg = f"the server failed ({type(error).__name__}); its log says more"
            raise RefusedError("INTERNAL", msg) from error
        stages_ms = {"decode": decode_ms, "queue": computed.queue_ms, "infer": computed.infer_ms}
        stages_ms["server"] = (time.monotonic() - started) * 1e3
        self._metrics.answered(label, images=content.rows, batch_size=computed.batch_size, stages_ms=stages_ms)
        return _response(request, label, computed, stages_ms, provider=provider_to_report(model.engine))

    async def _compute(self, model: Hosted, content: Content, deadline: float) -> tuple[float, Computed]:
        """Return the milliseconds that decoding took, and the answer."""
        decode_ms = 0.0

        async def prepare() -> NDArray[np.uint8]:
            nonlocal decode_ms
            started = time.monotonic()
            if content.values is not None or (model.quick and content.rows == 1):
                latents = model.decode(content)
            else:
                latents = await asyncio.get_running_loop().run_in_executor(self._decoder, model.decode, content)
            decode_ms = (time.monotonic() - started) * 1e3
            return latents

        computed = await model.batcher.submit(content.rows, prepare, deadline=deadline)
        return decode_ms, computed

    def _note(self, label: str, status: RefusalStatus, message: str) -> None:
        self._metrics.refused(label, status)
        event("refused", level=logging.DEBUG, model=label, status=status, reason=message)


def _unknown(name: str, models: Mapping[str, Hosted]) -> RefusedError:
    return RefusedError("NOT_FOUND", f"there is no model {name[:100]!r}: this server has {', '.join(models)}")


def _response(
    request: Any, model: str, computed: Computed, stages_ms: dict[str, float], *, provider: str | None
) -> Any:
    response = messages.ModelInferResponse(model_name=model, model_version=VERSION, id=request.id)
    for stage, milliseconds in stages_ms.items():
        response.parameters[f"{stage}_ms"].double_param = milliseconds
    response.parameters["batch_size"].int64_param = computed.batch_size
    if provider is not None:
        response.parameters[PROVIDER].string_param = provider
    response.outputs.add(name=OUTPUT, datatype="FP32", shape=computed.logits.shape)
    response.raw_output_contents.append(np.ascontiguousarray(computed.logits, "<f4").tobytes())
    return response
