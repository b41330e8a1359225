"""Capture and split models of torchvision, of timm's families and of Hugging Face, and write docs/model-coverage.md.

    python experiments/model_coverage.py [--only REGEX] [--again] [--older-than DATE]

Per model: how it was captured, its cuts, and whether head then tail equals the whole bit for bit at all default cuts;
or why it could not be captured. torchvision's classifiers are all there; of timm there is one model for each module of
its zoo, of Hugging Face one small configuration per architecture. All have weights under which the answer varies.
Results are kept in experiments/results/model-coverage.jsonl, one line per model. Models that are there are not run
again, unless they failed and `--again` is given, or were measured before the date of `--older-than`.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from coverage_models import build_timm, build_torchvision, hugging_face_models, timm_families, torchvision_names
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.design.testing import check_splits, varied_images, vary_weights

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "model-coverage.jsonl"
PAGE = ROOT.parent / "docs" / "model-coverage.md"
IMAGES = 8
FEW_IMAGES = 4
Shape = tuple[int, int, int]


def check_size(name: str, native: int) -> int:
    """Return the image size for the equality check of torchvision's models: small where the architecture allows it."""
    if name.startswith("maxvit"):
        return native  # its windows are tied to the size
    if name.startswith("inception"):
        return 128
    return 56 if name.startswith("vit_h") else 64


def examine_torchvision(name: str) -> dict[str, Any]:
    """Capture and count a model at its own image size, and check it at a smaller one."""
    weights = torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    crop = weights.transforms().crop_size
    native = crop[0] if isinstance(crop, list | tuple) else crop
    graph = ModelGraph(build_torchvision(name, native).eval(), (3, native, native))
    figures = describe(graph) | {"image_size": native, "torchvision_gmacs": weights.meta.get("_ops")}
    cuts = {cut.name for cut in graph.record().cuts}
    del graph
    size = check_size(name, native)
    _, checked, names = check(build_torchvision(name, size).eval(), (3, size, size), images=IMAGES)
    return figures | checked | {"unchecked": sorted(cuts - set(names))}


def examine_other(build: Callable[[], tuple[nn.Module, Shape]]) -> dict[str, Any]:
    """Capture, count and check a model at one size."""
    model, shape = build()
    graph, checked, _ = check(model.eval(), shape, images=FEW_IMAGES)
    return describe(graph) | checked | {"image_size": shape[1]}


def describe(graph: ModelGraph) -> dict[str, Any]:
    """Return what is written down of a graph."""
    record, everything = graph.record(), graph.record(all_cuts=True)
    return {
        "captured_by": record.captured_by,
        "gmacs": record.macs / 1e9,
        "uncounted": list(record.uncounted),
        "parameters": record.parameters,
        "default_cuts": len(record.cuts),
        "all_cuts": len(everything.cuts),
        "single_tensor_cuts": sum(len(cut.crossing) == 1 for cut in everything.cuts),
        "unavailable": len(everything.unavailable),
        # A notice names a line of a library by its path, of which the part before the library is that of one machine.
        "notices": [re.sub(r"[^\s()]*/site-packages/", "", notice) for notice in record.notices],
    }


def check(model: nn.Module, shape: Shape, *, images: int) -> tuple[ModelGraph, dict[str, Any], list[str]]:
    """Compare head then tail with the whole at every default cut, with weights under which top-1 varies."""
    top1, count = 0, images
    batch = varied_images(count, shape)
    for seed in range(10):
        batch = varied_images(count, shape, seed=seed)
        vary_weights(model, batch, seed=seed)
        with torch.no_grad():
            output = model(batch)
            logits = output if isinstance(output, torch.Tensor) else output["logits"]
            top1 = len(set(logits.argmax(1).tolist()))
        if top1 >= 3 and torch.isfinite(logits).all():  # with fewer answers the check would mean little
            break
    else:
        msg = "no weights found under which the answer varies"
        raise RuntimeError(msg)
    graph = ModelGraph(model, shape)
    checks = check_splits(model, graph, [cut.name for cut in graph.record().cuts], batch)
    row = {
        "checked_size": shape[1],
        "checked_cuts": len(checks),
        "exact": sum(each.is_exact for each in checks),
        "inexact": [[each.cut, each.largest_difference] for each in checks if not each.is_exact],
        "top1_values": top1,
        "images": count,
    }
    return graph, row, [each.cut for each in checks]


def jobs() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what there is to examine, by "LIBRARY:FAMILY"."""
    todo: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in torchvision_names():
        todo[f"torchvision:{name}"] = lambda name=name: examine_torchvision(name)
    for family, name in timm_families().items():
        todo[f"timm:{family}"] = lambda name=name: examine_other(lambda: build_timm(name)) | {"name": name}
    for kind, build in hugging_face_models().items():
        todo[f"hf:{kind}"] = lambda build=build: examine_other(build)
    return todo


def examine(key: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run one job; what goes wrong is its result."""
    torch.manual_seed(0)
    started = time.perf_counter()
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    try:
        row = run()
    except Exception as error:  # noqa: BLE001 - why a model could not be examined is what the page says
        row = {"failed": str(error).strip() or type(error).__name__}
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    seconds = time.perf_counter() - started
    return {"model": key, **row, "measured": measured, "seconds": seconds, "versions": versions}


