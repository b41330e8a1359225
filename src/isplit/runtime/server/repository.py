"""Answer what Triton's and KServe's clients ask about models: metadata, configuration, index, statistics.

The messages are those of the Open Inference Protocol and of Triton's extensions.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import model_config_pb2  # pyright: ignore[reportMissingTypeStubs]

from isplit.runtime.server.metrics import STAGES
from isplit.runtime.server.models import Hosted
from isplit.runtime.server.refusal import RefusedError
from isplit.runtime.server.request import OUTPUT, VERSION, messages

_config: Any = model_config_pb2

PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
EXTENSIONS = ("model_configuration", "model_repository", "statistics")
"""The supported extensions of the protocol; of model_repository, only the index is supported."""

_TYPES = {"UINT8": "TYPE_UINT8", "BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}


def unknown_model(name: str, models: Mapping[str, Hosted]) -> RefusedError:
    """Return the refusal of a request for an unknown model."""
    return RefusedError("NOT_FOUND", f"there is no model {name[:100]!r}: this server has {', '.join(models)}")


def find_model(name: str, version: str, models: Mapping[str, Hosted]) -> Hosted:
    """Return a model by its name and version; an empty version stands for the only one.

    Raises:
        RefusedError: NOT_FOUND, because there is no such model or version.

    """
    model = models.get(name)
    if model is None or version not in ("", VERSION):
        raise unknown_model(name, models)
    return model


def model_metadata(model: Hosted) -> Any:
    """Return the inputs and outputs of a model; -1 stands for the batch."""
    tensor = messages.ModelMetadataResponse.TensorMetadata
    return messages.ModelMetadataResponse(
        name=model.name,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=[
            tensor(name=spec.name, datatype=spec.datatype, shape=(-1, *spec.shape)) for spec in model.specs.values()
        ],
        outputs=[tensor(name=OUTPUT, datatype="FP32", shape=(-1, model.outputs))],
    )


def model_config(model: Hosted, *, max_batch: int) -> Any:
    """Return a model's configuration in Triton's format.

    Each input is optional, because a request gives one of them. As `max_batch_size` is set, shapes exclude the batch.
    The shape of one BYTES element is [1], which without the batch Triton writes as [].
    """
    inputs = [
        _config.ModelInput(
            name=spec.name,
            data_type=_config.DataType.Value(_TYPES[spec.datatype]),
            dims=spec.shape,
            optional=len(model.specs) > 1,
        )
        for spec in model.specs.values()
    ]
    output = _config.ModelOutput(name=OUTPUT, data_type=_config.DataType.Value(_TYPES["FP32"]), dims=[model.outputs])
    config = _config.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=max_batch,
        input=inputs,
        output=[output],
        dynamic_batching=_config.ModelDynamicBatching(),
    )
    return messages.ModelConfigResponse(config=config)


def repository_index(models: Mapping[str, Hosted], *, is_ready: bool, only_ready: bool) -> Any:
    """Return every model with its state, or only those that take requests."""
    index: list[Any] = []
    for model in models.values():
        serves = is_ready and model.batcher.is_alive
        if serves or not only_ready:
            state, reason = ("READY", "") if serves else ("UNAVAILABLE", "the server starts, drains or stops")
            index.append(
                messages.RepositoryIndexResponse.ModelIndex(
                    name=model.name, version=VERSION, state=state, reason=reason
                )
            )
    return messages.RepositoryIndexResponse(models=index)


@dataclass
class Statistics:
    """The work of one model since the server started, for ModelStatistics."""

    answers: int = 0
    failures: int = 0
    images: int = 0
    failed_ms: float = 0.0
    stages_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """The time of all answered requests in each stage."""
    last_ms: int = 0
    """The time of the last request, in milliseconds since 1970."""

    def answered(self, *, images: int, stages_ms: Mapping[str, float]) -> None:
        """Count an answer and the time of its stages."""
        self.answers += 1
        self.images += images
        for stage, milliseconds in stages_ms.items():
            self.stages_ms[stage] += milliseconds
        self.last_ms = time.time_ns() // 10**6

    def refused(self, server_ms: float) -> None:
        """Count a request that got no answer."""
        self.failures += 1
        self.failed_ms += server_ms
        self.last_ms = time.time_ns() // 10**6

    def message(self, model: Hosted) -> Any:
        """Return a ModelStatistics message, with the batches that were computed by their size."""
        batches = [
            messages.InferBatchStatistics(
                batch_size=size, compute_infer=messages.StatisticDuration(count=count, ns=model.batcher.batch_ns[size])
            )
            for size, count in sorted(model.batcher.batches.items())
        ]
        return messages.ModelStatistics(
            name=model.name,
            version=VERSION,
            last_inference=self.last_ms,
            inference_count=self.images,
            execution_count=sum(model.batcher.batches.values()),
            inference_stats=messages.InferStatistics(
                success=_duration(self.answers, self.stages_ms["server"]),
                fail=_duration(self.failures, self.failed_ms),
                queue=_duration(self.answers, self.stages_ms["queue"]),
                compute_input=_duration(self.answers, self.stages_ms["decode"]),
                compute_infer=_duration(self.answers, self.stages_ms["infer"]),
                compute_output=_duration(self.answers, 0.0),
            ),
            batch_stats=batches,
        )


def _duration(count: int, milliseconds: float) -> Any:
    return messages.StatisticDuration(count=count, ns=round(milliseconds * 1e6))
