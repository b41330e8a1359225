"""Ground truth: train splits of every pair of network and data, and keep one line for each.

    python experiments/reproduction/run.py --data FOLDER [--pairs a,b] [--jobs ratio,subsets,...] [--hours N]

Per pair, and in this order over all pairs:

ratio        Every cut at one in 64 of the elements, from the closed form.
bytes        Every cut at the pair's own budget of bytes, so few that the cuts differ.
subsets      Each class subset at its own best cut and at the others' (by the closed form, and by importance).
autoencoder  The paper's bottleneck at every cut of two pairs: from random values, first the features, then the task.
seeds        Both budgets once more with another seed, for two pairs.

A split is trained until the accuracy on the select part stops improving, at most three epochs of 3,000 images. Truth is
the test part. Each adds a line to results/trained.jsonl, with everything needed to repeat it; what is there is not
trained again, and an interrupted one goes on after its last epoch. Studies are kept in .cache/reproduction.

Weights are not committed, and other CPUs do not train the same bits. Lines of another training of a network stay: each
comparison is among the lines of one, and --jobs chooses what to add of a new one.

Runs at the lowest priority; two may run at once, a thread each, for different pairs. It stands still while `make
test` or `make bench` of this checkout runs, so that figures are not spoilt; its own seconds then have a pause in them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs import PAIRS, Pair
from truth import first_by_closed_form, first_by_cui

from isplit import api
from isplit.design.fit import fit
from isplit.design.predict import predict
from isplit.design.settings import FitSettings
from isplit.design.study import Study, open_study
from isplit.records import Budget, Prediction, SplitRecord

sys.path.append(str(Path(__file__).parents[1]))
from pausing import pause_point

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "trained.jsonl"
CURVES = HERE / "results" / "curves.jsonl"
CACHE = HERE.parent.parent / ".cache" / "reproduction"
RATIO = Budget(element_ratio=64)
IMAGES = 3000
# Batches of 128 take little longer than those of 64 where maps are small and weights are many; rates are the defaults
# times the root of two.
RECIPE: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 3, "batch_size": 128, "model_rate": 2.8e-5, "bottleneck_rate": 1.4e-2},
    "undercomplete": {"epochs": 4, "batch_size": 128, "model_rate": 2.8e-5, "bottleneck_rate": 1.4e-3},
}
PREDICTION = api.PredictSettings(images=None, remote_images=0)
JOBS = ("ratio", "bytes", "subsets", "autoencoder", "seeds")
# The pairs that the last two are for: the cheapest.
TWO = ("vgg16-notmnist", "resnet50-notmnist")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A split to train."""

    cut: str
    budget: Budget = RATIO
    group: str | None = None
    design: str = "linear"
    seed: int = 0

    def key(self, study: Study) -> tuple[Any, ...]:
        """What a line is recognised by, the pair aside."""
        return self.cut, self.budget.tag, study.view(self.group).name, self.design, self.seed


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--pairs", default=",".join(pair.name for pair in PAIRS))
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--hours", type=float, default=1e6, help="begin no other split after so long")
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    RESULTS.parent.mkdir(exist_ok=True)
    os.nice(19)
    ends = time.monotonic() + options.hours * 3600
    for job in options.jobs.split(","):
        for pair in PAIRS:
            if pair.name in options.pairs.split(",") and pair.weights.exists():
                run(job, pair, options.data, ends)


def run(job: str, pair: Pair, data: Path, ends: float) -> None:
    """Train what one job wants of one pair."""
    if pair.name not in TWO and job in ("autoencoder", "seeds"):
        return
    study = prepare(pair, data)
    there = done(pair, study)
    predicted: dict[tuple[str, str | None], dict[str, Prediction]] = {}
    for wanted in splits(job, pair, study):
        if time.monotonic() > ends:
            return
        if wanted.key(study) in there:
            continue
        before = predicted.get((wanted.budget.tag, wanted.group))
        if before is None:
            before = predicted[wanted.budget.tag, wanted.group] = predictions(study, wanted.budget, wanted.group)
        settings = FitSettings(**RECIPE[wanted.design], patience=1, images=IMAGES, seed=wanted.seed, features="keep")
        started = time.perf_counter()
        record = fit(
            study,
            wanted.cut,
            wanted.budget,
            group=wanted.group,
            design=wanted.design,
            settings=settings,
            progress=say,
        )
        row = line(pair, study, record, before[wanted.cut]) | {"fit_seconds": time.perf_counter() - started}
        there.add(wanted.key(study))
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = ("pair", "group", "cut", "budget", "design", "closed_form_test", "trained_test", "seconds")
        print({name: row[name] for name in shown}, flush=True)


def splits(job: str, pair: Pair, study: Study) -> Iterator[Wanted]:
    """Name a job's splits, the deepest first: those take the least."""
    names = [cut.name for cut in reversed(study.cuts())]
    few = Budget(payload_bytes=pair.few_bytes)
    if job == "subsets":
        yield from subset_splits(pair, study)
    elif job == "ratio":
        yield from (Wanted(cut=name) for name in names)
    elif job == "autoencoder":
        yield from (Wanted(cut=name, design="undercomplete") for name in names)
    elif job == "bytes":
        yield from (Wanted(cut=name, budget=few) for name in names)
    elif job == "seeds":
        yield from (Wanted(cut=name, budget=budget, seed=1) for budget in (few, RATIO) for name in names)


