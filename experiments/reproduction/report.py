"""docs/experiments.md, its figures, and the calibration that comes with the package: `make reproduce-report`.

From committed results alone; nothing is trained.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from figures import draw
from pairs import PAIRS
from truth import (
    RATIO,
    Judgement,
    Row,
    Truth,
    calibrated,
    error_points,
    gather,
    is_whole,
    judged,
    predictors,
    read,
    ship_calibration,
)

from isplit.design.training.ranking import kendall_tau

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = DOCS / "experiments.md"


def main() -> None:
    """Write everything."""
    mpl.use("Agg")
    lines, scores = read("trained"), read("predictors")
    found = [truth for pair in PAIRS if (truth := gather(lines, pair.name)) is not None]
    truths = [truth for truth in found if is_whole(truth, scores)]
    parts = [
        PREFACE,
        pairs_section(lines, truths),
        predictors_section(truths, scores, lines),
        images_section(scores),
        bytes_section(lines, scores),
        subsets_section(lines),
        autoencoder_section(lines),
    ]
    for truth in truths:
        draw(truth, scores, DOCS / "images" / f"experiments-{truth.pair}.svg")
    ship_calibration(truths)
    parts += [pair_section(truth) for truth in truths]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n", "utf-8")


PREFACE = """# Does the prediction hold?

Written by `make reproduce-report` from the lines in experiments/reproduction/results; do not edit. The lines are made
by `python experiments/reproduction/run.py --data FOLDER` and `predictors.py`, which go on where they stopped: what is
missing below has not been trained yet.

The claim of I-SPLIT (Cunico et al., ICPR 2022) is that importance, computed before any split is made, tells how
accurate each split will be, and that the best split depends on the classes. Here every cut of a network is given a
bottleneck that sends one in 64 of its elements, from the closed form, and is trained until the accuracy on the select
part stops improving (at most three epochs of 3,000 images; the paper's autoencoder, which starts from random values,
one epoch on the features and at most four on the task). Where training helps nothing there the split stays as it was
built. Predictors see the fit and select parts, and what the whole model reaches on the test part, which is known before
any split is; the truth is the split's accuracy on the test part. Where this differs from the paper: the bottleneck
starts from a closed form and its values are quantised and entropy-coded, heads stay frozen, images are 32 to 64 pixels
wide, and ResNet-50 is trained from random values, as no pretrained weights could be had."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, the first column to the left and the others to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def points(share: float) -> str:
    """Write a share as points of 100."""
    return f"{100 * share:.1f}"


def or_dash(value: float | None, form: str) -> str:
    """Format a number, a dash where there is none."""
    return "–" if value is None else format(value, form)


def pairs_section(lines: Sequence[Row], truths: Sequence[Truth]) -> str:
    """What there is to see."""
    whole = {truth.pair for truth in truths}
    rows: list[list[str]] = []
    for pair in PAIRS:
        own = [row for row in lines if row["pair"] == pair.name]
        ratio = gather(lines, pair.name)
        if ratio is None:
            rows.append([pair.name, str(pair.image_size), "–", "–", "0", "–", "–"])
            continue
        first = next(iter(ratio.rows.values()))
        state = "all" if pair.name in whole else "some"
        rows.append(
            [
                pair.name,
                str(pair.image_size),
                points(first["whole_test"]),
                f"{first['test_images']:,}",
                f"{len(ratio.rows)} ({state})",
                f"{sum(row['best_epoch'] > 0 for row in ratio.rows.values())}",
                f"{sum(row['seconds'] for row in own) / 3600:.1f}",
            ]
        )
    heads = ["pair", "pixels", "base accuracy", "test images", "cuts trained", "helped by it", "hours of training"]
    return f"## Six pairs\n\n{table(heads, rows)}"


