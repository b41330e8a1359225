"""What a server that is not isplit's may do with a request."""

import grpc
import pytest

from isplit.runtime.edge.transport import Request, TransportError
from tests.runtime.edge.conftest import InProcess, response

REQUEST = Request(id="a-0", model="tiny.stage.1", tensor="payload", content=b"abc", shape=(1,))
TOKEN = "0123456789abcdef"


def echo(request, context):
    """Answer with three logits."""
    return response(request, [1, 2, 3], server_ms=0.5)


def serve_bundle(bundle):
    """Return what answers as a server of this bundle does."""
    local = InProcess(bundle)

    def answer(request, context):
        content = request.raw_input_contents[0]
        tensor = request.inputs[0].name
        asked = Request(
            id=request.id,
            model=request.model_name,
            tensor=tensor,
            content=content if tensor == "latent" else content[4:],
            shape=tuple(request.inputs[0].shape),
        )
        return response(request, local.infer(asked, timeout_s=None).logits, server_ms=0.5, batch_size=1)

    return answer


def refused(transport, status, *, timeout_s=30.0):
    with pytest.raises(TransportError) as error:
        transport.infer(REQUEST, timeout_s=timeout_s)
    assert status == error.value.status, str(error.value)


def demand_token(request, context):
    """Answer only who knows the token."""
    if ("authorization", f"Bearer {TOKEN}") not in [(key, value) for key, value in context.invocation_metadata()]:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed")
    return echo(request, context)
