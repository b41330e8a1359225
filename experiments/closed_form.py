"""Measure how accurate splits are without training, on one study, and write every figure about the closed form.

    python experiments/closed_form.py STUDY [--only ratio,payload,...] [--page]

STUDY is a folder that `isplit analyze` wrote. The figures of the docs are from VGG16 (fine-tuned ImageNet trunk) on
tiny-imagenet-20. Statistics come from the fit part, and every figure from the whole test part.

ratio       Compares importance weighting with plain PCA at every cut, with one in 64 of the elements.
payload     Measures accuracy over real payload bytes at every cut, beside JPEG and WebP.
quantise    Compares three quantisers at equal bytes at three cuts: rank and step chosen jointly, 8 bits, per channel.
entropy     Compares rans payloads without header with the cross-entropy of the static tables, and times the coder.

Rows are stored in experiments/results/closed-form.jsonl. Rows that are there are not measured again.
docs/closed-form.md is made from the rows; --page only writes that page.
"""

import argparse
import json
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from wire import HEADS, wire_lines

from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import Rans
from isplit.design.closed_form.allocation import Allocation, allocate_bytes, fixed_rank
from isplit.design.closed_form.bases import closed_form_bases
from isplit.design.closed_form.basis import Basis
from isplit.design.closed_form.build import build_split, built_with_tables, mean_payload_bytes
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.graph.features import FeaturePass
from isplit.design.inputs.batches import iter_batches
from isplit.design.measure.compressed_images import measure_remote
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.running import chosen_precision
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import Study, open_study
from isplit.records import Budget

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "closed-form.jsonl"
PAGE = ROOT.parent / "docs" / "closed-form.md"
RATIO = Budget(element_ratio=64)
BUDGETS = tuple(Budget(payload_bytes=n) for n in (100, 150, 225, 340, 500, 750, 1100))
EQUAL_BYTES = Budget(payload_bytes=300)
STATISTICS_IMAGES = 1000
TUNING = ClosedFormTuning()
# In points over 100: a cut that loses more is not tried at smaller budgets.
HOPELESS_LOSS = 0.06
SHARES = (0.10, 0.25, 0.50, 0.75)
CLASSES = 20
"""Of tiny-imagenet-20: an answer has a number for each."""

Row = dict[str, Any]
Built = tuple[Budget, BuiltSplit]


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--only", default="ratio,payload,quantise,entropy")
    parser.add_argument("--images", type=int, help="of the test part; all by default")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if not options.page:
        study = open_study(options.study)
        runners = {"ratio": run_ratio, "payload": run_payload, "quantise": run_quantise, "entropy": run_entropy}
        for name in options.only.split(","):
            for row in runners[name](study, known(name), options.images):
                keep(RESULTS, study, {"part": name, **row}, beside=known(name))
    write_page()


@cache
def bases(study: Study, *, weighted: bool = True, joint_maps: bool = True) -> list[dict[Budget, Basis]]:
    """Solve every cut once for all parts, with maps over all positions where they are worth it, or without any.

    Of patches of several sizes, those with the smallest expected loss are taken.
    """
    tuning = TUNING if joint_maps else replace(TUNING, max_joint_width=0)
    settings = PredictSettings(statistics_images=STATISTICS_IMAGES, weighted=weighted, tuning=tuning)
    of_cuts = closed_form_bases(study.view(), [RATIO, *BUDGETS, EQUAL_BYTES], study.cuts(), settings)
    return [{budget: candidates[0] for budget, candidates in of_cut.items()} for of_cut in of_cuts]


def build(study: Study, cuts: Container[str], budgets: Sequence[Budget], *, weighted: bool = True) -> list[Built]:
    """Build the closed form of some cuts for some budgets."""
    return [
        (budget, build_split(study.view(), of_cut[budget], budget))
        for of_cut in bases(study, weighted=weighted)
        for budget in budgets
        if of_cut[budget].cut.name in cuts
    ]


