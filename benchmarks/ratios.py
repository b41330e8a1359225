"""Print what isplit costs over the least that does the same, from the last results of every benchmark, beside the aims.

    python benchmarks/ratios.py

`make bench` measures what needs no weights and then prints this table. The other figures are those of the last run
that had the weights, which the table says.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"

Row = tuple[str, str, str]
"""A figure, its ratios, and the aim."""


def rows() -> Iterator[Row]:
    """Return every figure of which there are results."""
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            yield from section(json.loads(path.read_text("utf-8")))


def _span(values: Iterable[float], unit: str = "×") -> str:
    every = list(values)
    low, high = f"{min(every):.2f}", f"{max(every):.2f}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _importance(data: dict[str, Any]) -> Iterator[Row]:
    yield "importance over a plain pass", _span(case["over plain"]["fp32"] for case in data["cases"]), ""
    yield "its memory over that of a plain pass", _span(case["memory over plain"] for case in data["cases"]), ""


def _predict(data: dict[str, Any]) -> Iterator[Row]:
    label, last = list(data.items())[-1]
    yield f"predict over its bound (needs weights: {label})", f"{last['ratio']:.2f}×", "1.3×"


def _quick(data: dict[str, Any]) -> Iterator[Row]:
    label, pairs = list(data.items())[-1]
    for verb in ("analyze", "predict"):
        shares = _span(pair[f"{verb}_share"] for pair in pairs.values())
        yield f"{verb} --quick over the full one (needs weights: {label})", shares, "0.25×"


def _imports(data: dict[str, Any]) -> Iterator[Row]:
    by_name = {row["import"]: row for row in data["rows"]}
    torch = by_name["import torch"]
    analyze, command = by_name["isplit.analyze"], by_name["isplit --help"]
    yield "import of analyze over that of torch", f"{analyze['over_torch']:.2f}×", "1.1×"
    yield "its memory over that of torch", f"{analyze['memory_mib'] / torch['memory_mib']:.2f}×", ""
    yield "isplit --help, seconds", f"{command['cpu_s']:.2f}", "0.3"


def _codec(data: dict[str, Any]) -> Iterator[Row]:
    coders = data["coders"]
    for least, most, aim in ((0, 256, ""), (256, float("inf"), "1.05×")):
        kind = [row for row in coders if least <= row["ideal_bytes"] < most]
        sizes = (
            f"{min(row['ideal_bytes'] for row in kind):,.0f} to {max(row['ideal_bytes'] for row in kind):,.0f} bytes"
        )
        yield f"payload over its cross-entropy, {sizes}", _span(row["compiled_over_ideal"] for row in kind), aim
    for peer in ("zstd", "constriction"):
        if f"{peer}_decode_ns" not in coders[0]:
            continue
        sizes = _span(row["compiled_over_ideal"] / row[f"{peer}_over_ideal"] for row in coders)
        yield f"its bytes over {peer}'s", sizes, ""
        for work in ("encode", "decode"):
            ratios = _span(row[f"compiled_{work}_ns"] / row[f"{peer}_{work}_ns"] for row in coders)
            yield f"time to {work} over {peer}'s", ratios, ""


def _thin_client(data: dict[str, Any]) -> Iterator[Row]:
    lean = [row for row in data["client"]["rows"] if row["wire"] == "lean"]
    yield "client's processor time over a bare stub's", _span(row["cpu_over_stub"] for row in lean), "1.3×"
    yield "round trip beyond work and a bare echo, ms", _span((row["over_echo_ms"] for row in lean), ""), "0.3"
    yield "bytes up beyond the payload", _span((row["up_bytes"] for row in lean), ""), "20"
    yield "bytes down", _span((row["down_bytes"] for row in lean), ""), "40"
    for measured in data["throughput"]["tails"]:
        for row in measured["rows"]:
            batch, aim = (8, "0.60×") if row["clients"] == 8 else (16, "0.75×")
            asked = f"{row['wire']}, {row['clients']} clients, {measured['tail']}"
            ratio = f"{row[f'over_batch_{batch}']:.2f}× of {row[f'limit_over_batch_{batch}']:.2f}×"
            yield f"images/s over onnxruntime's at batch {batch} ({asked})", ratio, aim if row["wire"] == "lean" else ""


def _edge(data: dict[str, Any]) -> Iterator[Row]:
    yield "memory of an imported client, MiB", f"{data['footprint']['import_mib']:.0f}", ""


SECTIONS = {
    "importance": _importance,
    "predict-bound": _predict,
    "quick": _quick,
    "imports": _imports,
    "codec": _codec,
    "thin_client": _thin_client,
    "runtime_edge": _edge,
}
"""What prints the results of a file."""


def main() -> None:
    """Print the table."""
    table = Table("figure", "measured", "aim")
    for row in rows():
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
