"""A request without its tensors' contents is what it was before, and the contents are views of the message."""

import pytest
from tritonclient.grpc import service_pb2 as messages

from isplit.runtime.server.request import parse


@pytest.mark.parametrize("length", [1, 100, 125, 126, 127, 128, 300, 20_000])
def test_an_input_keeps_what_is_beside_its_contents(length):
    """A name of any length, parameters and shape survive, whatever bytes the input's length takes."""
    request = messages.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"raw"])
    tensor = request.inputs.add(name="n" * length, datatype="UINT8", shape=[1, 300])
    tensor.contents.uint_contents.extend([1, 200])
    tensor.contents.bytes_contents.append(b"typed")
    request.outputs.add(name="logits")

    got = parse(memoryview(request.SerializeToString()), max_rows=1)

    assert (["raw"], [b"\x01\xc8\x01"], [b"typed"], True) == (
        [bytes(content).decode() for content in got.raw],
        [bytes(numbers) for numbers in got.typed_numbers],
        [bytes(content) for content in got.typed_bytes],
        got.has_contents,
    )
    request.inputs[0].ClearField("contents")
    request.ClearField("raw_input_contents")
    assert request == got.message
