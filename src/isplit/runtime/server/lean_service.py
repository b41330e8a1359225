"""Read the requests of the lean wire, and write their answers."""

from dataclasses import dataclass
from math import prod

import numpy as np

from isplit.runtime.lean.device_frames import Opening
from isplit.runtime.lean.server_frames import MAX_BODY_BYTES, AnswerBody, ServerTimes, encode_answer
from isplit.runtime.server.computed import Computed
from isplit.runtime.server.engine import provider_to_report
from isplit.runtime.server.models import Hosted
from isplit.runtime.server.refusal import RefusedError, invalid
from isplit.runtime.server.request import Content, TensorSpec, file_fault

_ANSWER_OVERHEAD_BYTES = 2**9
"""Most bytes of an answer beside its logits."""


@dataclass
class Answered:
    """An answer before it is written: its number of images, the time of decoding, and what the engine gave."""

    rows: int
    decode_ms: float
    computed: Computed
    server_ms: float = 0.0

    def stages_ms(self) -> dict[str, float]:
        """Return the times of the server's stages, in milliseconds."""
        return {
            "decode": self.decode_ms,
            "queue": self.computed.queue_ms,
            "infer": self.computed.infer_ms,
            "server": self.server_ms,
        }


def lean_spec(opening: Opening, model: Hosted) -> TensorSpec:
    """Return the specification of the tensor that a device will send.

    Raises:
        RefusedError: INVALID_ARGUMENT, because the model has no such tensor, runs another file, has another number of
            classes, or has more of them than an answer can hold.

    """
    spec = model.specs.get(opening.tensor)
    if spec is None:
        msg = f"the model {model.name!r} takes {' or '.join(model.specs)}, not {opening.tensor!r}"
        raise invalid(msg)
    if opening.sha256 and (fault := file_fault(model.name, model.sha256, opening.sha256)):
        raise invalid(fault)
    if opening.classes != model.outputs:
        msg = (
            f"the model {model.name!r} has {model.outputs} classes, and {opening.classes} are expected: this server "
            "has another bundle"
        )
        raise invalid(msg)
    if opening.wants_logits and 4 * model.outputs + _ANSWER_OVERHEAD_BYTES > MAX_BODY_BYTES:
        msg = f"{model.outputs} logits do not fit into an answer of the lean wire: ask over gRPC"
        raise RefusedError("UNIMPLEMENTED", msg)
    return spec


def lean_content(spec: TensorSpec, message: memoryview) -> Content:
    """Return the content of a request, which is one image's.

    Raises:
        RefusedError: INVALID_ARGUMENT, because the latent has another length.

    """
    if spec.datatype == "BYTES":
        return Content(spec=spec, rows=1, elements=(message,))
    if len(message) != prod(spec.shape):
        msg = f"{spec.name!r} has {len(message)} values, its shape {list(spec.shape)} says {prod(spec.shape)}"
        raise invalid(msg)
    return Content(spec=spec, rows=1, values=np.frombuffer(message, np.uint8).reshape(1, *spec.shape))


def lean_answer(opening: Opening, model: Hosted, answered: Answered) -> bytes:
    """Return the body of an answer: what the opening wants, and the provider if callers should know it."""
    computed = answered.computed
    times: ServerTimes | None = None
    if opening.wants_timings:
        times = ServerTimes(
            batch_size=computed.batch_size,
            decode_ms=answered.decode_ms,
            queue_ms=computed.queue_ms,
            infer_ms=computed.infer_ms,
            server_ms=answered.server_ms,
        )
    body = AnswerBody(
        best=() if opening.wants_logits else computed.batch.best(computed.first, opening.answer_classes),
        logits=computed.logits[0] if opening.wants_logits else None,
        times=times,
        provider=provider_to_report(model.engine) or "",
    )
    return encode_answer(opening, body)
