"""Measure how many answers are late when the server hangs, and every image falls back to the device.

    python benchmarks/runtime_edge.py deadlines [--wire grpc|lean] [--quick]

A server of either wire takes each request and never answers. The circuit breaker is off, so that every image waits for
the server until its share of the deadline is used up, and is then answered by the whole model on the device. Beside
what isplit holds back for that stands what it held back before: the last time that the model took, and nothing for the
timer.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from dense_bundle import STRIDE, write_bundle

from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.edge.reserve import Reserve
from isplit.runtime.edge.settings import ProtocolName

DEADLINES_MS = (50.0, 100.0, 200.0, 500.0)
_SIDE = 14

_HUNG = """
from concurrent.futures import ThreadPoolExecutor
import threading
import grpc

class Hang(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: threading.Event().wait())

server = grpc.server(ThreadPoolExecutor(2000), handlers=[Hang()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
"""

_HUNG_LEAN = """
import socket, threading
from isplit.runtime.lean.device_frames import MAGIC

def hang(connection):
    connection.sendall(MAGIC)
    while connection.recv(2**16):
        pass

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=hang, args=(listener.accept()[0],), daemon=True).start()
"""

_HUNG_SERVERS: dict[ProtocolName, str] = {"grpc": _HUNG, "lean": _HUNG_LEAN}


class LastTime(Reserve):
    """Hold back what the model took the last time: the rule before."""

    def __init__(self) -> None:
        super().__init__()
        self._last_ms: float | None = None

    def note_local(self, elapsed_ms: float) -> None:
        """Remember one time only."""
        self._last_ms = elapsed_ms

    def held_back_ms(self) -> float | None:
        """Return it."""
        return self._last_ms


@contextmanager
def hung_server(wire: ProtocolName) -> Iterator[str]:
    """Start a server that takes requests over a wire and never answers; yield its address."""
    process = subprocess.Popen([sys.executable, "-c", _HUNG_SERVERS[wire]], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def deadlines(*, wire: ProtocolName, images: int) -> dict[str, Any]:
    """Measure every deadline, one image at a time and two at once, and over gRPC the old rule beside the new one."""
    rows: list[dict[str, Any]] = []
    trials = [("new", 1, images), ("new", 2, images)]
    if wire == "grpc":
        trials.append(("last time", 1, images // 2))
    with tempfile.TemporaryDirectory() as scratch, hung_server(wire) as address:
        directory = Path(scratch) / "bench"
        write_bundle(directory, channels=16, side=_SIDE, hidden=(1024, 1024))
        for deadline_ms in DEADLINES_MS:
            for rule, depth, count in trials:
                row = _measure(directory, address, wire, deadline_ms=deadline_ms, rule=rule, depth=depth, count=count)
                print(row, flush=True)
                rows.append(row)
    return {"rows": rows, "cpus": os.cpu_count(), "platform": platform.machine(), "conditions": _conditions()}


def _conditions() -> str:
    """Say whether other work on the machine had to stand back."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return "The device's and the server's processes had real-time priority over other work on the machine."
    return "No process had priority over other work on the machine."


def _measure(
    directory: Path, address: str, wire: ProtocolName, *, deadline_ms: float, rule: str, depth: int, count: int
) -> dict[str, Any]:
    pixels = np.random.default_rng(5).integers(0, 256, (_SIDE * STRIDE, _SIDE * STRIDE, 3), dtype=np.uint8)
    load = os.getloadavg()[0]
    with EdgeClient(
        directory,
        address,
        deadline_ms=deadline_ms,
        require_server=False,
        retry=Retry(),
        breaker=BreakerSettings(failures=10**9),
        verify=False,
        protocol=wire,
    ) as client:
        if rule != "new":
            client._reserve = client._server._reserve = LastTime()  # pyright: ignore - the rule before, and only here
        client.warm_up()
        answers = list(client.run([pixels] * count, depth=depth))
        held_back_ms = client._reserve.held_back_ms()  # pyright: ignore[reportPrivateUsage]
    assert {"local-fallback"} == {answer.source for answer in answers}
    late_ms = [answer.timings.total_ms - deadline_ms for answer in answers]
    return {
        "wire": wire,
        "deadline_ms": deadline_ms,
        "rule": rule,
        "depth": depth,
        "images": count,
        "late": sum(answer.late for answer in answers),
        "worst_ms": max(late_ms),
        "median_early_ms": -float(np.median(late_ms)),
        "held_back_ms": held_back_ms,
        "local_ms": float(np.median([answer.timings.local_ms or 0.0 for answer in answers])),
        "load_average": load,
    }
