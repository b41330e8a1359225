"""Methods of the protocol: how long their messages may be, and that a refusal is counted once."""

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages


def test_length_of_a_simple_message(running):
    """A question without a tensor may have 16 KiB; a name of that length is unknown, a longer one is not read."""
    statuses = []
    for length in (16_381, 16_382):  # after three bytes of the field's number and length
        request = messages.ModelMetadataRequest(name="n" * length)
        assert 3 + length == request.ByteSize()
        with pytest.raises(grpc.RpcError) as refused:
            running.stub.ModelMetadata(request, timeout=60)
        statuses.append(refused.value.code().name)
    assert ["NOT_FOUND", "RESOURCE_EXHAUSTED"] == statuses


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelInfer"])
def test_a_refusal_is_counted_once(running, method):
    """A model that is not there is one refusal for the operator, whichever method was asked."""
    request = {
        "ModelMetadata": messages.ModelMetadataRequest(name="none"),
        "ModelInfer": messages.ModelInferRequest(model_name="none"),
    }[method]
    line = 'isplit_refusals_total{reason="not_found"}'
    before = running.metric(line)
    with pytest.raises(grpc.RpcError):
        getattr(running.stub, method)(request, timeout=60)
    assert before + 1 == running.metric(line)
