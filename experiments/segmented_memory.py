"""VGG16 in segments on a device with little memory: planned against measured peak memory and latency.

    python experiments/segmented_memory.py measure --work DIR [--limits 150 250 400 500]
    python experiments/segmented_memory.py report

VGG16 at 224 pixels has random weights, because memory and time do not depend on their values. For every limit the
plan divides the model (`isplit plan --max-device-memory`), or says that no division fits. A division is exported, and
run in a process of its own, whose peak resident memory is read from the kernel. So is the whole model, once as it is
kept in memory and once loaded for every image. The processes run in turns, several times, so that other work on the
machine hurts all alike; the logits of the segments are compared with those of the whole model. Predicted latencies use
a profile of two figures of this machine: the whole model's time and the rate at which weights are loaded.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "segmented-memory.json"
GUIDE = Path(__file__).parents[1] / "docs" / "plan-accuracy.md"
BEGIN, END = "<!-- segmented memory: begin -->", "<!-- segmented memory: end -->"
LIMITS_MB = (150, 250, 400)
RUNS = 3
TURNS = 2


def make_study(work: Path) -> Path:
    """Analyze VGG16 with random weights on noise, as far as a plan needs."""
    import isplit

    study = work / "study"
    if not (study / "candidates.json").is_file():
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (60, 32, 32, 3), np.uint8)
        np.savez(work / "noise.npz", images=images, labels=np.arange(60) % 2)
        (work / "classes.json").write_text(json.dumps({"0": 0, "1": 1}))
        settings = isplit.AnalyzeSettings(images=2, test_images=2, batch_size=2, class_map=work / "classes.json")
        isplit.analyze("torchvision:vgg16", work / "noise.npz", out=study, settings=settings)
    return study


def measure_child(bundle: str, mode: str) -> dict[str, Any]:
    """Run a bundle of segments in this process: `segmented` as a device does, `resident` with the model kept."""
    from isplit.runtime.bundle import Bundle
    from isplit.runtime.edge.device import Device
    from isplit.runtime.profile.memory import peak_memory_bytes
    from isplit.runtime.session import Session

    opened = Bundle.open(bundle, verify=False)
    device = Device(opened, plain=False, threads=1, provider="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, device.sample_pixels().shape, np.uint8)
    baseline = peak_memory_bytes()
    if mode == "resident":
        assert opened.record.segmented is not None
        session = Session(opened.directory / opened.record.segmented.files[0], threads=1)
        run = lambda: session.run(pixels[None])[0]  # noqa: E731
    else:
        run = lambda: device.segmented(pixels)  # noqa: E731
    times_ms: list[float] = []
    cpu_ms: list[float] = []
    logits = run()
    for _ in range(RUNS):
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        logits = run()
        cpu_ms.append((time.process_time() - begun_cpu_s) * 1000)
        times_ms.append((time.perf_counter() - begun_s) * 1000)
    return {
        "baseline_bytes": baseline,
        "peak_bytes": peak_memory_bytes(),
        "times_ms": times_ms,
        "cpu_ms": cpu_ms,
        "logits": logits.tolist(),
    }


def measure(bundle: Path, mode: str) -> dict[str, Any]:
    """Start a process that measures a bundle."""
    command = [sys.executable, __file__, "child", str(bundle), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure_in_turns(cases: dict[str, tuple[Path, str]]) -> dict[str, dict[str, Any]]:
    """Measure several bundles in turns; each case gets its median time and the largest peak of its processes."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for turn in range(TURNS):
        for name, (bundle, mode) in cases.items():
            print(f"turn {turn + 1}: {name}", file=sys.stderr)
            runs[name].append(measure(bundle, mode))
    expected = np.array(runs["resident"][0]["logits"])
    return {
        name: {
            "baseline_bytes": max(run["baseline_bytes"] for run in done),
            "peak_bytes": max(run["peak_bytes"] for run in done),
            "median_ms": statistics.median([time_ms for run in done for time_ms in run["times_ms"]]),
            "median_cpu_ms": statistics.median([cpu_ms for run in done for cpu_ms in run["cpu_ms"]]),
            "logits_difference": float(np.abs(np.array(done[0]["logits"]) - expected).max()),
        }
        for name, done in runs.items()
    } | {"largest_logit": {"value": float(np.abs(expected).max())}}


def export_divisions(work: Path, limits_mb: list[int]) -> tuple[list[dict[str, Any]], dict[str, tuple[Path, str]]]:
    """Plan and export the division of every limit; return a row for each, and what is to be measured."""
    import isplit
    from isplit.design.export_segments import export_segments
    from isplit.plan.compute import ModelShape, machine_times
    from isplit.plan.devices import this_machine
    from isplit.plan.segments import split_into_segments
    from isplit.records import GraphRecord

    study = make_study(work)
    settings = isplit.ExportSettings(overwrite=True, images=2)
    shape = ModelShape.from_graph(GraphRecord.load(study))
    times = machine_times(this_machine(), shape, model_fingerprint=None)
    opened = None
    rows: list[dict[str, Any]] = []
    cases = {"resident": (work / "whole", "resident"), "loaded": (work / "whole", "segmented")}
    for limit in [None, *limits_mb]:
        bundle = work / ("whole" if limit is None else f"segments-{limit}")
        bounds: list[str] = []
        blocks: dict[str, int] = {}
        if limit is not None:
            row: dict[str, Any] = {"limit_mb": limit, "feasible": True}
            rows.append(row)
            try:
                plan = split_into_segments(times, max_memory_bytes=limit * 1e6)
            except isplit.InputError as error:
                row.update(feasible=False, reason=str(error))
                continue
            bounds, blocks = [str(shape.names[part.end]) for part in plan.segments[:-1]], plan.blocks
            row.update(bounds=bounds, blocks=blocks, crossing_bytes=plan.crossing_bytes)
            row.update(predicted_peak_bytes=plan.memory_bytes)
            cases[str(limit)] = bundle, "segmented"
        if not (bundle / "manifest.json").is_file():
            print(f"export {bundle.name}", file=sys.stderr)
            opened = opened or isplit.open_study(study)
            export_segments(opened, bundle, bounds=bounds, blocks=blocks, settings=settings)
    return rows, cases


