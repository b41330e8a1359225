"""The server's half of the runtime: how many it serves, and what it does with a million hostile requests.

    python benchmarks/runtime_server.py [throughput] [hostile] [--requests 1000000] [--quick]

throughput  Images per second with 1, 8 and 32 clients, batching on and off. The server is `isplit serve` in a process
            of its own. The clients are tasks of one other process, each of which sends its next request when it has
            the answer to the last; they share the machine's cores with the server, so that the figures are a lower
            bound. Configurations take turns; medians of the rounds.
hostile     See hostile_requests.py.

Results go to benchmarks/results/runtime_server.json and docs/runtime-benchmarks.md; a part that was not run keeps its
last figures.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio
import numpy as np
from dense_bundle import latents, write_bundle
from hostile_requests import measure_hostile
from runtime_page import write_page
from tritonclient.grpc import service_pb2, service_pb2_grpc

from isplit.runtime.bundle import Bundle

RESULTS = Path(__file__).parent / "results" / "runtime_server.json"
PARTS = ("throughput", "hostile")

pb: Any = service_pb2

CLIENTS = (1, 8, 32)
# VGG16's tail after its last pool, on 64-pixel images and 20 classes. It gains from batching: its weights, which are
# most of the work, are read from memory once per batch.
TAIL = {"channels": 512, "side": 2, "hidden": (4096, 4096)}


@contextmanager
def server(bundle: Path, *options: str) -> Iterator[str]:
    """Run `isplit serve` and yield its address."""
    command = [sys.executable, "-c", "from isplit.cli import main; main()", "serve", str(bundle), "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--log-level", "warning", *options], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        match = re.match(r"listening on (\S+?)[,:] ", process.stdout.readline())
        assert match, "the server did not start"
        try:
            yield match[1]
        finally:
            process.send_signal(signal.SIGTERM)


def requests(bundle: Bundle, count: int = 64) -> list[Any]:
    """Return requests with one payload each; zstd's, whose decoding takes next to nothing."""
    codec = bundle.codec("zstd")
    messages: list[Any] = []
    for latent in latents(bundle.record, count):
        payload = codec.encode_symbols(latent)
        request = pb.ModelInferRequest(model_name=f"{bundle.name}.zstd")
        request.inputs.add(name="payload", datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(payload).to_bytes(4, "little") + payload)
        messages.append(request)
    return messages


async def load(address: str, messages: list[Any], *, clients: int, seconds: float) -> dict[str, float]:
    """Ask for so long; return images per second, latency, the mean size of the batches, and our own processor time."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        for request in messages[:8]:
            await stub.ModelInfer(request)
        times: list[float] = []
        sizes: list[int] = []
        end = time.perf_counter() + seconds

        async def ask(number: int) -> None:
            while (started := time.perf_counter()) < end:
                number += 1
                reply = await stub.ModelInfer(messages[number % len(messages)], timeout=10)
                times.append(time.perf_counter() - started)
                sizes.append(reply.parameters["batch_size"].int64_param)

        started, cpu_s = time.perf_counter(), time.process_time()
        await asyncio.gather(*(ask(number * 7) for number in range(clients)))
        elapsed, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    return {
        "images_per_s": len(times) / elapsed,
        "latency_p50_ms": float(np.percentile(times, 50)) * 1e3,
        "latency_p95_ms": float(np.percentile(times, 95)) * 1e3,
        "batch_mean": statistics.fmean(sizes),
        "client_ms": cpu_s * 1e3 / len(times),
    }


def measure_throughput(*, seconds: float, rounds: int) -> dict[str, Any]:
    """Return the median of rounds for every configuration, and what batching gains."""
    measured: dict[tuple[str, int], list[dict[str, float]]] = {}
    with TemporaryDirectory() as directory:
        path = Path(directory) / "bundle"
        record = write_bundle(path, **TAIL)  # type: ignore[arg-type]
        messages = requests(Bundle.open(path))
        with server(path) as on, server(path, "--max-batch", "1") as off:
            for _ in range(rounds):
                for clients in CLIENTS:
                    for batching, address in (("on", on), ("off", off)):
                        result = asyncio.run(load(address, messages, clients=clients, seconds=seconds))
                        measured.setdefault((batching, clients), []).append(result)
    payload_bytes = statistics.fmean(len(request.raw_input_contents[0]) - 4 for request in messages)
    configurations = [
        {"batching": batching, "clients": clients}
        | {name: statistics.median(result[name] for result in results) for name in results[0]}
        for (batching, clients), results in measured.items()
    ]
    gains = {
        clients: statistics.median(r["images_per_s"] for r in measured["on", clients])
        / statistics.median(r["images_per_s"] for r in measured["off", clients])
        for clients in CLIENTS
    }
    return {
        "tail": f"{record.cuts[0].latent_shape} -> dense {TAIL['hidden']}",
        "payload_bytes_mean": payload_bytes,
        "configurations": configurations,
        "batching_gains": gains,
    }


def keep(part: str, result: dict[str, Any]) -> None:
    """Print a part's result and write it beside the others'."""
    machine = {
        "cpu": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("grpcio", "onnxruntime", "numpy")},
    }
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[part] = {"machine": machine, **result}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page()
    print(json.dumps({part: results[part]}, indent=1), flush=True)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which; all of them without any")
    parser.add_argument("--requests", type=int, default=1_000_000, help="for hostile")
    parser.add_argument("--quick", action="store_true", help="shorter, for a look")
    options = parser.parse_args()
    for part in options.parts or PARTS:
        if part == "throughput":
            keep(part, measure_throughput(seconds=1.0, rounds=1 if options.quick else 9))
        else:
            keep(part, measure_hostile(options.requests // 50 if options.quick else options.requests))


if __name__ == "__main__":
    main()
