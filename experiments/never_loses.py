"""Compare trained splits with their closed forms, at small budgets, on networks and data of several kinds.

    python experiments/never_loses.py STUDY NAME [--cuts 4] [--images N]

STUDY is what `isplit analyze` wrote, and NAME what its rows are called. At cuts that are spread over the network's
operations and at four budgets, the closed form is predicted and then trained for two epochs of N images. Both are
measured on the whole test part, on the same images. Rows are kept in experiments/results/never-loses.jsonl; a row that
is there is not measured again. `--table` prints a summary of all rows instead.
"""

import argparse
import json
from pathlib import Path

from pausing import pause_point
from result_rows import Row, read_options, read_rows

from isplit.design.fit import fit
from isplit.design.predict import predict
from isplit.design.settings import FitSettings, PredictSettings
from isplit.design.study import Study, open_study
from isplit.records import Budget, Measurement, SplitRecord

RESULTS = Path(__file__).parent / "results" / "never-loses.jsonl"
BUDGETS = (48, 96, 192, 384)
LARGEST_EXCESS = 0.02
"""The share of the budget by which `fit` lets the mean payload of the select part differ from it."""


def main() -> None:
    """Run what is missing, or print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000, help="images of the fit part in an epoch")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--table", action="store_true")
    options = read_options(parser)
    if not options.table:
        budgets = [int(text) for text in options.budgets.split(",")]
        run(open_study(options.study), options.name, cuts=options.cuts, budgets=budgets, images=options.images)
    print_table()


def run(study: Study, name: str, *, cuts: int, budgets: list[int], images: int) -> None:
    """Fit every cut at every budget that has no row yet."""
    names = spread_cuts(study, cuts)
    done = {(row["name"], row["cut"], row["budget"]) for row in read_rows(RESULTS)}
    wanted = [(cut, count) for cut in names for count in budgets if (name, cut, count) not in done]
    if not wanted:
        return
    settings = PredictSettings(images=None, remote_images=0)
    predict(study, [Budget(payload_bytes=count) for count in budgets], cuts=names, settings=settings)
    for cut, count in wanted:
        pause_point()
        record = fit(study, cut, Budget(payload_bytes=count), settings=FitSettings(epochs=2, images=images))
        row = {"name": name, "weights_sha256": study.record.model.weights_sha256, **row_of(record)}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def spread_cuts(study: Study, count: int) -> list[str]:
    """Return cuts whose shares of the network's operations are spread evenly."""
    macs = study.graph_record.macs
    shares = [(number + 0.5) / count for number in range(count)]
    chosen = (min(study.cuts(), key=lambda cut: abs(cut.head_macs / macs - share)).name for share in shares)
    return list(dict.fromkeys(chosen))


def row_of(record: SplitRecord) -> Row:
    """Return what is kept of a split: both splits on the test part and on the select part."""
    training, measured = record.training, record.measurement
    assert training is not None
    assert training.before is not None
    assert training.select is not None
    assert training.closed_form_select is not None
    return {
        "cut": record.cut,
        "budget": record.budget.payload_bytes,
        "head_mac_share": measured.head_mac_share,
        "kept": training.kept,
        "budget_note": training.budget_note,
        "best_epoch": training.best_epoch,
        "training_images": training.images,
        "test": figures(measured),
        "test_closed_form": figures(training.before),
        "select": figures(training.select),
        "select_closed_form": figures(training.closed_form_select),
        "seconds": training.seconds,
    }


def figures(measured: Measurement) -> Row:
    """Return accuracy, its difference to the whole network's, and bytes."""
    return {
        "images": measured.accuracy.images,
        "accuracy": measured.accuracy.accuracy,
        "against_whole": measured.against_whole.difference,
        "against_whole_stderr": measured.against_whole.stderr,
        "payload_bytes": measured.payload_bytes.mean,
    }


def print_table() -> None:
    """Print each split before and after training, how many lost more than a standard error, and how many miss 2 %."""
    lost = missed = 0
    rows = read_rows(RESULTS)
    for row in rows:
        before, after = row["test_closed_form"], row["test"]
        # The two are paired, and share most answers: the unpaired error of the split alone is an upper bound.
        error = (after["accuracy"] * (1 - after["accuracy"]) / after["images"]) ** 0.5
        lost += after["accuracy"] < before["accuracy"] - error
        excess = row["select"]["payload_bytes"] / row["budget"] - 1
        missed += abs(excess) > LARGEST_EXCESS
        print(
            f"{row['name']:24} {row['cut']:14} {row['budget']:4} B  {before['accuracy']:.1%} with "
            f"{before['payload_bytes']:.0f} B -> {after['accuracy']:.1%} with {after['payload_bytes']:.0f} B, "
            f"{row['kept']}, {excess:+.1%} of the budget on select"
        )
    print(f"{lost} of {len(rows)} trained splits are below their closed form by more than a standard error")
    print(f"{missed} of {len(rows)} miss their budget by more than {LARGEST_EXCESS:.0%} on the select part")


if __name__ == "__main__":
    main()
