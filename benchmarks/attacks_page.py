"""Write docs/server-attacks.md from the results of hostile_clients.py.

    python benchmarks/attacks_page.py

hostile_clients.py also writes the page when it is done.
"""

import json
from pathlib import Path
from textwrap import fill
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "server-attacks.md"
RESULTS = HERE / "results" / "hostile_clients.json"

KINDS = {
    "half-open": "700 half-open calls",
    "stalled": "100 messages of 31 MiB that stop short",
    "connections": "1,000 connections",
    "health": "700 half-open health checks",
    "mixed": "all of them together",
}
ATTACKERS = {"stranger": "a stranger", "clumsy": "a client with the token"}
LINKS = {"plain": "plain", "tls": "TLS", "mtls": "mutual TLS"}
CALLS = {"payload": "payloads on open connections", "image": "images", "health": "health checks"}
NEWCOMER = "new connection"
WIDTH = 120

HEAD = """# The server under attack

`python benchmarks/attacks_page.py` writes this page from `benchmarks/results/hostile_clients.json`, and so does
`python benchmarks/hostile_clients.py` when it is done; do not edit it.
[What a stranger cannot do](server.md#what-a-stranger-cannot-do) describes the defences of the server. This page
measures them.

`python benchmarks/hostile_clients.py --undisturbed` measures the latency of rightful clients and the server's memory
under these attacks, for 60 seconds each. The table gives the 95th percentile at rest and under attack, on two cores.
The server and its rightful clients have real-time priority, and the attacker gets the rest of both cores (it would
have processors of its own). Attackers come from another address than rightful clients."""

GRPC_SERVER = """With gRPC's own server, which isplit used before, 99 of 100 rightful payloads were refused
(`RESOURCE_EXHAUSTED`) under 700 half-open calls, and the stalled messages took 296 MiB over plain text and 691 MiB over
TLS within 60 seconds."""


def write_page() -> None:
    """Write the page from the rounds whose results are there."""
    rounds = list(json.loads(RESULTS.read_text("utf-8"))["after"].values())
    apart = sorted((each for each in rounds if each["address"] == "another"), key=_order)
    sections = [HEAD, failures(apart), table(apart), undated(apart), summary(apart)]
    sections += [same_address(each) for each in rounds if each["address"] == "same"]
    PAGE.write_text("\n\n".join(section for section in [*sections, GRPC_SERVER] if section) + "\n", "utf-8")


def failures(rounds: list[dict[str, Any]]) -> str:
    """Return the sentence on rightful calls that failed."""
    failed = [each for each in rounds if each["failures"]]
    if not failed:
        return "No rightful call failed in any of these rounds."
    counts = [f"{title(each)} ({', '.join(f'{n} {word}' for word, n in each['failures'].items())})" for each in failed]
    return f"Rightful calls failed in {len(failed)} of {len(rounds)} rounds: {'; '.join(counts)}."


def table(rounds: list[dict[str, Any]]) -> str:
    """Return a row for each round."""
    lines = [
        "| attack | by | link | payload | image | new connection | health check | memory | measured |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for each in rounds:
        times = [
            f"{each[call]['p95_rest_ms']:.1f} → {each[call]['p95_ms']:.1f} ms"
            for call in ("payload", "image", NEWCOMER, "health")
        ]
        growth = f"+{max(0, each['memory_mib']['growth']):.0f} MiB"
        words = (KINDS[each["attack"]], ATTACKERS[each["by"]], LINKS[each["link"]])
        lines.append(f"| {' | '.join((*words, *times, growth, each.get('measured', 'earlier')))} |")
    return "\n".join(lines)


def undated(rounds: list[dict[str, Any]]) -> str:
    """Return what the rows without a date are; nothing if there are none."""
    if all("measured" in each for each in rounds):
        return ""
    return """Rows that say *earlier* were measured before the server kept separate accounts of processor time for
newcomers and for costly peers."""


def summary(rounds: list[dict[str, Any]]) -> str:
    """Return the ranges of all ratios, and the largest ones of newcomers."""
    sentences: list[str] = []
    for call, words in CALLS.items():
        low, high = min(rounds, key=lambda each: ratio(each, call)), max(rounds, key=lambda each: ratio(each, call))
        sentences.append(
            f"Rightful {words} take {ratio(low, call):.1f} to {ratio(high, call):.1f} times as long as at rest; the "
            f"most under {title(high)}."
        )
    slowest = max(rounds, key=lambda each: ratio(each, NEWCOMER))
    sentences.append(f"A newcomer takes up to {ratio(slowest, NEWCOMER):.1f} times as long, under {title(slowest)}.")
    return fill(" ".join(sentences), WIDTH)


def same_address(result: dict[str, Any]) -> str:
    """Return what happens when attackers share the address of rightful clients."""
    newcomer = result[NEWCOMER]
    failed = sum(count for word, count in result["failures"].items() if word.startswith(NEWCOMER))
    given_up = f" {failed} of {newcomer['calls']} such calls gave up after 10 s." if failed else ""
    return fill(
        "If attackers share the address of a newcomer (`--same-address`), it cannot be told from them, and waits "
        f"longer: {newcomer['p95_ms']:.0f} ms instead of {newcomer['p95_rest_ms']:.0f} ms under "
        f"{title(result)}.{given_up}",
        WIDTH,
    )


def ratio(result: dict[str, Any], call: str) -> float:
    """Return how many times as long a kind of call takes as at rest."""
    return result[call]["p95_ms"] / result[call]["p95_rest_ms"]


def title(result: dict[str, Any]) -> str:
    """Return a round in words."""
    return f"{KINDS[result['attack']]} by {ATTACKERS[result['by']]} ({LINKS[result['link']]})"


def _order(result: dict[str, Any]) -> tuple[int, ...]:
    places = ((LINKS, "link"), (ATTACKERS, "by"), (KINDS, "attack"))
    return tuple(list(words).index(result[field]) for words, field in places)


if __name__ == "__main__":
    write_page()
