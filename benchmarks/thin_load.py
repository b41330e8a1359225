"""The throughput of `isplit serve` over that of onnxruntime alone, with the load generator on the same cores."""

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from dense_bundle import latents, write_bundle
from runtime_server import TAIL, load, requests, server

from isplit.runtime.bundle import Bundle
from isplit.runtime.lean.device_frames import MAGIC, Opening, encode_opening, encode_request, hello
from isplit.runtime.lean.server_frames import ANSWER, FrameReader, decode_answer
from isplit.runtime.session import Session

CODER = "zstd"
CLIENTS = (8, 32)
"""Clients that send the next request when they have the last answer. 32 fill batches of 16, two at a time."""
BATCHES = (8, 16)
MAX_BATCH = 16
TAILS: dict[str, dict[str, Any]] = {
    "dense": TAIL,
    "convolutions": {"channels": 64, "side": 14, "hidden": (), "convolutions": 6},
}
"""A tail that reads its weights for most of the time, so that batches save much of it, and one that computes."""

Load = Callable[[str, int, float], dict[str, float]]
"""Asks a server (address, clients, seconds), and returns images per second, the mean batch, and the processor time that
the load generator took for an image, in milliseconds."""

Division = tuple[int, int]
"""The number of processors that compute a batch each, and the images of a batch."""


def grpc_load(bundle: Bundle) -> Load:
    """Return the load generator over gRPC."""
    messages = requests(bundle)

    def run(address: str, clients: int, seconds: float) -> dict[str, float]:
        return asyncio.run(load(address, messages, clients=clients, seconds=seconds))

    return run


def lean_load(bundle: Bundle) -> Load:
    """Return the load generator over the lean wire: one connection, as gRPC's has."""
    codec = bundle.codec(CODER)
    payloads = [codec.encode_symbols(latent) for latent in latents(bundle.record, 64)]
    opening = Opening(
        model=f"{bundle.name}.{CODER}",
        tensor="payload",
        classes=len(bundle.record.group.classes),
        best=5,
        wants_timings=True,
    )

    def run(address: str, clients: int, seconds: float) -> dict[str, float]:
        return asyncio.run(_lean_load(address, opening, payloads, clients=clients, seconds=seconds))

    return run


async def _lean_load(
    address: str, opening: Opening, payloads: list[bytes], *, clients: int, seconds: float
) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    host, port = address.rsplit(":", 1)
    transport, requester = await loop.create_connection(lambda: _LeanRequester(opening, payloads), host, int(port))
    try:
        await requester.ask(clients=8, ends_at=loop.time())  # the first answers are not counted
        requester.batch_sizes.clear()
        begun_s, cpu_s = loop.time(), time.process_time()
        await requester.ask(clients=clients, ends_at=begun_s + seconds)
        elapsed_s, cpu_s = loop.time() - begun_s, time.process_time() - cpu_s
    finally:
        transport.close()
    return {
        "images_per_s": len(requester.batch_sizes) / elapsed_s,
        "batch_mean": statistics.fmean(requester.batch_sizes),
        "client_ms": cpu_s * 1e3 / len(requester.batch_sizes),
    }


class _LeanRequester(asyncio.Protocol):
    """Several clients on one connection, each of which sends its next request when it has the last answer."""

    def __init__(self, opening: Opening, payloads: list[bytes]) -> None:
        self.batch_sizes: list[int] = []
        self._opening, self._payloads = opening, payloads
        self._reader = FrameReader()
        self._loop = asyncio.get_running_loop()
        self._greeting_left = len(MAGIC)
        self._open_requests = 0
        self._ends_at = 0.0
        self._done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(hello("") + encode_opening(0, self._opening))

    async def ask(self, *, clients: int, ends_at: float) -> None:
        """Ask until so late, and wait for the last answer; every client asks at least once."""
        self._ends_at = ends_at
        self._done = self._loop.create_future()
        self._open_requests = clients
        self._transport.write(b"".join(self._request(number) for number in range(clients)))
        await self._done

    def data_received(self, data: bytes) -> None:
        if self._greeting_left:
            rest = data[self._greeting_left :]
            self._greeting_left -= len(data) - len(rest)
            data = rest
        requests: list[bytes] = []
        for frame in self._reader.feed(data):
            assert frame.kind == ANSWER, frame.body
            times = decode_answer(self._opening, frame.body).times
            assert times is not None
            self.batch_sizes.append(times.batch_size)
            if self._loop.time() < self._ends_at:
                requests.append(self._request(frame.number + 7))
            else:
                self._open_requests -= 1
        if requests:
            self._transport.write(b"".join(requests))
        if not self._open_requests and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _request(self, number: int) -> bytes:
        return encode_request(0, number % 2**24, self._payloads[number % len(self._payloads)], deadline_ms=10_000)


