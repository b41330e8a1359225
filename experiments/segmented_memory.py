"""VGG16 in segments on a device with little memory: planned against measured peak memory and latency.

    python experiments/segmented_memory.py measure --work DIR [--limits 150 250 400 500]
    python experiments/segmented_memory.py report

VGG16 at 224 pixels has random weights, because memory and time do not depend on their values. For every limit the
plan divides the model (`isplit plan --max-device-memory`), or says that no division fits. A division is exported and
run in a process of its own, whose peak resident memory is read from the kernel; the whole model is run in the same way,
once as it is kept in memory and once loaded for every image. Predicted latencies use a profile of two figures of this
machine: the whole model's time and the rate at which weights are loaded.
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
LIMITS_MB = (150, 250, 400)
RUNS = 5


def make_study(work: Path) -> Path:
    """Analyze VGG16 with random weights on noise, as far as a plan needs."""
    import isplit

    study = work / "study"
    if not (study / "candidates.json").is_file():
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (60, 32, 32, 3), np.uint8)
        np.savez(work / "noise.npz", images=images, labels=np.arange(60) % 2)
        (work / "classes.json").write_text(json.dumps({"0": 0, "1": 1}))
        settings = isplit.AnalyzeSettings(images=2, test_images=2, batch_size=2)
        isplit.analyze(
            "torchvision:vgg16", work / "noise.npz", out=study, class_map=work / "classes.json", settings=settings
        )
    return study


def measure_child(bundle: str, mode: str) -> dict[str, Any]:
    """Run a bundle of segments in this process: `segmented` as a device does, `resident` with the model kept."""
    from isplit.runtime.bundle import Bundle
    from isplit.runtime.edge.device import Device
    from isplit.runtime.profile.memory import peak_memory_bytes
    from isplit.runtime.session import Session

    opened = Bundle.open(bundle, verify=False)
    device = Device(opened, plain=False, threads=1, provider="cpu")
    pixels = device.sample_pixels()
    baseline = peak_memory_bytes()
    if mode == "resident":
        assert opened.record.segmented is not None
        session = Session(opened.directory / opened.record.segmented.files[0], threads=1)
        run = lambda: session.run(pixels[None])  # noqa: E731
    else:
        run = lambda: device.segmented(pixels)  # noqa: E731
    times_ms: list[float] = []
    for _ in range(RUNS + 1):
        begun_s = time.perf_counter()
        run()
        times_ms.append((time.perf_counter() - begun_s) * 1000)
    return {
        "baseline_bytes": baseline,
        "peak_bytes": peak_memory_bytes(),
        "median_ms": statistics.median(times_ms[1:]),
        "first_ms": times_ms[0],
    }


def measure(bundle: Path, mode: str) -> dict[str, Any]:
    """Start a process that measures a bundle."""
    command = [sys.executable, __file__, "child", str(bundle), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run(work: Path, limits_mb: list[int]) -> None:
    """Plan, export and measure every limit, and write the results."""
    import isplit
    from isplit.design.export_segments import export_segments
    from isplit.plan.compute import ModelShape, machine_times
    from isplit.plan.devices import this_machine
    from isplit.plan.segments import least_memory_bytes, split_into_segments
    from isplit.records import GraphRecord

    study = make_study(work)
    settings = isplit.ExportSettings(overwrite=True, images=2)
    whole = work / "whole"
    if not (whole / "manifest.json").is_file():
        export_segments(study, whole, bounds=[], settings=settings)
    resident, loaded = measure(whole, "resident"), measure(whole, "segmented")
    graph = GraphRecord.load(study)
    shape = ModelShape.from_graph(graph)
    profile = this_machine()
    assert profile.rates is not None
    load_ms = max(loaded["median_ms"] - resident["median_ms"], 1.0)
    rates = profile.rates.model_copy(
        update={
            "macs_per_s": graph.macs / (resident["median_ms"] / 1e3),
            "load_bytes_per_s": 4 * graph.parameters / (load_ms / 1e3),
            "memory_bytes_per_s": 1e12,
        }
    )
    times = machine_times(profile.model_copy(update={"rates": rates}), shape, model_fingerprint=None)
    least = least_memory_bytes(shape)
    rows: list[dict[str, Any]] = []
    for limit in sorted({*limits_mb, int(np.ceil(least / 1e6))}):
        row: dict[str, Any] = {"limit_mb": limit}
        try:
            plan = split_into_segments(times, max_memory_bytes=limit * 1e6)
        except isplit.InputError as error:
            rows.append(row | {"feasible": False, "reason": str(error)})
            continue
        bounds = [str(shape.names[part.end]) for part in plan.segments[:-1]]
        bundle = work / f"segments-{limit}"
        export_segments(study, bundle, bounds=bounds, settings=settings)
        rows.append(
            row
            | {
                "feasible": True,
                "bounds": bounds,
                "crossing_bytes": plan.crossing_bytes,
                "predicted_peak_bytes": plan.memory_bytes,
                "predicted_ms": plan.latency_ms,
                "measured": measure(bundle, "segmented"),
            }
        )
    record = {"model": "torchvision:vgg16, 224 px, random weights", "least_mb": least / 1e6}
    RESULTS.write_text(json.dumps(record | {"resident": resident, "loaded": loaded, "rows": rows}, indent=1) + "\n")


def report() -> None:
    """Print the committed results as a table."""
    record = json.loads(RESULTS.read_text())
    print(f"{record['model']}; the least memory that any division needs: {record['least_mb']:.0f} MB (planned)")
    print("limit  segments  crossing   planned MB  measured MB  planned ms  measured ms")
    for name, title in (("resident", "none (whole, kept)"), ("loaded", "none (whole, loaded for each image)")):
        figures = record[name]
        print(f"{title}: measured {figures['peak_bytes'] / 1e6:.0f} MB, {figures['median_ms']:.0f} ms")
    for row in record["rows"]:
        if not row["feasible"]:
            print(f"{row['limit_mb']} MB  not feasible: {row['reason']}")
            continue
        measured = row["measured"]
        print(
            f"{row['limit_mb']} MB  {len(row['bounds']) + 1} ({', '.join(row['bounds'])})  "
            f"{row['crossing_bytes']:,.0f} B  "
            f"{row['predicted_peak_bytes'] / 1e6:.0f}  {measured['peak_bytes'] / 1e6:.0f}  {row['predicted_ms']:.0f}  "
            f"{measured['median_ms']:.0f}"
        )


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
