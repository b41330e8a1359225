"""Messages of the Open Inference Protocol, byte for byte, and answers that are none."""

from dataclasses import replace

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from isplit.runtime.edge.transport import Request, TransportError
from isplit.runtime.edge.wire import read_reply, request_message
from tests.runtime.edge.conftest import response

REQUEST = Request(id="a-7", model="tiny.stage.1", tensor="payload", content=b"abc", shape=(1,))

# model_name, id, inputs {name, datatype, shape}, raw_input_contents: written for ever.
GOLDEN = {
    "payload": "0a0c74696e792e73746167652e311a03612d372a130a077061796c6f6164120542595445531a01013a0703000000616263",
    "image": "0a0c74696e792e73746167652e311a03612d372a110a05696d616765120542595445531a01013a0703000000616263",
    "latent": "0a0c74696e792e73746167652e311a03612d372a130a066c6174656e74120555494e54381a0201033a03616263",
}


@pytest.mark.parametrize("tensor", GOLDEN)
def test_golden(tensor):
    """A request's bytes are these: bytes after their length, a latent as it is."""
    shape = (1, 3) if tensor == "latent" else (1,)
    request = Request(id="a-7", model="tiny.stage.1", tensor=tensor, content=b"abc", shape=shape)
    assert GOLDEN[tensor] == request_message(request).SerializeToString(deterministic=True).hex()


def ask():
    return request_message(REQUEST)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", ["logits", "output_0"])
def test_reply(raw, name):
    """Logits are read raw or listed, under their name or as the only output."""
    reply = read_reply(response(ask(), [1, 2.5], name=name, raw=raw))
    assert ("a-7", [1.0, 2.5], np.float32) == (reply.id, reply.logits.tolist(), reply.logits.dtype)
    assert (None, None, None) == (reply.server_ms, reply.queue_ms, reply.batch_size)


def test_timings():
    """The server's own times come with the answer, as either kind of number."""
    reply = read_reply(response(ask(), [1], queue_ms=0.5, decode_ms=1, infer_ms=2.0, server_ms=4.0, batch_size=3))
    assert (0.5, 1.0, 2.0, 4.0, 3) == (
        reply.queue_ms,
        reply.decode_ms,
        reply.infer_ms,
        reply.server_ms,
        reply.batch_size,
    )


@pytest.mark.parametrize(("said", "expected"), [(None, None), ("cuda", "cuda"), ("x" * 101, "x" * 100)])
def test_provider(said, expected):
    """What a server says that it runs on is taken, and cut where it is long."""
    message = response(ask(), [1])
    if said is not None:
        message.parameters["provider"].string_param = said
    assert expected == read_reply(message).provider


def test_which_file_is_meant():
    """A request says which file the server should run where that is asked, and has no parameter where it is not."""
    asked = request_message(replace(REQUEST, model_sha256="abc"))
    assert {"model_sha256": "abc"} == {key: value.string_param for key, value in asked.parameters.items()}
    assert {} == dict(ask().parameters)


def unreadable(message, match):
    with pytest.raises(TransportError, match=match) as error:
        read_reply(message)
    assert "UNKNOWN" == error.value.status


def test_no_output():
    """An answer without outputs is none."""
    unreadable(service_pb2.ModelInferResponse(id="a-7"), r"outputs \[\]")


def test_several_outputs():
    """Of several outputs, none called logits, none is guessed at."""
    message = response(ask(), [1], name="a")
    message.outputs.add(name="b", datatype="FP32", shape=[1, 1])
    unreadable(message, "'a', 'b'")


def test_logits_among_others():
    """Of several outputs, the one called logits is taken, wherever it is."""
    message = service_pb2.ModelInferResponse()
    for name, value in (("features", 1), ("logits", 2)):
        message.outputs.add(name=name, datatype="FP32", shape=[1, 1])
        message.raw_output_contents.append(np.array([value], "<f4").tobytes())
    assert [2.0] == read_reply(message).logits.tolist()


def test_other_type():
    """Logits of another type are refused, not reinterpreted."""
    message = response(ask(), [1])
    message.outputs[0].datatype = "FP64"
    unreadable(message, "FP64")


@pytest.mark.parametrize("shape", [[2, 1], [3], [1, 1, 2], [], [0]])
def test_other_shape(shape):
    """Logits whose shape is not one image's are refused."""
    message = response(ask(), [1, 2])
    message.outputs[0].shape[:] = shape
    unreadable(message, "2 values")


@pytest.mark.parametrize("content", [b"", b"\0\0\0"])
def test_damaged_content(content):
    """Content that is no whole number of floats is refused."""
    message = response(ask(), [1])
    message.raw_output_contents[0] = content
    unreadable(message, "0 values")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(value):
    """Logits that are not numbers have no largest."""
    unreadable(response(ask(), [1, value]), "not finite")


def test_content_missing():
    """An output without its content is refused."""
    message = response(ask(), [1], name="other")
    message.outputs.add(name="logits", datatype="FP32", shape=[1, 1])
    unreadable(message, "no content")