def measure_throughput(*, rounds: int) -> dict[str, Any]:
    """Measure the server over every wire, and onnxruntime alone, in turns, with each tail."""
    load_average = os.getloadavg()[0]
    tails = [_measure_tail(tail, rounds=rounds) for tail in TAILS]
    return {"tails": tails, "rounds": rounds, "load_average": load_average}


def _measure_tail(tail: str, *, rounds: int, seconds: float = 1.0) -> dict[str, Any]:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "bench"
        write_bundle(path, **TAILS[tail])
        bundle = Bundle.open(path)
        sessions = [Session(bundle.tail_path(CODER)) for _ in range(os.cpu_count() or 1)]
        loads = {"grpc": grpc_load(bundle), "lean": lean_load(bundle)}
        alone: list[dict[Division, float]] = []
        divisions = dict.fromkeys(
            [
                *((len(sessions), batch) for batch in BATCHES),
                *(each for clients in CLIENTS for each in _divisions(len(sessions), clients)),
            ]
        )
        served: dict[tuple[str, int], list[dict[str, float]]] = {}
        with server(path, "--max-batch", str(MAX_BATCH)) as address:
            for _ in range(rounds):
                alone.append(
                    {
                        (processors, batch): images_per_s(sessions[:processors], latents(bundle.record, batch), seconds)
                        for processors, batch in divisions
                    }
                )
                for wire, run in loads.items():
                    for clients in CLIENTS:
                        served.setdefault((wire, clients), []).append(run(address, clients, seconds))
    rows = [_row(wire, clients, results, alone) for (wire, clients), results in served.items()]
    medians = {each: statistics.median(rates[each] for rates in alone) for each in divisions}
    return {
        "tail": tail,
        "rows": rows,
        "alone_images_per_s": {str(batch): medians[len(sessions), batch] for batch in BATCHES},
        "divided_images_per_s": {f"{processors}x{batch}": rate for (processors, batch), rate in medians.items()},
    }


def _divisions(processors: int, clients: int) -> list[Division]:
    """Return how the images of so many clients can be divided among one or more processors."""
    return [(count, min(MAX_BATCH, max(1, clients // count))) for count in range(1, processors + 1)]


def _row(
    wire: str, clients: int, results: list[dict[str, float]], alone: list[dict[Division, float]]
) -> dict[str, Any]:
    """Return the figures of a wire and a number of clients, as medians of the rounds and of the rounds' ratios."""
    processors = max(count for count, _ in alone[0])
    limits = [
        _limit(rates, _divisions(processors, clients), result["client_ms"])
        for result, rates in zip(results, alone, strict=True)
    ]
    row: dict[str, Any] = {"wire": wire, "clients": clients}
    for name in ("images_per_s", "batch_mean", "client_ms"):
        row[name] = statistics.median(result[name] for result in results)
    for batch in BATCHES:
        bases = [rates[processors, batch] for rates in alone]
        row[f"over_batch_{batch}"] = statistics.median(
            result["images_per_s"] / base for result, base in zip(results, bases, strict=True)
        )
        row[f"limit_over_batch_{batch}"] = statistics.median(
            limit / base for limit, base in zip(limits, bases, strict=True)
        )
    row["over_limit"] = statistics.median(
        result["images_per_s"] / limit for result, limit in zip(results, limits, strict=True)
    )
    return row


def _limit(rates: dict[Division, float], divisions: list[Division], client_ms: float) -> float:
    """Return the images per second of a server that costs nothing: onnxruntime's, less the load generator's time.

    Each client waits for its answer, so that no more images than clients are computed at a time. With one batch at a
    time the load generator works while no batch is computed, and otherwise on the processors that compute.
    """
    return max(1 / (1 / rates[each] + client_ms / 1e3 / each[0]) for each in divisions)


def images_per_s(sessions: list[Session], batch: Any, seconds: float) -> float:
    """Return the images per second of onnxruntime alone, with one batch at a time on each core."""
    counts = [0] * len(sessions)
    ends_at = time.perf_counter() + seconds
    content = np.ascontiguousarray(batch)

    def run(number: int) -> None:
        while time.perf_counter() < ends_at:
            sessions[number].run(content)
            counts[number] += len(content)

    begun_s = time.perf_counter()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun_s)
