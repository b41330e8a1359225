"""docs/runtime-benchmarks.md from the results of codec.py, runtime_edge.py, runtime_server.py and export_equality.py.

    python benchmarks/runtime_page.py

Those write the page too, each when it is done.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "runtime-benchmarks.md"

HEAD = """# Runtime benchmarks

Written by `python benchmarks/runtime_page.py`, and by each of the scripts named below when it is done; do not edit. All
on a virtual machine with two cores and without bf16 units, client and server on it together."""


def write_page() -> None:
    """Write the page from what results there are."""
    sections: list[str] = [HEAD]
    edge, server = _results("runtime_edge"), _results("runtime_server")
    if "overhead" in edge:
        sections.append(overhead(edge["overhead"]))
    if "deadlines" in edge:
        sections.append(deadlines(edge["deadlines"]))
    if "throughput" in server:
        sections.append(throughput(server["throughput"]))
    if "chaos" in edge:
        sections.append(chaos(edge["chaos"]))
    if "hostile" in server:
        sections.append(hostile(server["hostile"]))
    networks = _results("export_equality").get("networks", {})
    if networks:
        sections.append(equality(networks))
    if "footprint" in edge:
        sections.append(footprint(edge["footprint"], networks))
    codec = _results("codec")
    if codec:
        sections.append(coders(codec))
    PAGE.write_text("\n\n".join(sections) + "\n", "utf-8")


def _results(name: str) -> dict[str, Any]:
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table, the first column to the left and the others to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def overhead(found: dict[str, Any]) -> str:
    """What the runtime adds to its parts."""
    rows = [
        [
            f"{row['payload_bytes']:,}",
            *(f"{row[name]:.2f}" for name in ("overhead_ms", "overhead_p10_ms", "end_to_end_ms", "back_to_back_ms")),
            *(f"{row[name]:.2f}" for name in ("echo_ms", "echo_p10_ms", "threaded_echo_ms", "server_ms")),
        ]
        for row in found["rows"]
    ]
    heads = [
        "payload, bytes",
        "overhead",
        "10th percentile",
        "end to end",
        "back to back",
        "bare echo",
        "its 10th percentile",
        "with threads",
        "server",
    ]
    return (
        "## What the runtime adds\n\n"
        "`python benchmarks/runtime_edge.py overhead`. From pixels to the answer over loopback, against the same work "
        "(preprocess, head, encode, decode, tail) back to back in one process, with a head and a tail that do next to "
        f"nothing. Medians of {found['rounds']:,} rounds in milliseconds; overhead is the difference. The bare echo "
        "sends the same bytes with gRPC alone (grpc.aio server, blocking stub), in the same rounds; with threads, to "
        "gRPC's other server. Half of the overhead and more is gRPC's own.\n\n"
        f"{table(heads, rows)}"
    )


def throughput(found: dict[str, Any]) -> str:
    """Images per second, with batches and without."""
    by = {(one["clients"], one["batching"]): one for one in found["configurations"]}
    rows: list[list[str]] = []
    for clients in sorted({count for count, _ in by}):
        on, off = by[clients, "on"], by[clients, "off"]
        rows.append(
            [
                str(clients),
                f"{on['images_per_s']:.0f}",
                f"{off['images_per_s']:.0f}",
                f"{on['images_per_s'] / off['images_per_s']:.1f}×",
                f"{on['batch_mean']:.1f}",
                f"{on['latency_p50_ms']:.0f}",
                f"{off['latency_p50_ms']:.0f}",
            ]
        )
    heads = ["clients", "images/s", "without batches", "gain", "mean batch", "median, ms", "without batches"]
    return (
        "## Throughput\n\n"
        "`python benchmarks/runtime_server.py throughput`. The tail is VGG16's classifier, "
        f"{found['tail']}; {found['payload_bytes_mean']:.0f} bytes a request. The clients share the two cores.\n\n"
        f"{table(heads, rows)}"
    )


def deadlines(measured: dict[str, Any]) -> str:
    """Say how many fallbacks were late while the server hung, with the rule of today and the one before."""
    heads = ["deadline, ms", "images at once", "held back", "late", "worst, ms", "median, ms"]
    rows = [
        [
            f"{row['deadline_ms']:.0f}",
            str(row["depth"]),
            "quantiles" if row["rule"] == "new" else "the last time",
            f"{row['late']} of {row['images']}",
            f"{row['worst_ms']:+.1f}",
            f"{-row['median_early_ms']:+.1f}",
        ]
        for row in measured["rows"]
    ]
    loads = [row["load_average"] for row in measured["rows"]]
    local_ms = sorted(row["local_ms"] for row in measured["rows"])[len(measured["rows"]) // 2]
    return (
        "## Fallbacks while the server hangs\n\n"
        "`python benchmarks/runtime_edge.py deadlines`. A server takes every request and never answers; the circuit "
        f"breaker is off, so that every image waits for it. The model takes {local_ms:.1f} ms on the device. What is "
        "held back for it are high quantiles of what it took and of how late the timer fired, or, as a comparison, the "
        "last time that it took. Worst and median are the answers' times after (+) or before (-) the deadline. "
        f"{measured['conditions']} Load average {min(loads):.1f} to {max(loads):.1f} on {measured['cpus']} cores.\n\n"
        + table(heads, rows)
    )


def chaos(found: dict[str, Any]) -> str:
    """What became of requests while everything failed."""
    slowest = max(one["slowest_s"] for one in found["recovery"])
    median = max(one["median_s"] for one in found["recovery"])
    sources = ", ".join(f"{count:,} {name}" for name, count in found["sources"].items())
    return (
        "## When server and link fail\n\n"
        f"`python benchmarks/runtime_edge.py chaos`. {found['requests']:,} requests from {found['clients']} clients "
        f"with a deadline of {found['deadline_ms']:.0f} ms, half of the clients with a fallback. The server is killed "
        "and restarted five times; the link is reset once and swallows everything once, for two seconds each.\n\n"
        f"- Came back: {found['answered']:,}; lost: {found['lost']}; answered twice: {found['answered_twice']}; wrong: "
        f"{found['wrong']}.\n"
        f"- By source: {sources}.\n"
        f"- Later than the deadline: {found['late']}, all of them marked but {found['late_and_not_marked']}; the "
        f"slowest took {found['slowest_ms']:.0f} ms.\n"
        f"- From when server or link were back to a client's next answer from there: at most {slowest:.2f} s "
        f"(the worst median {median:.2f} s)."
    )


def hostile(found: dict[str, Any]) -> str:
    """What became of hostile requests."""
    memory = found["memory_mib"]
    ways = "\n".join(
        f"- {way}: " + ", ".join(f"{count:,} {word}" for word, count in outcomes.items()) + "."
        for way, outcomes in found["outcomes"].items()
    )
    return (
        "## A million hostile requests\n\n"
        "`python benchmarks/runtime_server.py hostile`. Mutated requests and frames, given to the service as bytes, "
        "and one in a hundred over a socket too. An answer is allowed only where the request was still right, and is "
        f"then checked.\n\n{ways}\n- Anything else: {found['failures']}. Resident memory: {memory['after 5 %']} MiB "
        f"after a twentieth, {memory['at the end']} MiB at the end ({100 * found['memory_growth']:+.1f} %). "
        f"{found['seconds']:.0f} seconds."
    )


def equality(networks: dict[str, Any]) -> str:
    """Bundles against torch."""
    rows: list[list[str]] = []
    for name, network in networks.items():
        for place, one in network["placements"].items():
            symbols = f"{one['symbols_different']} of {one['symbols']:,}" if "symbols" in one else ""
            rows.append(
                [
                    name,
                    place,
                    str(one["answers"]),
                    f"{one['top1_same']} of {one['images']}",
                    symbols,
                    f"{one['logits_difference_max']:.1e}",
                    f"{one['tail_difference_max']:.1e}",
                    f"{one['tolerance']:.1e}",
                ]
            )
    heads = [
        "network",
        "placement",
        "answers",
        "same top-1",
        "symbols apart",
        "logits differ by",
        "from the same latent",
        "allowed",
    ]
    return (
        "## A bundle against torch\n\n"
        "`python benchmarks/export_equality.py`. Images at 64 × 64 through head, bytes and tail in onnxruntime, all in "
        "one batch, against torch. The last layers are fitted to digits, so that answers vary. Where float32 rounds "
        "otherwise, a value on the border between two symbols goes to the other one, by one step; what that does to "
        "the logits is the network's matter, and no tolerance of the export's. Given the same latent the logits are "
        "held to the tolerance in the manifest, or no bundle is written.\n\n"
        f"{table(heads, rows)}"
    )


def footprint(found: dict[str, Any], networks: dict[str, Any]) -> str:
    """Import and resident memory."""
    rows: list[list[str]] = []
    for name, network in networks.items():
        for place, mib in network.get("peak_resident_mib", {}).items():
            rows.append([name, place, f"{network['parameters'] / 1e6:.1f}", f"{mib:.0f}"])
    text = (
        "## What it weighs\n\n"
        "`python benchmarks/runtime_edge.py footprint`. Importing the client: "
        f"{found['import_s']:.2f} s ({found['import_cpu_s']:.2f} s of CPU time), {found['import_mib']:.0f} MiB. "
    )
    if rows:
        heads = ["network", "placement", "parameters, millions", "peak resident, MiB"]
        text += (
            "`isplit run` on 20 images (export_equality.py), Python and onnxruntime included; a cut's fallback is the "
            f"whole model beside the head:\n\n{table(heads, rows)}"
        )
    return text.rstrip()


def coders(found: dict[str, Any]) -> str:
    """Sizes and speeds of the entropy coders."""
    rows = [
        [
            f"{one['channels']} × {one['positions']}",
            f"{one['ideal_bytes']:,.0f}",
            *(f"{one[f'{name}_over_ideal']:.3f}" for name in ("rans", "constriction", "zstd", "rle")),
            *(
                f"{one[f'{name}_decode_ns'] * one['channels'] * one['positions'] / 1e6:.2f}"
                for name in ("rans", "constriction", "zstd")
            ),
        ]
        for one in found["coders"]
    ]
    heads = [
        "latent",
        "cross-entropy, bytes",
        "rans",
        "constriction",
        "zstd",
        "rle",
        "rans decodes, ms",
        "constriction",
        "zstd",
    ]
    fuzz = found["fuzz"]
    return (
        "## The codec\n\n"
        "`python benchmarks/codec.py`. Bytes over the cross-entropy under the static tables, synthetic latents, without"
        f" headers; milliseconds for one latent. {fuzz['frames']:,} mutated frames: {fuzz['errors']:,} refused, "
        f"{fuzz['valid']:,} still valid, {fuzz['anything_else']} anything else; the slowest took "
        f"{fuzz['slowest_ms']:.1f} ms.\n\n{table(heads, rows)}"
    )


if __name__ == "__main__":
    write_page()
