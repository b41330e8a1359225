"""The device's half of the runtime: what it adds, what it survives, and what it weighs.

    python benchmarks/runtime_edge.py [overhead] [chaos] [footprint] [--quick]

overhead   End to end over loopback (EdgeClient and `isplit serve` in processes of their own), beside the same work
           back to back in one process (preprocess, head, encode, decode, tail) and beside a bare gRPC echo of the same
           bytes (grpc.aio server, and one with threads; blocking stub), in turns. Overhead is the difference of the
           medians; beside it is that of the 10th percentiles, which other work on the machine disturbs less.
chaos      10,000 requests from 32 clients through a proxy that can cut: the server is killed and restarted five times,
           the link reset once and silent once. Every answer is checked: one each, right or marked failed, none later
           than its deadline without saying so. Recovery is from when server or link were back to each client's next
           answer from there.
footprint  Time to import the client and its resident memory, and `isplit run`'s on the synthetic bundle, each in
           fresh interpreters; export_equality.py has real networks'.

Results go to benchmarks/results/runtime_edge.json and docs/runtime-benchmarks.md; a part that was not run keeps its
last figures.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from cutting_proxy import CuttingProxy
from runtime_page import write_page
from synthetic_bundle import SIZE, write_bundle

from isplit.codec.image import preprocess
from isplit.records import Answer
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.pictures import open_picture
from isplit.runtime.session import Session

RESULTS = Path(__file__).parent / "results" / "runtime_edge.json"
PAYLOADS = (1_000, 5_000, 20_000, 50_000)
MAIN = "from isplit.cli import main; main()"

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


class Process:
    """A server in a process of its own; `start` waits until it says where it listens."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.command = [sys.executable, "-c", code, *map(str, arguments)]
        self.start()

    def start(self, *more: object) -> None:
        """Start it, and read its address."""
        self.process = subprocess.Popen(
            [*self.command, *map(str, more)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        found = re.match(r"listening on (\S+:\d+)", self.process.stdout.readline())
        assert found, "the server did not start"
        self.address = found[1]

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(code: str, *arguments: object) -> Any:
    """Start a server, and kill it in the end."""
    process = Process(code, *arguments)
    try:
        yield process
    finally:
        process.kill()


def images(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return noise of the model's size."""
    return np.random.default_rng(5).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


# --- overhead


def overhead(directory: Path, *, rounds: int) -> dict[str, Any]:
    """Measure each payload size: end to end, back to back in one process, and a bare echo, in turns."""
    bundle = Bundle.open(directory)
    pictures = images(16)
    rows: list[dict[str, float]] = []
    with (
        running(MAIN, "serve", directory, "--port", 0) as server,
        running(ECHO) as echo,
        running(THREADED_ECHO) as threaded,
        EdgeClient(bundle, server.address, fallback=False) as client,
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


# --- chaos

DEADLINE_MS = 500.0
CLIENTS = 32


class Log:
    """What 32 clients were answered, and when."""

    def __init__(self, requests: int) -> None:
        self.lock = threading.Lock()
        self.left = requests
        self.rows: list[tuple[int, float, float, Answer, bool]] = []  # client, begun, done, answer, right

    def take(self) -> int | None:
        """Return the next request's number, None when there are no more."""
        with self.lock:
            self.left -= 1
            return self.left if self.left >= 0 else None


def chaos(directory: Path, *, requests: int, seconds: float) -> dict[str, Any]:
    """Ask for about so many seconds while the server and the link fail."""
    pictures = images(16)
    whole = Session(Bundle.open(directory).local_path or directory)
    expected = [tuple(row) for row in whole.run(pictures).tolist()]
    log = Log(requests)
    with running(MAIN, "serve", directory, "--port", 0) as server, CuttingProxy(server.address) as proxy:
        pace_s = seconds * CLIENTS / requests
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [
                pool.submit(_ask, directory, proxy.address, log, number, pictures, expected, pace_s)
                for number in range(CLIENTS)
            ]
            healed = _break(server, proxy, seconds)
            for client in clients:
                client.result()
    return _judge(log, requests, healed)


def _ask(directory: Path, address: str, log: Log, number: int, pictures: Any, expected: Any, pace_s: float) -> None:
    """Be one client, with a fallback if the number is even; ask at an even pace."""
    with EdgeClient(
        directory, address, placement=str(PAYLOADS[0]), deadline_ms=DEADLINE_MS, fallback=number % 2 == 0, verify=False
    ) as client:
        client.warm_up()
        due_s = time.perf_counter() + pace_s * number / CLIENTS
        while (request := log.take()) is not None:
            time.sleep(max(0.0, due_s - time.perf_counter()))
            due_s = max(due_s + pace_s, time.perf_counter() - pace_s)
            which = request % len(pictures)
            begun = time.perf_counter()
            answer = client.classify(pictures[which], name=str(request))
            done = time.perf_counter()
            right = answer.source == "failed" or answer.logits == expected[which]
            with log.lock:
                log.rows.append((number, begun, done, answer, right))


def _break(server: Process, proxy: CuttingProxy, seconds: float) -> list[tuple[str, float]]:
    """Kill the server five times and cut the link twice, evenly; return when each was whole again."""
    healed: list[tuple[str, float]] = []
    port = server.address.rpartition(":")[2]
    for what in ("kill", "kill", "reset", "kill", "kill", "silence", "kill"):
        time.sleep(seconds / 12)  # what they take to start comes on top
        if what == "kill":
            server.kill()
            server.start("--port", port)
        else:
            with proxy.reset() if what == "reset" else proxy.silence():
                time.sleep(2.0)
        healed.append((what, time.perf_counter()))
    return healed


def _judge(log: Log, requests: int, healed: list[tuple[str, float]]) -> dict[str, Any]:
    ids = Counter(answer.id for *_, answer, _ in log.rows)
    names = Counter(answer.image for *_, answer, _ in log.rows)
    # The caller's watch stops a little after the answer's own; a millisecond is allowed for that.
    unmarked = sum(
        (done - begun) * 1000 > DEADLINE_MS + 1 and not answer.late for _, begun, done, answer, _ in log.rows
    )
    recovery: list[dict[str, Any]] = []
    for what, when in healed:
        waits = [
            min(
                (
                    done - when
                    for number, _, done, answer, _ in log.rows
                    if number == client and done > when and answer.source == "split"
                ),
                default=float("nan"),
            )
            for client in range(CLIENTS)
        ]
        recovery.append({"after": what, "median_s": statistics.median(waits), "slowest_s": max(waits)})
    result = {
        "requests": requests,
        "clients": CLIENTS,
        "deadline_ms": DEADLINE_MS,
        "answered": len(log.rows),
        "lost": requests - len(names),
        "answered_twice": sum(count - 1 for count in names.values()) + sum(count - 1 for count in ids.values()),
        "wrong": sum(not right for *_, right in log.rows),
        "late": sum(answer.late for *_, answer, _ in log.rows),
        "late_and_not_marked": unmarked,
        "slowest_ms": max((done - begun) * 1000 for _, begun, done, *_ in log.rows),
        "sources": dict(Counter(answer.source for *_, answer, _ in log.rows)),
        "retried": sum(answer.attempts > 1 for *_, answer, _ in log.rows),
        "recovery": recovery,
    }
    print(json.dumps(result, indent=1))
    return result


# --- footprint

# Not ru_maxrss: that of a process includes what its parent had when it was forked.
PEAK = """
def peak_mib():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
"""
IMPORT = """
import time
begun, cpu = time.perf_counter(), time.process_time()
import isplit
isplit.EdgeClient
print(time.perf_counter() - begun, time.process_time() - cpu, peak_mib())
"""
RUN = """
import sys
from isplit.cli import main
try:
    main()
finally:
    print(peak_mib(), file=sys.stderr)
"""


def footprint(directory: Path) -> dict[str, Any]:
    """Measure the import, and `isplit run`'s peak resident memory."""
    runs = [_python(PEAK + IMPORT).stdout.split() for _ in range(11)]
    names = ("import_s", "import_cpu_s", "import_mib")
    result: dict[str, Any] = {
        name: statistics.median(float(run[index]) for run in runs) for index, name in enumerate(names)
    }
    result |= {"load_average": os.getloadavg()[0], "peak_resident_mib": peak_resident_mib(directory)}
    print(json.dumps(result, indent=1))
    return result


def peak_resident_mib(directory: Path) -> dict[str, float]:
    """Measure `isplit run` on 20 images, in a fresh interpreter for each placement, cuts without a fallback too."""
    record = Bundle.open(directory).record
    height, width = record.preprocessing.image_size
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, running(MAIN, "serve", directory, "--port", 0) as server:
        folder = Path(scratch)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            open_picture(pixels, name="").save(folder / f"{number}.png")
        cuts = [cut.name for cut in record.cuts]
        for placement, *options in (*((cut,) for cut in cuts), *((cut, "--no-fallback") for cut in cuts), ("local",)):
            arguments = ("run", directory, folder, "--server", server.address, "--placement", placement, "--quiet")
            done = _python(PEAK + RUN, *arguments, *options)
            peaks[" ".join((placement, *options))] = float(done.stderr.split()[-1])
    return peaks


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )


def main() -> None:
    """Run what was asked for, and keep the rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["overhead", "chaos", "footprint"])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "bench"
        write_bundle(directory, payloads=PAYLOADS)
        quick = arguments.quick
        if "overhead" in arguments.parts:
            results["overhead"] = overhead(directory, rounds=200 if quick else 2000)
        if "chaos" in arguments.parts:
            requests, seconds = (1_000, 30.0) if quick else (10_000, 90.0)
            results["chaos"] = chaos(directory, requests=requests, seconds=seconds)
        if "footprint" in arguments.parts:
            results["footprint"] = footprint(directory)
    results["machine"] = {"python": platform.python_version(), "cpus": os.cpu_count(), "platform": platform.machine()}
    if not quick:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write_page()


if __name__ == "__main__":
    main()