def keep(path: Path, study: Study, row: Row, *, beside: Sequence[Row]) -> None:
    """Add a row, with the network that it is of and the precision it is measured in; a part is of one network."""
    network = study.record.model.weights_sha256
    if any(other.get("weights_sha256") != network for other in beside):
        raise SystemExit(f"there are {len(beside)} rows of this part from other weights: delete them first")
    with path.open("a") as file:
        file.write(json.dumps(row | {"weights_sha256": network, "precision": chosen_precision("auto")}) + "\n")
    print(row, flush=True)


def known(part: str) -> list[Row]:
    """Return the rows of a part that are there."""
    if not RESULTS.exists():
        return []
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    # Cuts in their order, large budgets first: rows that were run again stand at the end of the file.
    return sorted(
        (row for row in rows if row["part"] == part),
        key=lambda row: (int(row.get("cut", "features.0").rpartition(".")[2]), -(row.get("budget") or 0)),
    )


def measured(study: Study, splits: Sequence[BuiltSplit], images: int | None) -> list[Row]:
    """Measure splits on the test part."""
    view = study.view()
    chosen = view.images("test", limit=images)
    rows: list[Row] = []
    for evaluation in evaluate_splits(view, splits, images=chosen, precision=chosen_precision("auto")):
        result = measure(view, evaluation, part="test")
        rows.append(
            {
                "cut": evaluation.split.cut.name,
                "accuracy": result.accuracy.accuracy,
                "whole": result.whole.accuracy,
                "images": result.accuracy.images,
                "loss": -result.against_whole.difference,
                "loss_stderr": result.against_whole.stderr,
                "payload_bytes": result.payload_bytes.mean,
                "p95_bytes": result.payload_bytes.p95,
                "elements": result.elements,
                "head_mac_share": result.head_mac_share,
                "clipped_share": result.clipped_share,
            }
        )
    return rows


def run_ratio(study: Study, done: list[Row], images: int | None) -> Iterator[Row]:
    """One in 64 of the elements: the closed form against plain PCA."""
    for weighted in (True, False):
        design = "linear" if weighted else "pca"
        there = {row["cut"] for row in done if row["design"] == design}
        missing = [cut.name for cut in study.cuts() if cut.name not in there]
        if missing:
            splits = [split for _, split in build(study, missing, [RATIO], weighted=weighted)]
            for row in measured(study, splits, images):
                yield {"design": design, **row}


def run_payload(study: Study, done: list[Row], images: int | None) -> Iterator[Row]:
    """Accuracy over bytes at every cut, from the largest budget down to where it loses too much; compressed images."""
    if not any("format" in row for row in done):
        yield from compressed_images(study, images)
    there = {(row["cut"], row["budget"]): row for row in done if "cut" in row}
    alive = [cut.name for cut in study.cuts()]
    for budget in reversed(BUDGETS):
        missing = [name for name in alive if (name, budget.payload_bytes) not in there]
        splits = [split for _, split in build(study, missing, [budget])] if missing else []
        for row in measured(study, splits, images) if splits else ():
            there[row["cut"], budget.payload_bytes] = row
            yield {"budget": budget.payload_bytes, **row}
        alive = [name for name in alive if there[name, budget.payload_bytes]["loss"] < HOPELESS_LOSS]


def compressed_images(study: Study, images: int | None) -> Iterator[Row]:
    """JPEG and WebP at several settings: their bytes, and what the whole model makes of them."""
    view = study.view()
    for remote in measure_remote(
        view,
        images=view.images("test", limit=images),
        part="test",
        precision=chosen_precision("auto"),
    ):
        yield {
            "format": remote.format,
            "quality": remote.quality,
            "scale": remote.scale,
            "accuracy": remote.accuracy.accuracy,
            "images": remote.accuracy.images,
            "loss": -remote.against_whole.difference,
            "loss_stderr": remote.against_whole.stderr,
            "payload_bytes": remote.payload_bytes.mean,
        }


