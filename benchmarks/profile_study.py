"""The shortcut of `isplit profile STUDY` beside timing every head: how far off it is, and how long it takes.

    python benchmarks/profile_study.py --work DIR [--models torchvision:mobilenet_v2 torchvision:resnet50] [--runs 30]

The models have random weights, because times do not depend on their values. All heads, the whole model and the traced
whole model are run in turn, so that a drifting clock cannot tell for one of them. The correction is then fitted to the
few heads that the shortcut would have run, and judged by all the others. The seconds are those of separate calls that
run only what each way needs, loading included, once without the export and once with it. What the first export of a
process loads counts for both ways. `repeat` is how far two rounds of timing the same heads are from each other, which
says how quiet the machine was. Exports and timings run with real-time priority where that is allowed.

Results go to benchmarks/results/profile_study.json; models that are not run keep their last figures.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

import isplit
from isplit.design.onnx.files import to_onnx
from isplit.design.profile_parts import ProfileParts, export_profile_parts
from isplit.plan.compute import ModelShape
from isplit.runtime.profile.parts import PartKey
from isplit.workflows.profile_study import choose_heads, fit_correction, time_heads

RESULTS = Path(__file__).parent / "results" / "profile_study.json"


def make_study(model: str, work: Path) -> isplit.Study:
    """Analyze a model with random weights on noise, as far as a profile needs."""
    study = work / model.replace(":", "-")
    if (study / "candidates.json").is_file():
        return isplit.open_study(study)
    rng = np.random.default_rng(0)
    np.savez(work / "noise.npz", images=rng.integers(0, 256, (60, 32, 32, 3), np.uint8), labels=np.arange(60) % 2)
    (work / "classes.json").write_text(json.dumps({"0": 0, "1": 1}))
    settings = isplit.AnalyzeSettings(images=2, test_images=2, batch_size=2, class_map=work / "classes.json")
    return isplit.analyze(model, work / "noise.npz", out=study, settings=settings, announce=print)


def compare(study: isplit.Study, *, runs: int) -> dict[str, Any]:
    """Return the errors and the seconds of the shortcut for one model."""
    shape = ModelShape.from_graph(study.graph_record)
    cuts = [cut.name for cut in sorted(study.cuts(), key=lambda cut: cut.depth)]
    fitted, checked = choose_heads(shape, cuts)
    size = study.model.preprocessing.image_size
    pixels = [np.random.default_rng(0).integers(0, 256, (1, *size, study.model.preprocessing.channels), np.uint8)]
    settings = isplit.ProfileSettings(runs=runs)
    seconds = {"first export": _first_export_s()}
    with TemporaryDirectory() as scratch, high_priority():
        few_heads = [cut for cut in cuts if cut in (*fitted, *checked)]
        few = _exported("shortcut", study, Path(scratch, "few"), cuts, few_heads, seconds)
        parts = _exported("every head", study, Path(scratch, "all"), cuts, cuts, seconds)

        def run(name: str, files: ProfileParts, *, trace: bool) -> Any:
            start_s = time.perf_counter()
            result = time_heads(files, pixels, settings, scratch=Path(scratch), others={}, trace=trace)
            seconds[f"{name}, timing"] = time.perf_counter() - start_s
            return result

        timed, segments_ms = run("together", parts, trace=True)
        again, _ = run("every head", parts, trace=False)
        run("shortcut", few, trace=True)
    correction = fit_correction(shape, cuts, timed, segments_ms, fitted=fitted, checked=checked)
    sums_ms = np.cumsum(np.median(segments_ms, axis=1))
    errors: dict[str, float] = {}
    for number, cut in enumerate(cuts):
        if cut not in few_heads:
            head_ms = timed.times[PartKey(kind="head", cut=cut)].median_ms
            output_bytes = float(shape.tensor_bytes[shape.index(cut)])
            errors[cut] = correction.head_ms(float(sums_ms[number]), output_bytes) / head_ms - 1
    sizes = [abs(error) for error in errors.values()]
    repeats = [
        abs(again.times[key].median_ms / timed.times[key].median_ms - 1)
        for key in (PartKey(kind="head", cut=cut) for cut in errors)
    ]
    whole = timed.times[PartKey(kind="whole")]
    return {
        "cuts": len(cuts),
        "heads_run": len(few_heads),
        "whole_ms": whole.median_ms,
        "whole_p95_ms": whole.p95_ms,
        "runs": whole.runs,
        "median_error": statistics.median(sizes),
        "largest_error": max(sizes),
        "within_5_percent": sum(size <= 0.05 for size in sizes),
        "judged_heads": len(sizes),
        "repeat_median_error": statistics.median(repeats),
        "repeat_largest_error": max(repeats),
        "reported_error": correction.max_error_share,
        "seconds": seconds,
        "time_share": seconds["shortcut, timing"] / seconds["every head, timing"],
        "time_share_with_export": _both(seconds, "shortcut") / _both(seconds, "every head"),
        "errors": errors,
        "correction": json.loads(correction.model_dump_json()),
    }


def _exported(
    name: str, study: isplit.Study, directory: Path, cuts: list[str], heads: list[str], seconds: dict[str, float]
) -> ProfileParts:
    """Export the whole model and some heads, and note how long that took."""
    directory.mkdir()
    start_s = time.perf_counter()
    parts = export_profile_parts(study, directory, cuts, heads=heads)
    seconds[f"{name}, export"] = time.perf_counter() - start_s
    return parts


def _both(seconds: dict[str, float], name: str) -> float:
    """Return the seconds of exporting and timing."""
    return seconds["first export"] + seconds[f"{name}, export"] + seconds[f"{name}, timing"]


@cache
def _first_export_s() -> float:
    """Return the seconds that the first export of a process takes for loading the exporter."""
    start_s = time.perf_counter()
    to_onnx(nn.Flatten(), torch.zeros((1, 2, 2)), source="tensor", target="vector", any_batch=False)
    return time.perf_counter() - start_s


@contextmanager
def high_priority() -> Generator[None]:
    """Keep other work of this machine away where that is allowed, because it would change between two timings."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["torchvision:mobilenet_v2", "torchvision:resnet50"])
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"models": {}}
    results["machine"] = f"{platform.machine()}, one thread"
    for model in options.models:
        row = compare(make_study(model, options.work), runs=options.runs)
        results["models"][model] = row
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(
            f"{model}: {row['cuts']} cuts, {row['heads_run']} heads run; the other heads are off by "
            f"{row['median_error']:.1%} (median) and {row['largest_error']:.1%} (largest), "
            f"{row['within_5_percent']} of {row['judged_heads']} within 5 %; timed twice, they differ by "
            f"{row['repeat_median_error']:.1%} and {row['repeat_largest_error']:.1%}; "
            f"{row['time_share']:.0%} of the time, and {row['time_share_with_export']:.0%} with the export"
        )


if __name__ == "__main__":
    main()