def predictors_section(truths: Sequence[Truth], scores: Sequence[Row], lines: Sequence[Row]) -> str:
    """Every predictor over all pairs."""
    if not truths:
        return ""
    results: dict[str, list[Judgement]] = {}
    errors: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    for truth in truths:
        for name, (values, seconds) in predictors(truth, scores).items():
            results.setdefault(name, []).append(judged(truth, values))
            if name == "closed form":
                errors.setdefault(name, []).append(error_points(truth, values))
            if seconds is not None:
                costs.setdefault(name, []).append(100 * seconds / truth.seconds)
        predicted = calibrated(truth, truths)
        if predicted is not None:
            results.setdefault("closed form, calibrated", []).append(judged(truth, predicted))
            errors.setdefault("closed form, calibrated", []).append(error_points(truth, predicted))
    rows: list[list[str]] = []
    for name in sorted(results, key=lambda name: fmean(one.tau for one in results[name]), reverse=True):
        found = results[name]
        clear = [one.clear_tau for one in found if one.clear_tau is not None]
        rows.append(
            [
                name,
                f"{fmean(one.tau for one in found):+.2f}",
                f"{min(one.tau for one in found):+.2f}",
                or_dash(fmean(clear) if clear else None, "+.2f"),
                f"{fmean(one.first_regret for one in found):.1f}",
                f"{fmean(one.three_regret for one in found):.1f}",
                or_dash(fmean(errors[name]) if name in errors else None, ".1f"),
                or_dash(fmean(costs[name]) if name in costs else None, ".1f"),
            ]
        )
    heads = [
        "predictor",
        "Kendall τ, mean",
        "lowest",
        "τ where clear",
        "regret of the first",
        "of the best of three",
        "error of the accuracy",
        "% of the training's time",
    ]
    return (
        "## Predictors compared\n\n"
        f"Pairs whose cuts are all trained: {len(truths)}, at one in 64 of the elements. τ is between the predictor's "
        "score and the accuracy after training (0 where a score is the same everywhere); *where clear* "
        "counts only the pairs of cuts whose trained accuracies differ by more than two standard errors, where there "
        "are ten or more. Regrets and errors are in points. The calibrated one is a rising curve from the loss before "
        f"training to the loss after it, fitted to the other pairs.\n\n{table(heads, rows)}\n\n{ceiling(truths, lines)}"
    )


def ceiling(truths: Sequence[Truth], lines: Sequence[Row]) -> str:
    """How well the truth predicts itself: no predictor can be expected to do better."""
    taus: list[float] = []
    for truth in truths:
        again = gather(lines, truth.pair, seed=1)
        if again is not None and set(again.rows) == set(truth.rows):
            taus.append(judged(truth, again.trained).tau)
    if not taus:
        return "The ceiling, τ between two seeds' own trained accuracies, is not measured yet."
    return (
        f"The ceiling: two seeds' own trained accuracies agree with τ {fmean(taus):+.2f} "
        f"({len(taus)} pair{'s' if len(taus) > 1 else ''})."
    )


def images_section(scores: Sequence[Row]) -> str:
    """How many images an order needs: tau between the scores of some and of all."""
    scores = [row for row in scores if row["predictor"] != "closed form"]
    if not scores:
        return ""
    names = list(dict.fromkeys(row["predictor"] for row in scores))
    counts = list(scores[0]["means"])[:-1]
    rows: list[list[str]] = []
    for name in names:
        cells: list[str] = []
        for count in counts:
            taus: list[float] = []
            for row in scores:
                if row["predictor"] == name and count in row["means"]:
                    everything = row["means"][max(row["means"], key=int)]
                    tau = kendall_tau(list(row["means"][count].values()), list(everything.values()))
                    taus.append(tau or 0.0)
            cells.append(or_dash(min(taus, default=None), "+.2f"))
        rows.append([name, *cells])
    return (
        "## How many images an order needs\n\nτ between the order from so many images and that from all of them, 500; "
        f"the lowest of the pairs.\n\n{table(['score', *counts], rows)}"
    )