def run_quantise(study: Study, done: list[Row], images: int | None) -> Iterator[Row]:
    """Equal bytes, spent in different ways, at a shallow, a middle and a deep cut."""
    every = [cut for cut in study.cuts() if cut.head_macs / study.graph_record.macs < 0.95]
    chosen = [every[number] for number in (len(every) // 4, len(every) // 2, len(every) - 1)]
    missing = [cut for cut in chosen if cut.name not in {row["cut"] for row in done}]
    if not missing:
        return
    for of_cut in bases(study, joint_maps=False):
        basis = of_cut[EQUAL_BYTES]
        if basis.cut not in missing:
            continue
        assert EQUAL_BYTES.payload_bytes is not None
        budget = float(EQUAL_BYTES.payload_bytes)
        joint = allocate_bytes(basis.latents, budget)
        variants = {"rank and step together": built_with_tables(study.view(), basis, joint)}
        variants["8 bits fixed, rank to fit"] = fill_rank(study, basis, budget, bits=None)
        for bits in (8, 6, 4, 3):
            variants[f"per-channel {bits} bits, rank to fit"] = fill_rank(study, basis, budget, bits=bits)
        for name, row in zip(variants, measured(study, list(variants.values()), images), strict=True):
            yield {"variant": name, **row}


def fill_rank(study: Study, basis: Basis, budget: float, *, bits: int | None) -> BuiltSplit:
    """Return the split of the largest rank that fits: one step of 8 bits for all, or as many bits per channel."""
    low, high = 1, basis.latents[0].shape[1]
    best = with_rank(study, basis, 1, bits)[0]
    while low <= high:
        rank = (low + high) // 2
        built, payload = with_rank(study, basis, rank, bits)
        if payload <= budget:
            best, low = built, rank + 1
        else:
            high = rank - 1
    return best


def with_rank(study: Study, basis: Basis, rank: int, bits: int | None) -> tuple[BuiltSplit, float]:
    """Build a split of a rank, and return its mean payload."""
    allocation: Allocation = fixed_rank(basis.latents, [rank])
    quantiser = None
    if bits is not None:
        kept = basis.latents[0][:, :rank].transpose(0, 1).flatten(1)
        low, high = kept.amin(1).double().numpy(), kept.amax(1).double().numpy()
        quantiser = Quantiser.per_channel(low=low, high=high, levels=1 << bits)
    built = built_with_tables(study.view(), basis, allocation, quantiser=quantiser)
    return built, mean_payload_bytes(built, basis, allocation)


def run_entropy(study: Study, done: list[Row], images: int | None) -> Iterator[Row]:
    """How close rans comes to its tables' cross-entropy on the test part, and what it takes."""
    there = {(row["cut"], row["budget"]) for row in done}
    budgets = [BUDGETS[3], BUDGETS[-1]]
    chosen = study.view().images("test", limit=images)
    for cut in study.cuts():
        missing = [budget for budget in budgets if (cut.name, budget.payload_bytes) not in there]
        built = build(study, [cut.name], missing) if missing else []
        for (budget, split), symbols in zip(built, symbols_of(study, [s for _, s in built], chosen), strict=True):
            yield {"cut": cut.name, "budget": budget.payload_bytes, **entropy(split, symbols)}


def symbols_of(study: Study, splits: Sequence[BuiltSplit], images: Any) -> list[np.ndarray]:
    """Return each split's quantised latents of the images."""
    if not splits:
        return []
    latents: list[list[torch.Tensor]] = [[] for _ in splits]
    run = FeaturePass(study.graph, [splits[0].cut])

    def visit(cut: Any, tensor: torch.Tensor) -> None:
        for split, kept in zip(splits, latents, strict=True):
            kept.append(split.symbols(tensor))

    for batch in iter_batches(study.data, images, study.model.preprocessing, batch_size=50):
        run(batch.images, visit)
    return [torch.cat(kept).numpy() for kept in latents]


def entropy(built: BuiltSplit, symbols: np.ndarray) -> Row:
    """Compare payloads with the tables' cross-entropy, and time encoding and decoding of one image after another."""
    codec = built.codec
    assert codec.tables is not None
    coder = Rans(codec.tables)
    flat = [np.ascontiguousarray(np.moveaxis(image, codec.channel_axis, 0)).ravel() for image in symbols]
    bits = codec.tables.symbol_bits.ravel()
    ideal = sum(float(bits[codec.tables.entries(image)].sum()) for image in flat) / 8
    payload = float(coder.sizes(np.stack(flat)).sum())
    started = time.process_time()
    coded = [codec.encode_symbols(image) for image in symbols[:100]]
    encoded = time.process_time()
    for image in coded:
        codec.decode_symbols(image)
    decoded = time.process_time()
    return {
        "payload_bytes_without_header": payload / len(flat),
        "cross_entropy_bytes": ideal / len(flat),
        "over_cross_entropy": payload / ideal,
        "symbols": int(flat[0].size),
        "lanes": codec.tables.lanes,
        "header_bytes": HEADER_BYTES,
        "encode_ms": (encoded - started) * 1e3 / len(coded),
        "decode_ms": (decoded - encoded) * 1e3 / len(coded),
    }


# --- the page


def write_page() -> None:
    """Write docs/closed-form.md from the rows."""
    parts = [PREFACE, ratio_table(), payload_table(), quantise_table(), entropy_table()]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n")


PREFACE = """# Splits without training

`python experiments/closed_form.py STUDY` writes this page from a study of VGG16 (ImageNet trunk, fine-tuned) on
tiny-imagenet-20 at 64×64 pixels. Statistics come from 1,000 images of the fit part; figures are measured on the whole
test part. A loss is the whole model's accuracy minus the split's accuracy on the same images, in points, with the
standard error of that paired difference. Payload bytes are lengths of real payloads, including a header of 20 bytes.
The network was trained more than once by the same recipe, on other CPUs. Each section uses one of these networks, and
sections with accuracies state that of the whole network."""


ON_THE_WIRE = """The next table restates these splits with the bytes that cross the wire (without TCP and IP headers),
with today's header of 2 bytes instead of 20. Splits and images are untrained: both networks are as they were. *Surely*
means that the one-sided 95 % bound of the paired difference stays within the loss, as verdicts of isplit decide. The
last columns are the split's bytes over the image's. Over gRPC an answer takes 278 bytes in either case, and on the
[lean wire](wire.md) 33."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, numbers to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(["---", *["---:"] * (len(heads) - 1)]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def points(value: float) -> str:
    """Write a share as percent."""
    return f"{100 * value:.1f}"


def ratio_table() -> str:
    """Return the table of importance weighting against plain PCA."""
    rows = {(row["cut"], row["design"]): row for row in known("ratio")}
    names = [cut for cut, design in rows if design == "linear" and (cut, "pca") in rows]
    lines = []
    for cut in names:
        weighted, plain = rows[cut, "linear"], rows[cut, "pca"]
        gain = weighted["accuracy"] - plain["accuracy"]
        error = (weighted["loss_stderr"] ** 2 + plain["loss_stderr"] ** 2) ** 0.5
        lines.append(
            [cut, points(plain["accuracy"]), points(weighted["accuracy"]), f"{100 * gain:+.1f} ± {100 * error:.1f}"]
        )
    heads = ["cut", "plain PCA", "importance-weighted", "gain"]
    if not lines:
        return ""
    whole = points(rows[names[0], "linear"]["whole"])
    how = f"Figures are top-1 in percent; the whole model has {whole}."
    return f"## One in 64 of the elements\n\n{how}\n\n{table(heads, lines)}"


def fewest_bytes(rows: Iterable[dict[str, Any]], *, share: float, loss: float) -> dict[str, Any] | None:
    """Return the split of the fewest bytes within a loss and a share of the MACs on the device, or None."""
    inside = (row for row in rows if row["head_mac_share"] <= share and row["loss"] <= loss)
    return min(inside, key=lambda row: row["payload_bytes"], default=None)


def loss_text(row: dict[str, Any]) -> str:
    """Return a row's loss with its standard error, in points."""
    return f"{100 * row['loss']:.1f} ± {100 * row['loss_stderr']:.1f}"


def payload_table() -> str:
    """For a limit on the device's share of the MACs, the fewest bytes within 1 and 3 points, and their curve."""
    rows = known("payload")
    splits, remote = [r for r in rows if "cut" in r], [r for r in rows if "format" in r]
    if not splits or not remote:
        return ""
    lines = []
    for share in SHARES:
        line = [f"{share:.0%}"]
        for loss in (0.01, 0.03):
            image = min((r for r in remote if r["loss"] <= loss), key=lambda r: r["payload_bytes"])
            best = fewest_bytes(splits, share=share, loss=loss)
            if best is None:
                line += ["none", "", f"{image['payload_bytes']:.0f}", ""]
            else:
                ratio = best["payload_bytes"] / image["payload_bytes"]
                line += [
                    f"{best['payload_bytes']:.0f} at {best['cut']} ({loss_text(best)})",
                    f"{best['head_mac_share']:.0%}",
                    f"{image['payload_bytes']:.0f} ({image['format']} q{image['quality']} ×{image['scale']:g})",
                    f"{ratio:.2f}",
                ]
        lines.append(line)
    heads = ["MACs on the device at most"]
    for loss in (1, 3):
        heads += [f"fewest bytes within {loss}", "its MACs", "best image", "ratio"]
    curves = []
    for cut in dict.fromkeys(r["cut"] for r in splits):
        points_of_cut = [r for r in splits if r["cut"] == cut]
        cells = [f"{r['payload_bytes']:.0f} B: {points(r['accuracy'])}" for r in points_of_cut]
        curves.append([cut, f"{points_of_cut[0]['head_mac_share']:.0%}", *cells])
    width = max(len(line) for line in curves)
    curves = [line + [""] * (width - len(line)) for line in curves]
    images = [
        [f"{r['format']} q{r['quality']} ×{r['scale']:g}", f"{r['payload_bytes']:.0f}", points(r["accuracy"])]
        for r in sorted(remote, key=lambda r: r["payload_bytes"])
    ]
    return "\n\n".join(
        [
            "## Fewest bytes within a loss, over the best compressed image within it",
            table(heads, lines),
            ON_THE_WIRE,
            table(
                ["loss, points", "MACs at most", *HEADS],
                wire_lines(splits, remote, SHARES, classes=CLASSES, losses=(0.01, 0.03)),
            ),
            "Every cut at every budget (bytes: top-1 in percent):",
            table(["cut", "MACs", *[""] * (width - 2)], curves),
            f"Compressed images (whole model: {points(splits[0]['whole'])} %):",
            table(["format", "bytes", "top-1"], images),
        ]
    )


def quantise_table() -> str:
    """Return the table of quantisers at equal bytes."""
    rows = known("quantise")
    lines = [
        [row["cut"], row["variant"], f"{row['payload_bytes']:.0f}", str(row["elements"]), points(row["accuracy"])]
        for row in rows
    ]
    heads = ["cut", "quantisation", "bytes", "elements", "top-1"]
    if not rows:
        return ""
    title = "## One step for all latents against other quantisers, at equal bytes"
    how = f"The whole model has {points(rows[0]['whole'])} %. Each position has its own latents."
    return f"{title}\n\n{how}\n\n{table(heads, lines)}"


def entropy_table() -> str:
    """Return the table of rans payloads over their tables' cross-entropy."""
    lines = [
        [
            row["cut"],
            str(row["budget"]),
            str(row["symbols"]),
            f"{row['cross_entropy_bytes']:.1f}",
            f"{row['payload_bytes_without_header']:.1f}",
            f"{row['over_cross_entropy']:.3f}",
            f"{row['encode_ms']:.2f}",
            f"{row['decode_ms']:.2f}",
        ]
        for row in known("entropy")
    ]
    heads = ["cut", "budget", "symbols", "cross-entropy, B", "rans, B", "ratio", "encode, ms", "decode, ms"]
    return f"## rans against its tables' cross-entropy, test part\n\n{table(heads, lines)}" if lines else ""


if __name__ == "__main__":
    main()