def run(work: Path, limits_mb: list[int]) -> None:
    """Plan, export and measure every limit, and write the results."""
    from isplit.plan.compute import ModelShape, machine_times
    from isplit.plan.costs import RUNTIME_BYTES
    from isplit.plan.devices import this_machine
    from isplit.plan.segments import least_memory_bytes, split_into_segments
    from isplit.records import GraphRecord

    graph = GraphRecord.load(make_study(work))
    shape = ModelShape.from_graph(graph)
    least_bytes = least_memory_bytes(shape)
    rows, cases = export_divisions(work, sorted({*limits_mb, int(np.ceil(least_bytes / 1e6))}))
    measured = measure_in_turns(cases)
    profile = this_machine()
    assert profile.rates is not None
    # The computation has one thread, so that its time is the processor's time on a machine without other work.
    resident_ms, loaded_ms = (measured[name]["median_cpu_ms"] for name in ("resident", "loaded"))
    rates = profile.rates.model_copy(
        update={
            "macs_per_s": graph.macs / (resident_ms / 1e3),
            "load_bytes_per_s": 4 * graph.parameters / (max(loaded_ms - resident_ms, 1.0) / 1e3),
            "memory_bytes_per_s": 1e12,
        }
    )
    times = machine_times(profile.model_copy(update={"rates": rates}), shape, model_fingerprint=None)
    for row in rows:
        if row["feasible"]:
            plan = split_into_segments(times, max_memory_bytes=row["limit_mb"] * 1e6)
            row.update(predicted_ms=plan.latency_ms, measured=measured[str(row["limit_mb"])])
    record = {
        "model": "torchvision:vgg16, 224 px, random weights",
        "least_mb": least_bytes / 1e6,
        "process_mb": RUNTIME_BYTES / 1e6,
        "largest_logit": measured["largest_logit"]["value"],
        "resident": measured["resident"],
        "loaded": measured["loaded"],
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def report() -> None:
    """Write the committed results into the guide, between its marks, as a table."""
    record = json.loads(RESULTS.read_text())
    lines = [
        "| memory allowed | segments, blocks of layers | planned peak | measured peak | planned time "
        "| processor time | elapsed |",
        "|---|---|--:|--:|--:|--:|--:|",
        f"| the whole model, kept in memory | 1 | – | {_measured_cells(record['resident'], planned='–')} |",
        f"| the whole model, loaded for every image | 1 | – | {_measured_cells(record['loaded'], planned='–')} |",
    ]
    for row in record["rows"]:
        if not row["feasible"]:
            lines.append(f"| {row['limit_mb']} MB | not feasible | | | | | |")
            continue
        planned = f"{row['predicted_ms']:,.0f} ms"
        blocks = "".join(f", {name} in {count} blocks" for name, count in row["blocks"].items())
        lines.append(
            f"| {row['limit_mb']} MB | {len(row['bounds']) + 1}{blocks} | {_mb(row['predicted_peak_bytes'])} | "
            f"{_measured_cells(row['measured'], planned=planned)} |"
        )
    print("\n".join(lines))
    guide = GUIDE.read_text()
    before, _, rest = guide.partition(f"{BEGIN}\n")
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        sys.exit(f"{GUIDE} has no line {BEGIN!r} with {END!r} after it")
    GUIDE.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}")


def _measured_cells(measured: dict[str, Any], *, planned: str) -> str:
    peak, cpu_ms, elapsed_ms = (measured[name] for name in ("peak_bytes", "median_cpu_ms", "median_ms"))
    return f"{_mb(peak)} | {planned} | {cpu_ms:,.0f} ms | {elapsed_ms:,.0f} ms"


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure")
    measuring.add_argument("--work", type=Path, required=True)
    measuring.add_argument("--limits", type=int, nargs="+", default=list(LIMITS_MB), metavar="MB")
    verbs.add_parser("report")
    child = verbs.add_parser("child")
    child.add_argument("bundle")
    child.add_argument("mode", choices=["segmented", "resident"])
    options = parser.parse_args()
    if options.verb == "measure":
        options.work.mkdir(parents=True, exist_ok=True)
        run(options.work, options.limits)
        report()
    elif options.verb == "report":
        report()
    else:
        sys.stdout.write(json.dumps(measure_child(options.bundle, options.mode)))


if __name__ == "__main__":
    main()