def subsets_section(lines: Sequence[Row]) -> str:
    """The best cut of all classes against the subset's own."""
    rows: list[list[str]] = []
    for pair in PAIRS:
        overall = gather(lines, pair.name)
        if overall is None:
            continue
        groups = dict.fromkeys(row["group"] for row in lines if row["pair"] == pair.name)
        for group in groups:
            own = gather(lines, pair.name, group=group)
            if own is None or group == "all classes":
                continue
            shared = [cut for cut in own.rows if cut in overall.rows]
            best = max(own.trained, key=lambda cut, own=own: own.trained[cut])
            by_form = max(own.rows, key=lambda cut, own=own: own.rows[cut]["closed_form_select"])
            all_form = max(shared, key=lambda cut, overall=overall: overall.rows[cut]["closed_form_select"])
            rows.append(
                [
                    f"{pair.name}: {group}",
                    f"{len(own.rows)}",
                    f"{best} ({points(own.trained[best])})",
                    f"{by_form} ({points(own.trained[by_form])})",
                    f"{all_form} ({points(own.trained[all_form])})",
                    points(own.trained[by_form] - own.trained[all_form]),
                ]
            )
    heads = [
        "subset",
        "cuts trained",
        "its best",
        "predicted for it",
        "predicted for all classes",
        "gain of its own prediction",
    ]
    return f"## Class subsets\n\n{table(heads, rows)}" if rows else ""


def autoencoder_section(lines: Sequence[Row]) -> str:
    """The paper's bottleneck and order of training beside the closed form."""
    parts: list[str] = []
    for pair in PAIRS:
        paper, ours = gather(lines, pair.name, design="undercomplete"), gather(lines, pair.name)
        if paper is None or ours is None:
            continue
        shared = [cut for cut in ours.rows if cut in paper.rows]
        rows = [
            [
                cut,
                points(ours.rows[cut]["closed_form_test"]),
                points(ours.trained[cut]),
                f"{ours.rows[cut]['payload_bytes']:.0f}",
                points(paper.trained[cut]),
                f"{paper.rows[cut]['payload_bytes']:.0f}",
            ]
            for cut in shared
        ]
        tau = kendall_tau([ours.trained[cut] for cut in shared], [paper.trained[cut] for cut in shared])
        heads = ["cut", "closed form", "trained", "bytes", "autoencoder", "bytes"]
        parts.append(
            f"{pair.name}, τ between the two orders {or_dash(tau, '+.2f')} over {len(shared)} cuts:\n\n"
            f"{table(heads, rows)}"
        )
    return "## The paper's autoencoder\n\n" + "\n\n".join(parts) if parts else ""


def bytes_section(lines: Sequence[Row], scores: Sequence[Row]) -> str:
    """A budget of bytes instead of a ratio."""
    heads = ["predictor", "Kendall τ", "τ where clear", "regret of the first", "of the best of three"]
    parts: list[str] = []
    for pair in PAIRS:
        budgets = dict.fromkeys(row["budget"] for row in lines if row["pair"] == pair.name and row["budget"] != RATIO)
        for budget in budgets:
            truth = gather(lines, pair.name, budget=budget)
            if truth is None or not is_whole(truth, scores):
                continue
            rows: list[list[str]] = []
            for name, (values, _) in predictors(truth, scores).items():
                found = judged(truth, values)
                regrets = f"{found.first_regret:.1f}", f"{found.three_regret:.1f}"
                rows.append([name, f"{found.tau:+.2f}", or_dash(found.clear_tau, "+.2f"), *regrets])
            spread = max(truth.trained.values()) - min(truth.trained.values())
            parts.append(f"{pair.name}, {budget}, accuracies {points(spread)} points apart:\n\n{table(heads, rows)}")
    return "## At one budget of bytes\n\n" + "\n\n".join(parts) if parts else ""


def pair_section(truth: Truth) -> str:
    """Every cut of a pair."""
    rows = [
        [
            cut,
            f"{row['head_mac_share']:.0%}",
            f"{row['bytes'] / 1024:.0f}",
            or_dash(row["cui"], ".3g"),
            points(row["closed_form_select"]),
            points(row["closed_form_test"]),
            f"{points(row['trained_test'])} ± {points(row['loss_stderr'])}",
            f"{row['payload_bytes']:.0f}",
            f"{row['best_epoch']} of {row['epochs']}",
        ]
        for cut, row in truth.rows.items()
    ]
    heads = [
        "cut",
        "MACs",
        "KiB",
        "CUI",
        "closed form, select",
        "closed form, test",
        "trained, test",
        "bytes",
        "best epoch",
    ]
    image = f"![Importance, size and accuracy over depth](images/experiments-{truth.pair}.svg)"
    return f"## {truth.pair}\n\n{image}\n\n{table(heads, rows)}"


if __name__ == "__main__":
    main()
