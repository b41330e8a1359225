"""How thin the client, the wire and the server are, as ratios to the least that does the same; all in one run.

    python benchmarks/thin_client.py [client] [throughput] [--quick]

client      Processor time of the client for one image, beyond preprocess, head and encode, over that of a bare gRPC
            stub that sends the same payload to an echo. The round trip over the work itself, beside that of the echo.
            Bytes on the wire beyond the payload, and back, counted by a proxy. Blocks of images take turns.
throughput  Images per second of `isplit serve`, over what onnxruntime alone computes in batches of 16 and 8 on all
            cores. The load generator has one process and shares the cores with the server. Turns as above.

Ratios are medians of the rounds' ratios. Results go to benchmarks/results/thin_client.json and
docs/runtime-benchmarks.md; a part that was not run keeps its last figures.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from processes import MAIN, running
from runtime_edge import ECHO
from runtime_page import write_page
from synthetic_bundle import images, write_bundle
from thin_load import measure_throughput

from isplit.codec.image import preprocess
from isplit.runtime.bench.proxy import proxied
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.pictures import open_picture
from isplit.runtime.session import Session

RESULTS = Path(__file__).parent / "results" / "thin_client.json"
PARTS = ("client", "throughput")
PAYLOADS = (1_000, 20_000)
CLIENTS: dict[str, dict[str, Any]] = {
    "grpc": {"protocol": "grpc"},
    "lean": {"protocol": "lean"},
    "lean, no times": {"protocol": "lean", "server_times": False},
}
"""Options of EdgeClient, by the name of the wire that they choose."""

_BLOCK = 20
"""Images of one block. Threads of gRPC finish their work a little later than a call, so that single calls mislead."""


def block(work: Callable[[int], object]) -> tuple[float, float]:
    """Return the processor time of this process and the time, in ms, of one call out of a block."""
    time.sleep(0.002)  # what the last block left to other threads ends here
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    for number in range(_BLOCK):
        work(number)
    elapsed_s = time.perf_counter() - begun_s
    return (time.process_time() - cpu_s) / _BLOCK * 1e3, elapsed_s / _BLOCK * 1e3


def measure_client(*, rounds: int) -> dict[str, Any]:
    """Measure every payload size over every wire."""
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as scratch:
        directory = Path(scratch) / "bench"
        write_bundle(directory, payloads=PAYLOADS)
        bundle = Bundle.open(directory)
        with running(MAIN, "serve", directory, "--port", 0) as server, running(ECHO) as echo:
            for size in PAYLOADS:
                rows += _measure_size(bundle, str(size), server.address, echo.address, rounds)
    return {"rows": rows, "rounds": rounds, "images_per_block": _BLOCK, "load_average": os.getloadavg()[0]}


def _measure_size(bundle: Bundle, cut: str, server: str, echo: str, rounds: int) -> list[dict[str, Any]]:
    pictures = images(_BLOCK)
    head, tail, codec = Session(bundle.head_path(cut)), Session(bundle.tail_path(cut)), bundle.codec(cut)
    clients = {name: EdgeClient(bundle, server, fallback=False, **options) for name, options in CLIENTS.items()}
    payload = codec.encode_symbols(head.run(images(1))[0])

    def encode(number: int) -> bytes:
        pixels = preprocess(open_picture(pictures[number], name=""), bundle.record.preprocessing)
        return codec.encode_symbols(head.run(pixels[None])[0])

    def compute(number: int) -> object:
        return tail.run(codec.decode_symbols(encode(number))[None])

    with grpc.insecure_channel(echo) as channel:
        stub = channel.unary_unary("/bench/Echo")
        works: dict[str, Callable[[int], object]] = {
            "encode": encode,
            "compute": compute,
            "stub": lambda _: stub(payload),
            **{name: _classify(client, pictures, cut) for name, client in clients.items()},
        }
        for work in works.values():
            block(work)
        times = [{name: block(work) for name, work in works.items()} for _ in range(rounds)]
    for client in clients.values():
        client.close()
    return [
        {"wire": name, "payload_bytes": len(payload)}
        | _figures(times, name)
        | _wire_bytes(bundle, cut, server, len(payload), CLIENTS[name])
        for name in clients
    ]


def _classify(client: EdgeClient, pictures: Any, cut: str) -> Callable[[int], object]:
    def work(number: int) -> None:
        answer = client.classify(pictures[number], placement=cut)
        assert answer.source == "split", answer.reason

    return work


def _figures(times: list[dict[str, tuple[float, float]]], name: str) -> dict[str, float]:
    cpu_ms = [of[name][0] - of["encode"][0] for of in times]
    overhead_ms = [of[name][1] - of["compute"][1] for of in times]
    return {
        "client_cpu_ms": statistics.median(cpu_ms),
        "stub_cpu_ms": statistics.median(of["stub"][0] for of in times),
        "cpu_over_stub": statistics.median(cpu / of["stub"][0] for cpu, of in zip(cpu_ms, times, strict=True)),
        "overhead_ms": statistics.median(overhead_ms),
        "echo_ms": statistics.median(of["stub"][1] for of in times),
        "over_echo_ms": statistics.median(ms - of["stub"][1] for ms, of in zip(overhead_ms, times, strict=True)),
    }


def _wire_bytes(bundle: Bundle, cut: str, server: str, payload_bytes: int, options: dict[str, Any]) -> dict[str, float]:
    """Count the bytes of a warm connection for one request: up beyond the payload, and down in all."""
    requests = 24
    with (
        proxied(server) as (address, counted),
        EdgeClient(bundle, address, placement=cut, fallback=False, **options) as client,
    ):
        client.classify(images(1)[0])
        time.sleep(0.05)
        up, down = counted.up_bytes, counted.down_bytes
        for _ in range(requests):
            client.classify(images(1)[0])
        time.sleep(0.05)
        return {
            "up_bytes": (counted.up_bytes - up) / requests - payload_bytes,
            "down_bytes": (counted.down_bytes - down) / requests,
        }


def keep(part: str, result: dict[str, Any]) -> None:
    """Print a part's result and write it beside the others'."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "platform": platform.machine()}
    results |= {"machine": machine, part: result}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page()


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which; all of them without any")
    parser.add_argument("--quick", action="store_true", help="shorter, and nothing is kept")
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        if part == "client":
            result = measure_client(rounds=10 if arguments.quick else 60)
        else:
            result = measure_throughput(rounds=3 if arguments.quick else 9)
        print(json.dumps({part: result}, indent=1), flush=True)
        if not arguments.quick:
            keep(part, result)


if __name__ == "__main__":
    main()
