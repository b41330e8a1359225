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
from isplit.runtime.session import Session

CODER = "zstd"
CLIENTS = (8, 32)
"""Clients that send the next request when they have the last answer. 32 fill batches of 16, two at a time."""
BATCHES = (8, 16)

Load = Callable[[str, int, float], dict[str, float]]
"""Asks a server (address, clients, seconds), and returns images per second and the mean batch."""


def grpc_load(bundle: Bundle) -> Load:
    """Return the load generator over gRPC."""
    messages = requests(bundle)

    def run(address: str, clients: int, seconds: float) -> dict[str, float]:
        return asyncio.run(load(address, messages, clients=clients, seconds=seconds))

    return run


def measure_throughput(*, rounds: int, seconds: float = 1.0) -> dict[str, Any]:
    """Measure the server over every wire, and onnxruntime alone, in turns."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "bench"
        write_bundle(path, **TAIL)  # type: ignore[arg-type]
        bundle = Bundle.open(path)
        sessions = [Session(bundle.tail_path(CODER)) for _ in range(os.cpu_count() or 1)]
        loads = {"grpc": grpc_load(bundle)}
        alone: dict[int, list[float]] = {batch: [] for batch in BATCHES}
        served: dict[tuple[str, int], list[dict[str, float]]] = {}
        with server(path, "--max-batch", "16") as address:
            for _ in range(rounds):
                for batch in BATCHES:
                    alone[batch].append(images_per_s(sessions, latents(bundle.record, batch), seconds))
                for wire, run in loads.items():
                    for clients in CLIENTS:
                        served.setdefault((wire, clients), []).append(run(address, clients, seconds))
    rows = [
        {"wire": wire, "clients": clients}
        | {name: statistics.median(result[name] for result in results) for name in ("images_per_s", "batch_mean")}
        | {
            f"over_batch_{batch}": statistics.median(
                result["images_per_s"] / rate for result, rate in zip(results, alone[batch], strict=True)
            )
            for batch in BATCHES
        }
        for (wire, clients), results in served.items()
    ]
    rates = {str(batch): statistics.median(values) for batch, values in alone.items()}
    return {"rows": rows, "alone_images_per_s": rates, "rounds": rounds, "load_average": os.getloadavg()[0]}


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
