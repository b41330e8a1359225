"""Capture and split every classification model of torchvision, and write docs/model-coverage.md.

    python experiments/model_coverage.py [--only REGEX]

Per model: how it was captured, its cuts, and whether head then tail equals the whole bit for bit at all default cuts.
Graph figures are for the model's own image size; equality is checked on smaller images (the number of positions does
not matter to it), with weights under which top-1 takes several values. Results are kept in
experiments/results/model-coverage.jsonl, one line per model; models that are there are not run again.
"""

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import torch
import torchvision

from isplit.design.graph import ModelGraph
from isplit.design.testing import check_splits, varied_images, vary_weights

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "model-coverage.jsonl"
PAGE = ROOT.parent / "docs" / "model-coverage.md"
IMAGES = 8


def build(name: str, size: int) -> torch.nn.Module:
    """Build a model for images of `size` pixels, with random initial values."""
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if name.startswith("vit_"):
        options["image_size"] = size
    return torchvision.models.get_model(name, weights=None, **options)


def check_size(name: str, native: int) -> int:
    """Return the image size for the equality check: small where the architecture allows it."""
    if name.startswith("maxvit"):
        return native  # its windows are tied to the size
    if name.startswith("inception"):
        return 128
    return 56 if name.startswith("vit_h") else 64


def all_names() -> list[str]:
    """Return every classification model that torchvision lists."""
    return torchvision.models.list_models(module=torchvision.models)


def examine(name: str) -> dict[str, Any]:
    """Capture, count and check one model."""
    torch.manual_seed(0)
    started = time.perf_counter()
    weights = torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    crop = weights.transforms().crop_size
    native = crop[0] if isinstance(crop, list | tuple) else crop
    graph = ModelGraph(build(name, native).eval(), (3, native, native))
    record, everything = graph.record(), graph.record(all_cuts=True)
    stated = weights.meta.get("_ops")
    del graph

    size = check_size(name, native)
    shape = (3, size, size)
    model = build(name, size).eval()
    for seed in range(10):
        images = varied_images(IMAGES, shape, seed=seed)
        vary_weights(model, images, seed=seed)
        with torch.no_grad():
            top1 = len(set(model(images).argmax(1).tolist()))
        if top1 >= 3:  # with fewer answers the check would mean little
            break
    else:
        msg = f"{name}: no weights found under which the answer varies"
        raise RuntimeError(msg)
    graph = ModelGraph(model, shape)
    small = graph.record()
    checks = check_splits(model, graph, [cut.name for cut in small.cuts], images)
    return {
        "model": name,
        "captured_by": record.captured_by,
        "image_size": native,
        "gmacs": record.macs / 1e9,
        "torchvision_gmacs": stated,
        "uncounted": list(record.uncounted),
        "parameters": record.parameters,
        "default_cuts": len(record.cuts),
        "all_cuts": len(everything.cuts),
        "single_tensor_cuts": sum(len(cut.crossing) == 1 for cut in everything.cuts),
        "unavailable": len(everything.unavailable),
        "checked_size": size,
        "checked_cuts": len(checks),
        "unchecked": sorted({cut.name for cut in record.cuts} - {cut.name for cut in small.cuts}),
        "exact": sum(check.is_exact for check in checks),
        "inexact": [[check.cut, check.largest_difference] for check in checks if not check.is_exact],
        "top1_values": top1,
        "seconds": time.perf_counter() - started,
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }


def write_page(rows: list[dict[str, Any]]) -> None:
    """Write the table from the results."""
    exact = sum(row["exact"] == row["checked_cuts"] for row in rows)
    versions = rows[0]["versions"]
    lines = [
        "# Model coverage",
        "",
        "Written by `python experiments/model_coverage.py`; do not edit.",
        "",
        f"{len(rows)} of the {len(all_names())} classification models of torchvision {versions['torchvision']}, torch "
        f"{versions['torch']}, on a CPU. At {exact} of them head then tail equals the whole model bit for bit at every "
        "default cut.",
        "",
        "*Cuts*: default ones; in brackets all places where one tensor crosses, and all places at all. *Exact*: "
        f"default cuts where every bit of every logit is the same, over those checked, on {IMAGES} images of the given "
        "size, with varied weights; *top-1* is how many different answers these images get. *GMACs* at the model's "
        "own image size, beside the figure that torchvision states for its weights (it counts the same operations).",
        "",
        "| model | captured by | image | GMACs | torchvision's | cuts | exact | checked at | top-1 |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda row: row["model"]):
        stated = "" if row["torchvision_gmacs"] is None else f"{row['torchvision_gmacs']:.2f}"
        lines.append(
            f"| {row['model']} | {row['captured_by']} | {row['image_size']} | {row['gmacs']:.2f} | {stated} "
            f"| {row['default_cuts']} ({row['single_tensor_cuts']}, {row['all_cuts']}) "
            f"| {row['exact']}/{row['checked_cuts']} | {row['checked_size']} | {row['top1_values']} |"
        )
    inexact = [(row["model"], cut, difference) for row in rows for cut, difference in row["inexact"]]
    lines += ["", "## Not exact", ""]
    lines += [f"- {model}, `{cut}`: largest difference of a logit {value:.2g}" for model, cut, value in inexact]
    lines += [] if inexact else ["None."]
    unchecked = [f"- {row['model']}: {', '.join(row['unchecked'])}" for row in rows if row["unchecked"]]
    lines += ["", "## Default cuts that are none at the size of the check", "", *(unchecked or ["None."])]
    uncounted = [f"- {row['model']}: {', '.join(row['uncounted'])}" for row in rows if row["uncounted"]]
    lines += ["", "## MACs not counted", "", *(uncounted or ["None."])]
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Examine what is not yet in the results, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a regular expression of model names")
    only = parser.parse_args().only
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    done = {row["model"] for row in rows}
    names = [name for name in all_names() if re.search(only, name)]
    for name in names:
        if name in done:
            continue
        rows.append(examine(name))
        with RESULTS.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(f"{name}: {rows[-1]['exact']}/{rows[-1]['checked_cuts']} exact, {rows[-1]['seconds']:.0f} s", flush=True)
    write_page(rows)


if __name__ == "__main__":
    main()
