"""Ground truth with small errors: MobileNetV2 on tiny-imagenet-100, whose test part has 5,000 images.

    python experiments/reproduction/many_images.py --data FOLDER [--hours N]

A thousand test images cannot tell the cuts of a network apart at one in 64 of the elements. Here each block of the
network has a cut, and three cuts lie inside blocks. Every cut is trained at three budgets in bytes and at one in 64 of
the elements, and at 128 bytes a second time from another seed. Each set of splits that is whole gets one pass over the
test part, which keeps for every image whether each split was right: halves of the test part and bootstrap intervals
follow from it.

Each split adds a line to results/many-images.jsonl, and each whole set one to results/many-images-answers.jsonl. What
is there is not trained again. The network is trained by networks.py; a network that was trained on another machine has
other weights, and its lines are kept apart.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from pairs import MANY_IMAGES, Pair
from run import HERE, PREDICTION, RATIO, RECIPE, kept, line, prepare, say
from truth import packed

from isplit.design.fit import fit
from isplit.design.measure.splits import SplitEvaluation, evaluate_splits
from isplit.design.predict import predict
from isplit.design.running import chosen_precision
from isplit.design.settings import FitSettings
from isplit.design.splits import BuiltSplit, load_split, split_directory
from isplit.design.study import Study
from isplit.records import Budget, Prediction

RESULTS = HERE / "results" / "many-images.jsonl"
_SAME_SPLIT = 1e-3
"""Accuracies of one split from two runs differ less."""

ANSWERS = HERE / "results" / "many-images-answers.jsonl"
IMAGES = 3000
INSIDE_BLOCKS = ("features.2.conv.1.2", "features.7.conv.1.2", "features.14.conv.1.2")
SETS: tuple[tuple[Budget, int], ...] = (
    (Budget(payload_bytes=128), 0),
    (Budget(payload_bytes=128), 1),
    (Budget(payload_bytes=64), 0),
    (Budget(payload_bytes=256), 0),
    (RATIO, 0),
)
"""Budgets and seeds, in the order in which they are trained."""


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--hours", type=float, default=1e6, help="begin no other split after so long")
    options = parser.parse_args()
    os.nice(19)
    ends = time.monotonic() + options.hours * 3600
    pair = MANY_IMAGES
    study = prepare(pair, options.data)
    for budget, seed in SETS:
        if not train_set(pair, study, budget, seed, ends):
            return
        keep_answers(pair, study, budget, seed)


def chosen_cuts(study: Study) -> list[str]:
    """Return the end of every block, of the stem and of the last convolution, and three cuts inside blocks."""
    ends: dict[str, str] = {}
    for cut in study.cuts():
        if cut.name.startswith("features."):
            ends[cut.name.split(".")[1]] = cut.name
    chosen = {*ends.values(), *INSIDE_BLOCKS}
    return [cut.name for cut in study.cuts() if cut.name in chosen]


def train_set(pair: Pair, study: Study, budget: Budget, seed: int, ends: float) -> bool:
    """Train every cut at one budget from one seed; False if time ran out first."""
    names = chosen_cuts(study)
    there = {(row["cut"], row["budget"], row["seed"]) for row in kept(RESULTS, pair, study)}
    missing = [name for name in reversed(names) if (name, budget.tag, seed) not in there]
    if not missing:
        return True
    before = predictions(study, budget, names)
    for name in missing:
        if time.monotonic() > ends:
            return False
        settings = FitSettings(**RECIPE["linear"], patience=1, images=IMAGES, seed=seed, features="auto")
        started = time.perf_counter()
        record = fit(study, name, budget, settings=settings, progress=say)
        prediction = before[name]
        row = line(pair, study, record, prediction) | {
            "fit_seconds": time.perf_counter() - started,
            "predicted_accuracy": prediction.predicted_accuracy,
            "predicted_low": prediction.predicted_low,
            "predicted_high": prediction.predicted_high,
        }
        append(RESULTS, row)
        shown = ("cut", "budget", "seed", "closed_form_select", "trained_select", "trained_test", "fit_seconds")
        print({name: row[name] for name in shown}, flush=True)
    return True


def predictions(study: Study, budget: Budget, names: list[str]) -> dict[str, Prediction]:
    """Return what `predict` says of the cuts; what it said before it does not compute again."""
    rows = predict(study, [budget], cuts=names, settings=PREDICTION, progress=say).predictions
    return {row.cut: row for row in rows if (row.budget, row.design) == (budget, "linear")}


def keep_answers(pair: Pair, study: Study, budget: Budget, seed: int) -> None:
    """Run the trained splits of a whole set on the test part, and keep which images each has right.

    Splits whose answers are there are not run again. A split is taken with the tail that was trained.
    """
    key = budget.tag, seed
    before = next((row for row in kept(ANSWERS, pair, study) if (row["budget"], row["seed"]) == key), None)
    right: dict[str, str] = {} if before is None else before["right"]
    view = study.view()
    splits: list[BuiltSplit] = []
    for name in (name for name in chosen_cuts(study) if name not in right):
        directory = split_directory(
            study.directory, cut=name, group=view.name, design="linear", budget=budget, trained=True
        )
        splits.append(load_split(study, directory))
    if not splits:
        return
    evaluations: list[SplitEvaluation] = evaluate_splits(
        view, splits, images=view.images("test"), precision=chosen_precision("auto"), progress=say
    )
    for evaluation in evaluations:
        check_against_line(evaluation, pair, study, budget, seed)
    answers = right | {
        evaluation.split.cut.name: packed(evaluation.answers == evaluation.labels) for evaluation in evaluations
    }
    row = {
        "pair": pair.name,
        "weights_sha256": study.record.model.weights_sha256,
        "budget": budget.tag,
        "seed": seed,
        "images": len(evaluations[0].labels),
        "whole": packed(evaluations[0].whole == evaluations[0].labels),
        "right": {name: answers[name] for name in chosen_cuts(study)},
    }
    if before is not None:
        lines = ANSWERS.read_text().splitlines()
        ANSWERS.write_text("".join(f"{text}\n" for text in lines if json.loads(text) != before))
    append(ANSWERS, row)


def check_against_line(evaluation: SplitEvaluation, pair: Pair, study: Study, budget: Budget, seed: int) -> None:
    """Refuse answers of another split than the one of the line: later seeds write over the files of earlier ones."""
    key = evaluation.split.cut.name, budget.tag, seed
    (row,) = (row for row in kept(RESULTS, pair, study) if (row["cut"], row["budget"], row["seed"]) == key)
    accuracy = float((evaluation.answers == evaluation.labels).mean())
    if abs(accuracy - row["trained_test"]) > _SAME_SPLIT:
        msg = f"{key} is right on {accuracy:.1%} of the images, its line says {row['trained_test']:.1%}: remove it"
        raise SystemExit(msg)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line to a file of results."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
