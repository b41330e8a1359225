"""Measure splits with patches of every size, beside what the closed form expects of each size.

    python experiments/patch_sizes.py STUDY NAME CUT... [--budgets 64,128,256] [--sides 8,4,2] [--part test]

STUDY is what `isplit analyze` wrote, and NAME what its rows are called. Every cut is solved once for each side of the
patches, and its split is measured on all images of the part, and on the few images that `predict` compares patches on
(that divergence is in brackets). Rows are kept in experiments/results/patch-sizes.jsonl; a row that is there is not
measured again. `--table` prints all rows instead.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pausing import pause_point
from result_rows import Row, cut_parser, packed, read_options, read_rows

from isplit.design.closed_form.bases import closed_form_bases
from isplit.design.closed_form.basis import Basis, JointBasis
from isplit.design.closed_form.build import build_split
from isplit.design.closed_form.passes import StatisticsImages
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import Study, open_study
from isplit.records import Budget, PartName

RESULTS = Path(__file__).parent / "results" / "patch-sizes.jsonl"


def main() -> None:
    """Measure what is missing, or print the rows."""
    parser = cut_parser(__doc__, budgets="64,128,256")
    parser.add_argument("--sides", default="8,4,2")
    parser.add_argument("--part", default="test")
    options = read_options(parser)
    if not options.table:
        sides = [int(text) for text in options.sides.split(",")]
        for cut in options.cuts:
            pause_point()
            study = open_study(options.study, allow_code=options.allow_code)
            run(study, options.name, cut, budgets=options.budgets, sides=sides, part=options.part)
    print_table()


def run(study: Study, name: str, cut: str, *, budgets: Sequence[Budget], sides: Sequence[int], part: PartName) -> None:
    """Measure a cut at every budget with every side of the patches."""
    done = {(row["name"], row["cut"], row["budget"], row["side"]) for row in read_rows(RESULTS)}
    splits: list[BuiltSplit] = []
    rows: list[Row] = []
    for side in sides:
        missing = [budget for budget in budgets if (name, cut, budget.payload_bytes, side) not in done]
        if not missing:
            continue
        settings = PredictSettings(tuning=replace(ClosedFormTuning(), patch_worth=((side, float("inf")),)))
        (bases,) = closed_form_bases(study.view(), missing, study.cuts((cut,)), settings)
        for budget in missing:
            # Single positions are tried beside any patch that gives channels up.
            basis = max(bases[budget], key=lambda candidate: candidate.solutions[-1].layout.patch)
            splits.append(build_split(study.view(), basis, budget))
            place = {"name": name, "cut": cut, "budget": budget.payload_bytes, "side": side}
            rows.append({**place, **described(basis), "expected_loss": basis.expected_loss(budget)})
    if not splits:
        return
    view, settings = study.view(), PredictSettings()
    evaluations = evaluate_splits(view, splits, images=view.images(part))
    compared = StatisticsImages.of(view, settings).held_out[: settings.tuning.compared_images]
    judged = evaluate_splits(view, splits, images=compared)
    with RESULTS.open("a") as file:
        for row, evaluation, of_few in zip(rows, evaluations, judged, strict=True):
            measured = measure(view, evaluation, part=part)
            right = evaluation.answers == evaluation.labels
            row |= {
                "part": part,
                "images": len(right),
                "whole": measured.whole.accuracy,
                "accuracy": measured.accuracy.accuracy,
                "divergence_nats": measured.divergence_nats,
                "compared_images": len(compared),
                "compared_nats": of_few.divergence_nats,
                "payload_bytes": measured.payload_bytes.mean,
                "right": packed(right),
            }
            file.write(json.dumps(row) + "\n")
    print_table()


def described(basis: Basis) -> Row:
    """Return which patches, channels and latents a basis has."""
    reducer = basis.solutions[-1].reducer
    layout = basis.solutions[-1].layout
    channels = layout.channels if reducer is None else reducer.encoder.shape[1]
    return {"patch": layout.patch, "channels": channels, "joint": isinstance(basis, JointBasis)}


def print_table() -> None:
    """Print all rows, the sides of one cut and budget beside each other."""
    rows = sorted(read_rows(RESULTS), key=lambda row: (row["name"], row["cut"], row["budget"], -row["side"]))
    for row in rows:
        joint = ", joint" if row["joint"] else ""
        patch = f"{row['patch']}x{row['patch']}, {row['channels']} channels{joint}"
        compared = f"{row['compared_nats']:.3f}" if "compared_nats" in row else "-"
        answers = f"KL {row['divergence_nats']:.3f} ({compared})  {row['accuracy']:.1%} of {row['whole']:.1%}"
        print(
            f"{row['name']:18} {row['cut']:20} {row['budget']:4} B  {patch:24} "
            f"expected loss {row['expected_loss']:9.4g}  {answers}  {row['payload_bytes']:.0f} B"
        )


if __name__ == "__main__":
    main()
