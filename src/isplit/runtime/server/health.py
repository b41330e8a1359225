"""Serve gRPC's health service, `grpc.health.v1`: report whether the server serves, once or at every change."""

import asyncio
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2  # pyright: ignore[reportMissingTypeStubs]

from isplit.runtime.server.front.method import Incoming, Method
from isplit.runtime.server.refusal import RefusedError, invalid

_pb: Any = health_pb2
_MAX_REQUEST_BYTES = 2**10


class Health:
    """Reports for each of `services` whether it serves; either all of them do, or none."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services)
        self._serving = False
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Change the reported state, and notify watchers."""
        if serving != self._serving:
            self._serving = serving
            self._changed.set()
            self._changed = asyncio.Event()

    def methods(self) -> tuple[Method, ...]:
        """Return the methods. `Check` is public, because an orchestrator's probe cannot send a token."""
        return (
            Method(path="/grpc.health.v1.Health/Check", answer=self._check, max_bytes=_MAX_REQUEST_BYTES, public=True),
            Method(path="/grpc.health.v1.Health/Watch", answer=self._watch, max_bytes=_MAX_REQUEST_BYTES),
        )

    async def _check(self, call: Incoming) -> bytes:
        service = _service(call)
        if service not in self._services:
            raise RefusedError("NOT_FOUND", f"there is no service {service[:100]!r}")
        return self._status(service)

    async def _watch(self, call: Incoming) -> None:
        service = _service(call)
        call.release()
        while True:
            changed = self._changed
            call.send(self._status(service))
            await changed.wait()

    def _status(self, service: str) -> bytes:
        status: bytes = _pb.HealthCheckResponse(status=self._value(service)).SerializeToString()
        return status

    def _value(self, service: str) -> Any:
        if service not in self._services:
            return _pb.HealthCheckResponse.SERVICE_UNKNOWN
        return _pb.HealthCheckResponse.SERVING if self._serving else _pb.HealthCheckResponse.NOT_SERVING


def _service(call: Incoming) -> str:
    try:
        service: str = _pb.HealthCheckRequest.FromString(bytes(call.message)).service
    except DecodeError as error:
        msg = f"the message is not a HealthCheckRequest: {error}"
        raise invalid(msg) from error
    return service