def read_rows() -> dict[str, dict[str, Any]]:
    """Return the newest result of each model."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["model"] if ":" in row["model"] else f"torchvision:{row['model']}"): row for row in rows}


def write_page(rows: dict[str, dict[str, Any]]) -> None:
    """Write the tables from the results."""
    lines = ["# Model coverage", "", "`python experiments/model_coverage.py` writes this page; do not edit it.", ""]
    for library, title in (("torchvision", "torchvision"), ("timm", "timm, by family"), ("hf", "Hugging Face")):
        chosen = {key.partition(":")[2]: row for key, row in sorted(rows.items()) if key.startswith(f"{library}:")}
        if chosen:
            lines += [f"## {title}", "", *_summary(chosen, library), "", *_table(chosen), ""]
    lines += ["## The columns", "", _COLUMNS, "", "## Not exact", ""]
    inexact = [(key, cut, value) for key, row in sorted(rows.items()) for cut, value in row.get("inexact", ())]
    lines += [f"- {key}, `{cut}`: largest difference of a logit {value:.2g}" for key, cut, value in inexact] or [
        "None."
    ]
    failed = [f"- {key}: {' '.join(row['failed'].split())}" for key, row in sorted(rows.items()) if "failed" in row]
    lines += ["", "## Not captured", "", *(failed or ["None."])]
    uncounted = [f"- {key}: {_times(row['uncounted'])}" for key, row in sorted(rows.items()) if row.get("uncounted")]
    lines += ["", "## MACs not counted", "", *(uncounted or ["None."])]
    PAGE.write_text("\n".join(lines) + "\n")


def _times(names: list[str]) -> str:
    """Return names with how often each comes."""
    return ", ".join(name if count == 1 else f"{name} × {count}" for name, count in Counter(names).items())


_COLUMNS = (
    "*Cuts* is the number of default cuts; the numbers in brackets are those of all cuts where one tensor crosses, and "
    "of all cuts. *Exact* is the number of default cuts where every bit of every logit is the same, over the number of "
    f"cuts that were checked, with varied weights on {IMAGES} images ({FEW_IMAGES} for timm and Hugging Face) of the "
    "size under *checked at*. *Top-1* is the number of different answers to these images. *GMACs* are for the image "
    "size in the table, and *stated* is torchvision's own figure where it gives one."
)


def _summary(rows: dict[str, dict[str, Any]], library: str) -> list[str]:
    captured = [row for row in rows.values() if "failed" not in row]
    cut = [row for row in captured if row["checked_cuts"]]
    exact = sum(row["exact"] == row["checked_cuts"] for row in cut)
    versions = next(iter(rows.values()))["versions"]
    cuts = sum(row["checked_cuts"] for row in captured)
    dates = sorted(row["measured"][:16].replace("T", " ") for row in rows.values() if "measured" in row)
    others = "; the others are older" if len(dates) < len(rows) else ""
    dated = f" {len(dates)} of the rows were measured since {dates[0]} UTC{others}." if dates else ""
    release = f"; {library} {versions[library]}" if library in versions else ""
    return [
        f"{len(captured)} of the {len(rows)} models that were tried were captured (torch {versions['torch']}, on a CPU"
        f"{release}), {len(captured) - len(cut)} of them without a default cut. In {exact} of the {len(cut)} others, "
        f"head followed by tail equals the whole model bit for bit at every default cut ({cuts} cuts in all).{dated}"
    ]


def _table(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| model | captured by | image | GMACs | stated | cuts | exact | checked at | top-1 |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key, row in rows.items():
        name = key if row.get("name") in (None, key) else f"{key} ({row['name']})"
        if "failed" in row:
            lines.append(f"| {name} | not captured | | | | | | | |")
            continue
        stated = row.get("torchvision_gmacs")
        lines.append(
            f"| {name} | {row['captured_by']} | {row['image_size']} | {row['gmacs']:.2f} "
            f"| {'' if stated is None else f'{stated:.2f}'} "
            f"| {row['default_cuts']} ({row['single_tensor_cuts']}, {row['all_cuts']}) "
            f"| {row['exact']}/{row['checked_cuts']} | {row['checked_size']} | {row['top1_values']} |"
        )
    return lines


def main() -> None:
    """Examine what is not yet in the results, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a regular expression of LIBRARY:FAMILY")
    parser.add_argument("--again", action="store_true", help="run failed ones again")
    parser.add_argument("--older-than", default="", help="run again what was measured before, such as 2026-11-27T15")
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    rows = read_rows()
    for key, run in jobs().items():
        done = key in rows and not (options.again and "failed" in rows[key])
        done = done and rows[key].get("measured", "") >= options.older_than
        if done or not re.search(options.only, key):
            continue
        row = rows[key] = examine(key, run)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        result = row.get("failed") or f"{row['exact']}/{row['checked_cuts']} exact, {row['captured_by']}"
        print(f"{key}: {result}, {row['seconds']:.0f} s", flush=True)
    write_page(rows)


if __name__ == "__main__":
    main()
