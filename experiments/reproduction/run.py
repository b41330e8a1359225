"""Ground truth: train a split at every cut of every pair, and keep one line for each.

    python experiments/reproduction/run.py --data FOLDER [--pairs a,b] [--hours N]

Per pair: analyze, predict every cut at one in 64 of the elements, then fit cut after cut, the deepest first, until the
accuracy on the select part stops improving (at most three epochs). Truth is the test part. Each trained split adds a
line to results/trained.jsonl, with everything needed to repeat it; splits that are there are not trained again, and an
interrupted one goes on after its last epoch. Studies are kept in .cache/reproduction.

One run at a time, at the lowest priority. While .cache/reproduction/pid is there, `make test` and `make bench` stop the
process that it names, and let it go on afterwards, so that figures are not spoilt.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from pairs import PAIRS, Pair

from isplit import api
from isplit.design.predict import predict
from isplit.design.study import OpenStudy, open_study
from isplit.design.training import FitSettings, fit
from isplit.records import Budget, Prediction, PredictionsRecord, SplitRecord

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "trained.jsonl"
CACHE = HERE.parent.parent / ".cache" / "reproduction"
RATIO = Budget(element_ratio=64)
SETTINGS = FitSettings(epochs=3, patience=1)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--pairs", default=",".join(pair.name for pair in PAIRS))
    parser.add_argument("--hours", type=float, default=1e6, help="begin no other split after so long")
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    RESULTS.parent.mkdir(exist_ok=True)
    os.nice(19)
    pid = CACHE / "pid"
    pid.write_text(str(os.getpid()))
    ends = time.monotonic() + options.hours * 3600
    try:
        for pair in PAIRS:
            if pair.name in options.pairs.split(",") and pair.weights.exists():
                run_pair(pair, options.data, ends)
    finally:
        pid.unlink()


def run_pair(pair: Pair, data: Path, ends: float) -> None:
    """Analyse, predict and train one pair."""
    study = prepare(pair, data)
    rows = predictions(study)
    for cut in reversed(study.cuts()):
        if time.monotonic() > ends:
            return
        if (pair.name, cut.name) in done():
            continue
        record = fit(study, cut.name, RATIO, settings=SETTINGS, progress=say)
        row = line(pair, study, record, rows[cut.name])
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({name: row[name] for name in ("pair", "cut", "closed_form_test", "trained_test", "seconds")}, flush=True)


def prepare(pair: Pair, data: Path) -> OpenStudy:
    """Return the pair's study, analysed if it was not."""
    directory = CACHE / pair.name
    if not (directory / "candidates.json").exists():
        spec = pair.data_spec(data)
        dataset = api.open_data(spec)
        model = api.load_model(
            pair.model, weights=str(pair.weights), num_classes=len(dataset.classes), image_size=pair.image_size
        )
        settings = api.Settings(test_images=None)
        api.analyze(model, dataset, out=directory, classes=pair.subsets, settings=settings, overwrite=True)
    return open_study(directory)


def predictions(study: OpenStudy) -> dict[str, Prediction]:
    """Return what `predict` says of every cut, run where it is missing."""
    try:
        record = PredictionsRecord.load(study.directory)
    except ValueError:
        record = predict(study, [RATIO])
    return {row.cut: row for row in record.predictions if row.budget == RATIO and row.design == "linear"}


def done() -> set[tuple[str, str]]:
    """Return the pairs and cuts that have a line."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {(row["pair"], row["cut"]) for row in map(json.loads, lines)}


def line(pair: Pair, study: OpenStudy, record: SplitRecord, before: Prediction) -> dict[str, Any]:
    """Return what is kept of a trained split."""
    training = record.training
    assert training is not None
    assert training.before is not None
    assert training.select is not None
    cut = study.graph_record.cut(record.cut)
    return {
        "pair": pair.name,
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
        "closed_form_select": before.measurement.accuracy.accuracy,
        "closed_form_test": training.before.accuracy.accuracy,
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
    """Print what has come to its end."""
    if part == total:
        print(f"  {time.strftime('%H:%M:%S')} {what}: {total}", flush=True)


if __name__ == "__main__":
    main()
