"""What might rank the cuts: every score, at every cut of every pair, with what it costs.

    python experiments/reproduction/predictors.py --data FOLDER [--pairs a,b]

cui                    Grad-CAM's mean over positions, of the correct class, after activations: as published.
cui-predicted          The same of the predicted class.
cui-before-activation  The same just before the activation that a cut is after.
gradient-activation    |gradient × activation|, the mean over elements.
gradient-energy        gradient², the mean over elements.
closed form            What `isplit predict` says of every cut at one in 64 of the elements, on the whole select part.

The closed form is predicted anew, so that its seconds are known. Each of the others is one pass over 500 images of the
fit part, on its own, so that its seconds are its own. Means of the first 50, 100, 200, 300 and 500 images are kept in
results/predictors.jsonl (for the closed form, accuracies on so many of the select part): how many does an order need?
Size and depth are in the lines of run.py, and what sums instead of means would say follows from the shapes.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Literal

import torch
from pairs import PAIRS, Pair
from run import HERE, RATIO, kept, predictions, prepare

from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.methods import METHODS, GradientMethod
from isplit.design.inputs.batches import iter_batches
from isplit.design.measure.splits import evaluate_splits
from isplit.design.running import chosen_precision
from isplit.design.splits import BuiltSplit, read_split, split_directory
from isplit.design.study import Study
from isplit.records import Cut, PredictionsRecord

RESULTS = HERE / "results" / "predictors.jsonl"
COUNTS = (50, 100, 200, 300, 500)

Target = Literal["correct", "predicted"]
SCORES: dict[str, tuple[str, Target]] = {
    "cui": ("cui", "correct"),
    "cui-predicted": ("cui", "predicted"),
    "cui-before-activation": ("cui", "correct"),
    "gradient-activation": ("gradient-activation", "correct"),
    "gradient-energy": ("gradient-energy", "correct"),
}


def main() -> None:
    """Compute what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--pairs", default=",".join(pair.name for pair in PAIRS))
    options = parser.parse_args()
    for pair in PAIRS:
        if pair.name not in options.pairs.split(",") or not pair.weights.exists():
            continue
        study = prepare(pair, options.data)
        there = {row["predictor"] for row in kept(RESULTS, pair, study)}
        for name in ("closed form", *SCORES):
            if name in there:
                continue
            row = compute(pair, study, name)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(pair.name, name, f"{row['seconds']:.0f} s", flush=True)


def compute(pair: Pair, study: Study, name: str) -> dict[str, Any]:
    """Score every cut."""
    started = time.perf_counter()
    if name == "closed form":
        (study.directory / PredictionsRecord.file_name).unlink(missing_ok=True)
        predictions(study, RATIO, None)
        cuts = {cut.name: cut for cut in study.cuts()}
        seconds = time.perf_counter() - started
        means = accuracies(study, list(cuts.values()))
    else:
        method, target = SCORES[name]
        cuts = before_activations(study) if name == "cui-before-activation" else {cut.name: cut for cut in study.cuts()}
        scores = score(study, list(cuts.values()), METHODS[method], target)
        counts = [count for count in COUNTS if count <= len(scores)]
        means = {count: dict(zip(cuts, scores[:count].mean(0).tolist(), strict=True)) for count in counts}
        seconds = time.perf_counter() - started
    return {
        "pair": pair.name,
        "predictor": name,
        "weights_sha256": study.record.model.weights_sha256,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "elements": {name: cut.bytes // 4 for name, cut in cuts.items()},
        "means": means,
    }


def accuracies(study: Study, cuts: list[Cut]) -> dict[int, dict[str, float]]:
    """Return the accuracy of every cut's closed form on the first images of the select part, and on all of them."""
    view = study.view()
    images = view.images("select")
    splits: list[BuiltSplit] = []
    for cut in cuts:
        directory = split_directory(
            study.directory, cut=cut.name, group=view.name, design="linear", budget=RATIO, trained=False
        )
        splits.append(read_split(directory).at(cut))
    evaluations = evaluate_splits(view, splits, images=images, precision=chosen_precision("auto"))
    right = [evaluation.answers == evaluation.labels for evaluation in evaluations]
    counts = [count for count in COUNTS if count < len(images)] + [len(images)]
    return {
        count: {cut.name: float(answers[:count].mean()) for cut, answers in zip(cuts, right, strict=True)}
        for count in counts
    }


def score(study: Study, cuts: list[Cut], method: GradientMethod, target: Target) -> torch.Tensor:
    """Return one value per image and cut."""
    view = study.view()
    images = view.images("fit", limit=COUNTS[-1])
    labels = torch.from_numpy(view.classes.label_map)
    gradients = GradientPass(study.graph, cuts)
    rows: list[torch.Tensor] = []
    for batch in iter_batches(study.data, images, study.model.preprocessing, batch_size=16):
        targets = labels[batch.labels]
        _, values = gradients(
            batch.images, lambda logits, targets=targets: view.classes.decision(logits, targets, target), method.reduce
        )
        rows.append(torch.stack(values, dim=1).double())
    return torch.cat(rows)


def before_activations(study: Study) -> dict[str, Cut]:
    """Return for every cut the place before its activation, where it is after one; else the cut itself."""
    record = study.graph.record(pre_activation=True, all_cuts=False)
    by_depth = {cut.depth: cut for cut in record.cuts}
    places: dict[str, Cut] = {}
    for cut in study.cuts():
        earlier = by_depth.get(cut.depth - 1)
        same = earlier is not None and earlier.kind == "pre-activation" and earlier.shape == cut.shape
        places[cut.name] = earlier if same and earlier is not None else cut
    return places


if __name__ == "__main__":
    main()