def subset_splits(pair: Pair, study: Study) -> Iterator[Wanted]:
    """Every set of classes at its own best cut and at those of all the others, by importance and by the closed form."""
    rows = {row["group"]: row for row in kept(CURVES, pair, study)}
    for group in study.record.groups:
        if group.name not in rows:
            rows[group.name] = group_curves(pair, study, group.name)
            with CURVES.open("a") as file:
                file.write(json.dumps(rows[group.name]) + "\n")
    best = {choose(row) for row in rows.values() for choose in (first_by_cui, first_by_closed_form)}
    for cut in reversed([cut.name for cut in study.cuts() if cut.name in best]):
        for group in study.record.groups[1:]:
            yield Wanted(cut=cut, group=group.name)


def group_curves(pair: Pair, study: Study, group: str) -> dict[str, Any]:
    """Return what is known of every cut before any is trained, for one set of classes."""
    rows = predictions(study, RATIO, group)
    return {
        "pair": pair.name,
        "group": group,
        "weights_sha256": study.record.model.weights_sha256,
        "cui": {cut: row.cui for cut, row in rows.items()},
        "closed_form_select": {cut: row.measurement.accuracy.accuracy for cut, row in rows.items()},
        "closed_form_divergence": {cut: row.measurement.divergence_nats for cut, row in rows.items()},
    }


def prepare(pair: Pair, data: Path, directory: Path | None = None) -> Study:
    """Return the pair's study, analysed if it was not; it is kept in the cache, or in a directory of the caller's."""
    directory = directory or CACHE / pair.name
    if not (directory / "candidates.json").exists():
        spec = pair.data_spec(data)
        dataset = api.open_data(spec)
        model = api.load_model(
            pair.model, weights=str(pair.weights), num_classes=len(dataset.classes), image_size=pair.image_size
        )
        settings = api.AnalyzeSettings(test_images=None)
        api.analyze(model, dataset, out=directory, classes=pair.subsets, settings=settings, overwrite=True)
    return open_study(directory)


def predictions(study: Study, budget: Budget, group: str | None) -> dict[str, Prediction]:
    """Return what `predict` says of every cut; what it said before it does not compute again."""
    name = study.view(group).name
    rows = predict(study, [budget], group=group, settings=PREDICTION, progress=say).predictions
    return {row.cut: row for row in rows if (row.budget, row.group, row.design) == (budget, name, "linear")}


def done(pair: Pair, study: Study) -> set[tuple[Any, ...]]:
    """Return what has a line, as `Wanted.key`."""
    names = ("cut", "budget", "group", "design", "seed")
    return {tuple(row[name] for name in names) for row in kept(RESULTS, pair, study)}


def kept(path: Path, pair: Pair, study: Study) -> list[dict[str, Any]]:
    """Return a pair's lines that are of these weights: a truth is of one network, and trained again it is another."""
    lines = path.read_text().splitlines() if path.exists() else []
    source = pair.name, study.record.model.weights_sha256
    return [row for row in map(json.loads, lines) if (row["pair"], row["weights_sha256"]) == source]


def line(pair: Pair, study: Study, record: SplitRecord, before: Prediction) -> dict[str, Any]:
    """Return what is kept of a trained split."""
    training = record.training
    assert training is not None
    assert training.select is not None
    cut = study.graph_record.cut(record.cut)
    untrained = None if training.before is None else training.before.accuracy.accuracy
    return {
        "pair": pair.name,
        "group": record.group,
        "cut": record.cut,
        "depth": cut.depth,
        "budget": record.budget.tag,
        "design": record.bottleneck.design,
        "start": training.start,
        "seed": record.seed,
        "cui": before.cui,
        "bytes": cut.bytes,
        "head_mac_share": record.measurement.head_mac_share,
        "elements": record.measurement.elements,
        "payload_bytes": record.measurement.payload_bytes.mean,
        "whole_test": record.measurement.whole.accuracy,
        "test_images": record.measurement.accuracy.images,
        "whole_select": before.measurement.whole.accuracy,
        "select_images": before.measurement.accuracy.images,
        "closed_form_select": before.measurement.accuracy.accuracy,
        "closed_form_divergence": before.measurement.divergence_nats,
        "closed_form_test": untrained,
        "trained_select": training.select.accuracy.accuracy,
        "trained_test": record.measurement.accuracy.accuracy,
        "loss_stderr": record.measurement.against_whole.stderr,
        "epochs": training.epochs,
        "best_epoch": training.best_epoch,
        "images": training.images,
        "seconds": training.seconds,
        "threads": training.threads,
        "settings": training.settings,
        "bottleneck": record.bottleneck.model_dump(mode="json"),
        "weights_sha256": study.record.model.weights_sha256,
        "data_sha256": study.record.data.sha256,
        "versions": record.versions,
        "isplit_version": record.isplit_version,
    }


def say(what: str, part: int, total: int) -> None:
    """Print each step that has come to its end, and stand still while tests or benchmarks run."""
    pause_point()
    if part == total:
        print(f"  {time.strftime('%H:%M:%S')} {what}: {total}", flush=True)


if __name__ == "__main__":
    main()
