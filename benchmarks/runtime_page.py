"""Write docs/runtime-benchmarks.md from the results of the benchmarks of the runtime, the codec and imports.

    python benchmarks/runtime_page.py

The scripts codec.py, runtime_edge.py, runtime_server.py, thin_client.py and export_equality.py leave the results, and
each of them also writes the page when it is done.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "runtime-benchmarks.md"

HEAD = """# Runtime benchmarks

`python benchmarks/runtime_page.py` writes this page, and so does each of the scripts named below when it is done; do
not edit it. Everything was measured on a virtual machine with two cores and without bf16 units. Client and server ran
on it together."""


def write_page() -> None:
    """Write the page from what results there are."""
    sections: list[str] = [HEAD]
    edge, server = _results("runtime_edge"), _results("runtime_server")
    if "overhead" in edge:
        sections.append(overhead(edge["overhead"]))
    if "deadlines" in edge:
        sections.append(deadlines(edge["deadlines"]))
    thin = _results("thin_client")
    if "client" in thin:
        sections.append(thin_client(thin["client"]))
    if "throughput" in server:
        sections.append(throughput(server["throughput"]))
    if "throughput" in thin:
        sections.append(throughput_over_engine(thin["throughput"]))
    if edge.get("chaos"):
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
    measured_imports = _results("imports")
    if measured_imports:
        sections.append(imports(measured_imports))
    PAGE.write_text("\n\n".join(sections) + "\n", "utf-8")


def _results(name: str) -> dict[str, Any]:
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table, the first column to the left and the others to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def overhead(data: dict[str, Any]) -> str:
    """Describe how much time the runtime adds to its parts."""
    rows = [
        [
            f"{row['payload_bytes']:,}",
            *(f"{row[name]:.2f}" for name in ("overhead_ms", "overhead_p10_ms", "end_to_end_ms", "back_to_back_ms")),
            *(f"{row[name]:.2f}" for name in ("echo_ms", "echo_p10_ms", "threaded_echo_ms", "server_ms")),
        ]
        for row in data["rows"]
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
        "`python benchmarks/runtime_edge.py overhead` measures the time from pixels to the answer over loopback "
        "(end to end), and the time of the same work (preprocess, head, encode, decode, tail) in one process (back to "
        "back). The overhead is the difference. Head and tail do next to nothing. All figures are medians of "
        f"{data['rounds']:,} rounds, in milliseconds. The bare echo sends the same bytes with gRPC alone (grpc.aio "
        'server, blocking stub) in the same rounds; the column "with threads" uses gRPC\'s threaded server. Half of '
        "the overhead or more is that of gRPC.\n\n"
        f"{table(heads, rows)}"
    )


def thin_client(data: dict[str, Any]) -> str:
    """Describe what a client costs beyond its own part of the network, over either wire."""
    rows = [
        [
            row["wire"],
            f"{row['payload_bytes']:,}",
            f"{row['client_cpu_ms']:.2f}",
            f"{row['cpu_over_stub']:.2f}×",
            f"{row['overhead_ms']:.2f}",
            f"{row['over_echo_ms']:+.2f}",
            f"{row['up_bytes']:.0f}",
            f"{row['down_bytes']:.0f}",
        ]
        for row in data["rows"]
    ]
    heads = [
        "wire",
        "payload, bytes",
        "client CPU, ms",
        "over the stub's",
        "overhead, ms",
        "over the echo, ms",
        "bytes up beyond the payload",
        "bytes down",
    ]
    return (
        "## What a client costs\n\n"
        "`python benchmarks/thin_client.py client` measures the client's processor time for one image beyond "
        "preprocess, head and encode, and compares it with that of a bare gRPC stub that sends the same payload to an "
        "echo. The overhead is the time of an answer beyond the work itself; the next column compares it with the "
        f"echo's. Medians of {data['rounds']} rounds of {data['images_per_block']} images each, in which all of them "
        f"take turns. Load average {data['load_average']:.1f} on 2 cores.\n\n"
        f"{table(heads, rows)}"
    )


def throughput_over_engine(data: dict[str, Any]) -> str:
    """Describe the throughput of the server over that of onnxruntime alone."""
    rows = [
        [
            measured["tail"],
            row["wire"],
            str(row["clients"]),
            f"{row['images_per_s']:.0f}",
            f"{row['batch_mean']:.1f}",
            f"{row['client_ms']:.2f}",
            f"{row['over_batch_8']:.0%} of {row['limit_over_batch_8']:.0%}",
            f"{row['over_batch_16']:.0%} of {row['limit_over_batch_16']:.0%}",
            f"{row['over_limit']:.0%}",
        ]
        for measured in data["tails"]
        for row in measured["rows"]
    ]
    over = [f"over onnxruntime, batch {batch}" for batch in (8, 16)]
    heads = ["tail", "wire", "clients", "images/s", "mean batch", "generator, ms", *over, "of what is possible"]
    alone = "; ".join(
        f"{measured['tail']}: "
        + ", ".join(
            f"{rate:.0f} images/s in batches of {batch}" for batch, rate in measured["alone_images_per_s"].items()
        )
        for measured in data["tails"]
    )
    divided = "; ".join(
        f"{measured['tail']}: "
        + ", ".join(f"{name.replace('x', ' × ')} {rate:.0f}" for name, rate in measured["divided_images_per_s"].items())
        for measured in data["tails"]
    )
    return (
        "## Throughput over onnxruntime alone\n\n"
        "`python benchmarks/thin_client.py throughput` compares the server with the same tail in onnxruntime alone, "
        f"one batch at a time on each core ({alone}). The load generator has one process and shares the cores with the "
        "server. Batches save a dense tail (VGG16's classifier) much of its time, and convolutions hardly any. Medians "
        f"of {data['rounds']} rounds, in which all of them take turns. Load average at the start "
        f"{data['load_average']:.1f} on 2 cores.\n\n"
        f"{table(heads, rows)}\n\n"
        "The second number of a pair is what a server that costs nothing would reach in the same rounds: onnxruntime "
        "alone, with the load generator's share taken off, and with no more images at a time than there are clients. "
        "Eight clients fill one batch of eight or two of four, whereas the reference computes two of eight. The last "
        f"column compares with that limit. Alone, in processors × batch: {divided}."
    )


def throughput(data: dict[str, Any]) -> str:
    """Describe how many images per second the server answers, with batches and without."""
    by = {(row["clients"], row["batching"]): row for row in data["configurations"]}
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
        "`python benchmarks/runtime_server.py throughput` sends requests from several clients, which share the two "
        f"cores with the server. The tail is VGG16's classifier, {data['tail']}. A request has "
        f"{data['payload_bytes_mean']:.0f} bytes.\n\n"
        f"{table(heads, rows)}"
    )


def deadlines(measured: dict[str, Any]) -> str:
    """Say how many fallbacks were late while the server hung, with the rule of today and the one before."""
    heads = ["wire", "deadline, ms", "images at once", "held back", "late", "worst, ms", "median, ms"]
    rows = [
        [
            wire,
            f"{row['deadline_ms']:.0f}",
            str(row["depth"]),
            "quantiles" if row["rule"] == "new" else "the last time",
            f"{row['late']} of {row['images']}",
            f"{row['worst_ms']:+.1f}",
            f"{-row['median_early_ms']:+.1f}",
        ]
        for wire, trials in measured.items()
        for row in trials["rows"]
    ]
    of_each_wire = " ".join(
        f"Over {wire}, the model took {statistics.median(row['local_ms'] for row in trials['rows']):.1f} ms on the "
        f"device, and the load average was {_span(row['load_average'] for row in trials['rows'])} on {trials['cpus']} "
        f"cores. {trials['conditions']}"
        for wire, trials in measured.items()
    )
    return (
        "## Fallbacks while the server hangs\n\n"
        "`python benchmarks/runtime_edge.py deadlines` uses a server that accepts every request and never answers. The "
        "circuit breaker is off, so that every image waits for the server. The time that is held back for the model on "
        "the device is the sum of two high quantiles, of the model's measured times and of the timer's lateness; for "
        "comparison, some rows hold back only the model's last time. Worst and median say how long after (+) or before "
        f"(-) the deadline the answers came. The wires were measured one after the other. {of_each_wire}\n\n"
        + table(heads, rows)
    )


def _span(values: Iterable[float]) -> str:
    """Write the least and the most of some values."""
    every = list(values)
    return f"{min(every):.1f} to {max(every):.1f}"


def chaos(wires: dict[str, Any]) -> str:
    """Describe the outcome of requests while server and link fail."""
    data = next(iter(wires.values()))
    rows = [
        [
            wire,
            *(f"{outcome[name]:,}" for name in ("answered", "lost", "answered_twice", "wrong")),
            *(f"{outcome['sources'].get(source, 0):,}" for source in ("split", "local-fallback", "failed")),
            f"{outcome['late']}, {outcome['late_and_not_marked']}",
            f"{outcome['slowest_ms']:.0f}",
            f"{max(row['slowest_s'] for row in outcome['recovery']):.2f}",
            f"{max(row['median_s'] for row in outcome['recovery']):.2f}",
            f"{outcome['load_average']:.1f}",
        ]
        for wire, outcome in wires.items()
    ]
    heads = [
        "wire",
        "answered",
        "lost",
        "twice",
        "wrong",
        "by the server",
        "by the device",
        "failed",
        "late, of these not marked",
        "slowest, ms",
        "next answer within, s",
        "worst median, s",
        "load average",
    ]
    return (
        "## When server and link fail\n\n"
        f"`python benchmarks/runtime_edge.py chaos` sends {data['requests']:,} requests from {data['clients']} "
        f"clients with a deadline of {data['deadline_ms']:.0f} ms. Half of the clients have a fallback. The server is "
        "killed and restarted five times. The link is reset once and drops everything once, for two seconds each. The "
        "next answer is the first that a client got from the server after the server or the link was back.\n\n"
        f"{table(heads, rows)}"
    )


def hostile(data: dict[str, Any]) -> str:
    """Describe the outcome of hostile requests."""
    memory = data["memory_mib"]
    ways = "\n".join(
        f"- {way}: " + ", ".join(f"{count:,} {word}" for word, count in outcomes.items()) + "."
        for way, outcomes in data["outcomes"].items()
    )
    return (
        "## A million hostile requests\n\n"
        "`python benchmarks/runtime_server.py hostile` passes mutated requests and frames to the service as bytes, and "
        "one in a hundred also over a socket. The service may answer a request only if it is still valid, and the "
        f"answer is then checked.\n\n{ways}\n- Any other outcome: {data['failures']}. Resident memory: "
        f"{memory['after 5 %']} MiB after a twentieth of the requests, {memory['at the end']} MiB at the end "
        f"({100 * data['memory_growth']:+.1f} %). The run took {data['seconds']:.0f} seconds."
    )


def equality(networks: dict[str, Any]) -> str:
    """Compare bundles with torch."""
    rows: list[list[str]] = []
    for name, network in networks.items():
        for place, row in network["placements"].items():
            symbols = f"{row['symbols_different']} of {row['symbols']:,}" if "symbols" in row else ""
            rows.append(
                [
                    name,
                    place,
                    str(row["answers"]),
                    f"{row['top1_same']} of {row['images']}",
                    symbols,
                    f"{row['logits_difference_max']:.1e}",
                    f"{row['tail_difference_max']:.1e}",
                    f"{row['tolerance']:.1e}",
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
        "`python benchmarks/export_equality.py` runs images of 64 × 64 pixels in one batch through head, bytes and "
        "tail in onnxruntime, and compares the results with torch's. The last layers are fitted to digits, so that "
        "answers vary. Where float32 rounds differently, a value on the border between two symbols becomes the "
        "neighbouring symbol. How much that changes the logits depends on the network, so the export sets no tolerance "
        "for it. Given the same latent, the logits must stay within the manifest's tolerance, or no bundle is "
        "written.\n\n"
        f"{table(heads, rows)}"
    )


def footprint(data: dict[str, Any], networks: dict[str, Any]) -> str:
    """Describe import time and resident memory."""
    rows: list[list[str]] = []
    for name, network in networks.items():
        for place, mib in network.get("peak_resident_mib", {}).items():
            rows.append([name, place, f"{network['parameters'] / 1e6:.1f}", f"{mib:.0f}"])
    text = (
        "## Memory and start\n\n"
        "`python benchmarks/runtime_edge.py footprint` measures the client. Importing it takes "
        f"{data['import_s']:.2f} s ({data['import_cpu_s']:.2f} s of CPU time) and {data['import_mib']:.0f} MiB. "
    )
    if rows:
        heads = ["network", "placement", "parameters, millions", "peak resident, MiB"]
        text += (
            "The table shows the memory of `isplit run` on 20 images (measured by export_equality.py), including "
            "Python and onnxruntime. The fallback of a cut keeps the whole model in memory beside the head:\n\n"
            f"{table(heads, rows)}"
        )
    return text.rstrip()


def coders(measured: dict[str, Any]) -> str:
    """Write the sizes and speeds of the entropy coders."""
    rows = [
        [
            f"{row['channels']} × {row['positions']}",
            f"{row['ideal_bytes']:,.0f}",
            *(f"{row[f'{name}_over_ideal']:.3f}" for name in ("rans", "constriction", "zstd", "rle")),
            *(f"{_milliseconds(row, f'{name}_decode_ns')}" for name in ("rans", "compiled", "constriction", "zstd")),
            *(_ratio(row, f"numpy_over_compiled_{way}") for way in ("encode", "decode")),
        ]
        for row in measured["coders"]
    ]
    heads = [
        "latent",
        "cross-entropy, bytes",
        "rans",
        "constriction",
        "zstd",
        "rle",
        "numpy decodes, ms",
        "compiled",
        "constriction",
        "zstd",
        "numpy over compiled, encode",
        "decode",
    ]
    fuzz = measured["fuzz"]
    return (
        "## The codec\n\n"
        "`python benchmarks/codec.py`. Bytes over the cross-entropy under the static tables, synthetic latents, without"
        " headers; milliseconds for one latent; how many times as long as the compiled coder the one in numpy takes. "
        f"{fuzz['frames']:,} mutated frames: {fuzz['errors']:,} refused, {fuzz['valid']:,} still valid, "
        f"{fuzz['anything_else']} anything else; the slowest took {fuzz['slowest_ms']:.1f} ms.\n\n{table(heads, rows)}"
    )


def _milliseconds(row: dict[str, Any], name: str) -> str:
    """Write what all symbols of a latent take, from nanoseconds per symbol."""
    return f"{row[name] * row['channels'] * row['positions'] / 1e6:.3f}" if name in row else "–"


def _ratio(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.1f}" if name in row else "–"


def imports(measured: dict[str, Any]) -> str:
    """Write how long imports take beside that of torch."""
    rows = [
        [f"`{row['import']}`", f"{row['cpu_s']:.2f}", f"{row['over_torch']:.2f}", f"{row['memory_mib']:,.0f}"]
        for row in measured["rows"]
    ]
    return (
        "## Imports\n\n"
        f"`python benchmarks/imports.py`. Each in a fresh interpreter, in turns; the least of {measured['rounds']} "
        f"rounds in seconds of CPU time, and over that of `import torch` {measured['torch']} in the same run.\n\n"
        + table(("import", "CPU, s", "over torch", "memory, MiB"), rows)
    )


if __name__ == "__main__":
    write_page()
