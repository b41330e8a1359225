"""Convert requests and replies to and from messages of the Open Inference Protocol v2, without a connection.

A tensor of bytes travels in raw_input_contents, each element after its length in four bytes, little endian. A tensor
of numbers travels as its bytes, little endian and row by row.
"""

from typing import Any, cast

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2  # pyright: ignore[reportMissingTypeStubs]

from isplit.runtime.edge.transport import Reply, Request, TransportError
from isplit.runtime.names import MODEL_SHA256, PROVIDER

# Type checkers know nothing of the generated module, because it is made at run time.
_pb: Any = service_pb2

OUTPUT = "logits"
_MAX_PROVIDER = 100
"""Most characters of a provider's name that are taken from a server."""


def request_message(request: Request) -> Any:
    """Return the ModelInferRequest of a request."""
    plain = request.tensor == "latent"
    message = _pb.ModelInferRequest(model_name=request.model, id=request.id)
    message.inputs.add(name=request.tensor, datatype="UINT8" if plain else "BYTES", shape=request.shape)
    content = request.content if plain else len(request.content).to_bytes(4, "little") + request.content
    message.raw_input_contents.append(content)
    if request.model_sha256 is not None:
        message.parameters[MODEL_SHA256].string_param = request.model_sha256
    return message


def parse_reply(content: bytes) -> Any:
    """Return the ModelInferResponse that a server sent.

    Raises:
        TransportError: UNKNOWN, because the bytes are no such message.

    """
    try:
        return _pb.ModelInferResponse.FromString(content)
    except DecodeError:
        raise _unreadable("bytes that are no ModelInferResponse") from None


def read_reply(message: Any) -> Reply:
    """Return the reply that a ModelInferResponse holds.

    Raises:
        TransportError: UNKNOWN, because it holds no float32 logits of one image.

    """
    parameters = message.parameters
    return Reply(
        id=message.id,
        logits=_logits(message),
        queue_ms=_number(parameters, "queue_ms"),
        decode_ms=_number(parameters, "decode_ms"),
        infer_ms=_number(parameters, "infer_ms"),
        server_ms=_number(parameters, "server_ms"),
        batch_size=parameters["batch_size"].int64_param if "batch_size" in parameters else None,
        provider=parameters[PROVIDER].string_param[:_MAX_PROVIDER] if PROVIDER in parameters else None,
    )


def _logits(message: Any) -> NDArray[np.float32]:
    """Find the output called logits, or the only output, because models of other servers may call it otherwise."""
    names = [str(output.name) for output in message.outputs]
    if OUTPUT in names:
        index = names.index(OUTPUT)
    elif len(names) == 1:
        index = 0
    else:
        raise _unreadable(f"outputs {names} instead of {OUTPUT!r}")
    output = message.outputs[index]
    if output.datatype != "FP32":
        raise _unreadable(f"{output.name!r} as {output.datatype} instead of FP32")
    shape = tuple(cast("list[int]", output.shape))
    if message.raw_output_contents:
        if index >= len(message.raw_output_contents):
            raise _unreadable(f"no content for {output.name!r}")
        raw: bytes = message.raw_output_contents[index]
        values = np.frombuffer(raw, "<f4") if len(raw) % 4 == 0 else np.empty(0, np.float32)
    else:
        values = np.array(output.contents.fp32_contents, np.float32)
    if shape not in ((values.size,), (1, values.size)) or values.size == 0:
        raise _unreadable(f"{values.size} values for {output.name!r} of shape {shape}, which is not one image's")
    if not np.isfinite(values).all():
        raise _unreadable("logits that are not finite")
    return values.astype(np.float32, copy=False)


def _number(parameters: Any, name: str) -> float | None:
    """Read a parameter that a server may give as either kind of number, or leave out."""
    if name not in parameters:
        return None
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    return float(getattr(parameter, kind)) if kind in ("double_param", "int64_param", "uint64_param") else None


def _unreadable(what: str) -> TransportError:
    return TransportError("UNKNOWN", f"the server answered with {what}")
