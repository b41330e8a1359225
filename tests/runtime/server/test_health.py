"""The health service, without a server around it."""

import asyncio
from types import SimpleNamespace

import pytest
from grpc_health.v1 import health_pb2

from isplit.runtime.server.health import Health
from isplit.runtime.server.refusal import RefusedError


def ask(health, service=""):
    """Return the answer of Check for a service."""
    message = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    answer = asyncio.run(health.methods()[0].answer(SimpleNamespace(message=message)))
    return health_pb2.HealthCheckResponse.FromString(answer).status


def test_a_new_server_does_not_serve_yet():
    """It says so until it is told that it serves, and again afterwards."""
    health = Health([""])
    answers = [ask(health)]
    for serving in (True, False):
        health.set_serving(serving)
        answers.append(ask(health))
    status = health_pb2.HealthCheckResponse
    assert [status.NOT_SERVING, status.SERVING, status.NOT_SERVING] == answers


def test_unknown_service():
    """A service that is not there is NOT_FOUND."""
    with pytest.raises(RefusedError) as caught:
        ask(Health(["a"]), "b")
    assert "NOT_FOUND" == caught.value.status


def test_limits():
    """A request may have 1024 bytes; an orchestrator's probe needs no token, who watches does."""
    assert [(1024, True), (1024, False)] == [(method.max_bytes, method.public) for method in Health([]).methods()]
