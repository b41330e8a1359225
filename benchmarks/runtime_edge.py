"""The device's half of the runtime: what it adds, what it survives, and what it weighs.

    python benchmarks/runtime_edge.py [overhead] [deadlines] [chaos] [footprint] [--wire grpc|lean] [--quick]

overhead   End to end over loopback (EdgeClient and `isplit serve` in processes of their own), beside the same work
           back to back in one process (preprocess, head, encode, decode, tail) and beside a bare gRPC echo of the same
           bytes (grpc.aio server, and one with threads; blocking stub), in turns. Overhead is the difference of the
           medians; beside it is that of the 10th percentiles, which other work on the machine disturbs less.
deadlines  How many fallbacks are late while the server hangs (edge_deadlines.py).
chaos      What becomes of 10,000 requests while server and link fail (edge_chaos.py).
footprint  What importing the client and `isplit run` take (edge_footprint.py).

Deadlines and chaos are measured over both wires, or over the one that is given. Results go to
benchmarks/results/runtime_edge.json and docs/runtime-benchmarks.md; a part or a wire that was not run keeps its last
figures.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from edge_chaos import chaos
from edge_deadlines import deadlines
from edge_footprint import footprint
from processes import MAIN, running
from runtime_page import write_page
from synthetic_bundle import images, write_bundle

from isplit.codec.image import preprocess
from isplit.records import Answer
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.pictures import open_picture
from isplit.runtime.edge.settings import ProtocolName
from isplit.runtime.session import Session

RESULTS = Path(__file__).parent / "results" / "runtime_edge.json"
WIRES: tuple[ProtocolName, ...] = ("grpc", "lean")
PAYLOADS = (1_000, 5_000, 20_000, 50_000)

ECHO = """
import asyncio, sys
import grpc

async def main():
    server = grpc.aio.server()
    async def echo(request, context):
        return request[:64]
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench", {"Echo": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""

THREADED_ECHO = """
from concurrent.futures import ThreadPoolExecutor
import grpc

server = grpc.server(ThreadPoolExecutor(2))
handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request[:64])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench", {"Echo": handler})])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on 127.0.0.1:{port}", flush=True)
server.wait_for_termination()
"""


def overhead(directory: Path, *, rounds: int) -> dict[str, Any]:
    """Measure each payload size: end to end, back to back in one process, and a bare echo, in turns."""
    bundle = Bundle.open(directory)
    pictures = images(16)
    rows: list[dict[str, float]] = []
    with (
        running(MAIN, "serve", directory, "--port", 0) as server,
        running(ECHO) as echo,
        running(THREADED_ECHO) as threaded,
        EdgeClient(bundle, server.address, fallback=False, protocol="grpc") as client,
        grpc.insecure_channel(echo.address) as bare,
        grpc.insecure_channel(threaded.address) as bare_threaded,
    ):
        calls = [channel.unary_unary("/bench/Echo") for channel in (bare, bare_threaded)]
        for size in PAYLOADS:
            rows.append(_overhead_at(bundle, client, calls, str(size), pictures, rounds))
    return {"rows": rows, "rounds": rounds, "load_average": os.getloadavg()[0]}


def _overhead_at(
    bundle: Bundle, client: EdgeClient, calls: list[Any], cut: str, pictures: Any, rounds: int
) -> dict[str, float]:
    head, tail, codec = Session(bundle.head_path(cut)), Session(bundle.tail_path(cut)), bundle.codec(cut)
    times: dict[str, list[float]] = {"end_to_end": [], "back_to_back": [], "echo": [], "threaded_echo": []}
    answers: list[Answer] = []
    payload = b""
    for number in range(rounds + 50):
        picture = pictures[number % len(pictures)]
        begun = time.perf_counter()
        answer = client.classify(picture, placement=cut)
        split = time.perf_counter()
        pixels = preprocess(open_picture(picture, name=""), bundle.record.preprocessing)
        payload = codec.encode_symbols(head.run(pixels[None])[0])
        logits = tail.run(codec.decode_symbols(payload)[None])[0]
        whole = time.perf_counter()
        calls[0](payload)
        echoed = time.perf_counter()
        calls[1](payload)
        done = time.perf_counter()
        assert tuple(logits.tolist()) == answer.logits, answer.reason
        if number >= 50:  # the first are warm-up
            parts_s = (split - begun, whole - split, echoed - whole, done - echoed)
            for name, seconds in zip(times, parts_s, strict=True):
                times[name].append(seconds * 1000)
            answers.append(answer)
    median = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    quick = {name: float(np.percentile(values, 10)) for name, values in times.items()}
    parts = {
        f"{name}_ms": statistics.median(getattr(answer.timings, f"{name}_ms") for answer in answers)
        for name in ("wire", "server", "server_queue", "server_decode", "server_infer")
    }
    row = {
        "payload_bytes": len(payload),
        "overhead_ms": median["end_to_end_ms"] - median["back_to_back_ms"],
        "overhead_p10_ms": quick["end_to_end"] - quick["back_to_back"],
        "echo_p10_ms": quick["echo"],
        **median,
        **parts,
    }
    print(
        "{payload_bytes:>6} bytes: overhead {overhead_ms:.2f} ms (p10 {overhead_p10_ms:.2f}), "
        "end to end {end_to_end_ms:.2f}, back to back {back_to_back_ms:.2f}; "
        "bare echo {echo_ms:.2f} (p10 {echo_p10_ms:.2f}); wire {wire_ms:.2f}, server {server_ms:.2f}".format(**row)
    )
    return row


def main() -> None:
    """Run what was asked for, and keep the rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["overhead", "deadlines", "chaos", "footprint"])
    parser.add_argument("--wire", choices=WIRES, action="append", help="of deadlines and chaos; both by default")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    wires: list[ProtocolName] = arguments.wire or list(WIRES)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "bench"
        write_bundle(directory, payloads=PAYLOADS)
        quick = arguments.quick
        if "overhead" in arguments.parts:
            results["overhead"] = overhead(directory, rounds=200 if quick else 2000)
        if "deadlines" in arguments.parts:
            for wire in wires:
                results.setdefault("deadlines", {})[wire] = deadlines(wire=wire, images=50 if quick else 200)
        if "chaos" in arguments.parts:
            requests, seconds = (1_000, 30.0) if quick else (10_000, 90.0)
            for wire in wires:
                measured = chaos(directory, wire=wire, requests=requests, seconds=seconds)
                results.setdefault("chaos", {})[wire] = measured
        if "footprint" in arguments.parts:
            results["footprint"] = footprint(directory)
    results["machine"] = {"python": platform.python_version(), "cpus": os.cpu_count(), "platform": platform.machine()}
    if not quick:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write_page()


if __name__ == "__main__":
    main()
