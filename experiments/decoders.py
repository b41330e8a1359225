"""Measure closed forms with the decoder of their moments, and with the one that is estimated again from other images.

    python experiments/decoders.py STUDY NAME CUT... [--budgets 96,256]

STUDY is what `isplit analyze` wrote, and NAME what its rows are called. Both splits of a cut and budget are measured
on the whole test part. Rows are kept in experiments/results/decoders.jsonl; a row that is there is not measured again.
`--table` prints all rows instead.
"""

import json
from pathlib import Path

from pausing import pause_point
from result_rows import Row, cut_parser, read_options, read_rows

from isplit.design.closed_form.bases import closed_form_bases
from isplit.design.closed_form.build import build_split, closed_forms
from isplit.design.measure.splits import SplitEvaluation, evaluate_splits
from isplit.design.settings import PredictSettings
from isplit.design.study import Study, open_study
from isplit.records import Budget, Paired

RESULTS = Path(__file__).parent / "results" / "decoders.jsonl"


def main() -> None:
    """Measure what is missing, or print the rows."""
    parser = cut_parser(__doc__, budgets="96,256")
    options = read_options(parser)
    if not options.table:
        for cut in options.cuts:
            pause_point()
            run(open_study(options.study, allow_code=options.allow_code), options.name, cut, options.budgets)
    print_table()


def run(study: Study, name: str, cut: str, budgets: list[Budget]) -> None:
    """Measure a cut at the budgets that have no rows yet."""
    done = {(row["name"], row["cut"], row["budget"]) for row in read_rows(RESULTS)}
    missing = [budget for budget in budgets if (name, cut, budget.payload_bytes) not in done]
    if not missing:
        return
    view, cuts, settings = study.view(), study.cuts((cut,)), PredictSettings()
    (bases,) = closed_form_bases(view, missing, cuts, settings)
    closed = closed_forms(view, missing, cuts, settings)
    before = [
        build_split(view, basis, form.budget)
        for form in closed
        for basis in bases[form.budget]
        if basis.solutions[-1].layout.patch == form.spec.patch
    ]
    images = view.images("test")
    evaluations = evaluate_splits(view, [*before, *(form.split for form in closed)], images=images)
    with RESULTS.open("a") as file:
        for form, first, second in zip(closed, evaluations, evaluations[len(missing) :], strict=False):
            row = {
                "name": name,
                "cut": cut,
                "budget": form.budget.payload_bytes,
                "patch": form.spec.patch,
                "joint": form.spec.joint > 0,
                "samples_per_dimension": form.samples_per_dimension,
                **compared(first, second),
            }
            file.write(json.dumps(row) + "\n")


def compared(before: SplitEvaluation, after: SplitEvaluation) -> Row:
    """Return accuracy and divergence with both decoders, and the paired difference of accuracies."""
    was_right, is_right = before.answers == before.labels, after.answers == after.labels
    paired = Paired.from_answers(was_right, is_right)
    return {
        "images": len(is_right),
        "whole": float((after.whole == after.labels).mean()),
        "of_moments": float(was_right.mean()),
        "estimated": float(is_right.mean()),
        "difference": paired.difference,
        "stderr": paired.stderr,
        "divergence_of_moments": before.divergence_nats,
        "divergence_estimated": after.divergence_nats,
        "payload_bytes": float(after.payload_bytes.mean()),
    }


def print_table() -> None:
    """Print all rows."""
    for row in read_rows(RESULTS):
        print(
            f"{row['name']:18} {row['cut']:14} {row['budget']:4} B  {row['patch']}x{row['patch']}"
            f"{', joint' if row['joint'] else '':8} {row['samples_per_dimension']:5.2f} samples per dimension  "
            f"{row['of_moments']:.1%} -> {row['estimated']:.1%} of {row['whole']:.1%} "
            f"({100 * row['difference']:+.1f} ± {100 * row['stderr']:.1f}), KL {row['divergence_of_moments']:.3f} -> "
            f"{row['divergence_estimated']:.3f}, {row['payload_bytes']:.0f} B"
        )


if __name__ == "__main__":
    main()
