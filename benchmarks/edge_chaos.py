"""Ask for 10,000 images while server and link fail, and check every answer; part of runtime_edge.py.

10,000 requests from 32 clients go through a proxy that can cut: the server is killed and restarted five times, the link
is reset once and silent once. One answer each, right or marked failed, none later than its deadline without saying so.
Recovery is from when server or link were back to each client's next answer from there.
"""

import json
import os
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cutting_proxy import CuttingProxy
from processes import MAIN, Process, running
from synthetic_bundle import images

from isplit.records import Answer
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.settings import ProtocolName
from isplit.runtime.session import Session

DEADLINE_MS = 500.0
CLIENTS = 32
PLACEMENT = "1000"
"""A cut of the synthetic bundle."""


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


def chaos(directory: Path, *, wire: ProtocolName, requests: int, seconds: float) -> dict[str, Any]:
    """Ask over a wire for about so many seconds while the server and the link fail."""
    load = os.getloadavg()[0]
    pictures = images(16)
    whole = Session(Bundle.open(directory).local_path or directory)
    expected = [tuple(row) for row in whole.run(pictures).tolist()]
    log = Log(requests)
    with running(MAIN, "serve", directory, "--port", 0) as server, CuttingProxy(server.address) as proxy:
        pace_s = seconds * CLIENTS / requests
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [
                pool.submit(_ask, directory, proxy.address, wire, log, number, pictures, expected, pace_s)
                for number in range(CLIENTS)
            ]
            healed = _break(server, proxy, seconds)
            for client in clients:
                client.result()
    return _judge(log, requests, healed) | {"load_average": load}


def _ask(
    directory: Path,
    address: str,
    wire: ProtocolName,
    log: Log,
    number: int,
    pictures: Any,
    expected: Any,
    pace_s: float,
) -> None:
    """Be one client, with a fallback if the number is even; ask at an even pace."""
    with EdgeClient(
        directory,
        address,
        placement=PLACEMENT,
        deadline_ms=DEADLINE_MS,
        fallback=number % 2 == 0,
        verify=False,
        logits=True,
        protocol=wire,
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
