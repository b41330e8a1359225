"""docs/experiments.md and its figures, from committed results alone: `make reproduce-report`. Nothing is trained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from pairs import PAIRS
from sklearn.isotonic import IsotonicRegression

from isplit.design.training.ranking import kendall_tau, regret

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
PAGE = DOCS / "experiments.md"
RATIO = "1in64"

Row = dict[str, Any]
Scores = Mapping[str, float]
"""Cut to what a predictor says of it; more is better."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The trained splits of one pair, budget and set of classes: cut to its line, in the order of computation."""

    pair: str
    group: str
    budget: str
    rows: Mapping[str, Row]

    @property
    def trained(self) -> dict[str, float]:
        """Accuracy on the test part after training."""
        return {cut: row["trained_test"] for cut, row in self.rows.items()}

    @property
    def seconds(self) -> float:
        """What training all of them took."""
        return sum(row["seconds"] for row in self.rows.values())


def main() -> None:
    """Write everything."""
    mpl.use("Agg")
    lines, scores = read("trained"), read("predictors")
    truths = [
        truth
        for pair in PAIRS
        if (truth := gather(lines, pair.name)) is not None and len(truth.rows) >= cuts_of(scores, pair.name)
    ]
    parts = [
        PREFACE,
        pairs_section(lines, truths),
        predictors_section(truths, scores, lines),
        images_section(scores),
        subsets_section(lines),
        autoencoder_section(lines),
        bytes_section(lines, scores),
    ]
    for truth in truths:
        draw(truth, scores)
    parts += [pair_section(truth) for truth in truths]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n", "utf-8")


def read(name: str) -> list[Row]:
    """Return the lines of a results file."""
    path = HERE / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def gather(
    lines: Sequence[Row],
    pair: str,
    *,
    group: str = "all classes",
    budget: str = RATIO,
    design: str = "linear",
    seed: int = 0,
) -> Truth | None:
    """Return the splits that were trained alike, None where there are none."""
    chosen = [
        row
        for row in lines
        if (row["pair"], row["group"], row["budget"], row["design"], row["seed"]) == (pair, group, budget, design, seed)
    ]
    rows = {row["cut"]: row for row in sorted(chosen, key=lambda row: row["depth"])}
    return Truth(pair=pair, group=group, budget=budget, rows=rows) if rows else None


def cuts_of(scores: Sequence[Row], pair: str) -> int:
    """Return how many cuts a pair has: a ranking of some of them would say little."""
    return max((len(row["elements"]) for row in scores if row["pair"] == pair), default=2)


# ---- predictors ----


def predictors(truth: Truth, scores: Sequence[Row]) -> dict[str, tuple[Scores, float | None]]:
    """Return every predictor's scores of a pair's cuts, and the seconds it takes (None: next to nothing)."""
    found: dict[str, tuple[Scores, float | None]] = {}
    for row in scores:
        if row["pair"] != truth.pair:
            continue
        means = row["means"][max(row["means"], key=int)]
        found[row["predictor"]] = {cut: means[cut] for cut in truth.rows}, row["seconds"]
        if row["predictor"] == "cui":
            sums = {cut: means[cut] * row["elements"][cut] for cut in truth.rows}
            found["cui, sums for means"] = sums, row["seconds"]
    found["size"] = {cut: -float(row["bytes"]) for cut, row in truth.rows.items()}, None
    found["depth"] = {cut: float(row["depth"]) for cut, row in truth.rows.items()}, None
    found["closed form"] = {cut: row["closed_form_select"] for cut, row in truth.rows.items()}, None
    return found


def calibrated(truth: Truth, others: Sequence[Truth]) -> dict[str, float] | None:
    """Predict a pair's trained accuracies by a monotone curve that was fitted to the other pairs' losses."""
    rows = [row for other in others for row in other.rows.values()]
    if not rows:
        return None
    before = [row["whole_select"] - row["closed_form_select"] for row in rows]
    after = [row["whole_test"] - row["trained_test"] for row in rows]
    curve: Any = IsotonicRegression(out_of_bounds="clip").fit(before, after)
    own = list(truth.rows.values())
    losses = curve.predict([row["whole_select"] - row["closed_form_select"] for row in own])
    return {row["cut"]: row["whole_select"] - float(loss) for row, loss in zip(own, losses, strict=True)}


def judged(truth: Truth, scores: Scores) -> tuple[float | None, float, float]:
    """Return Kendall's tau, and the regrets of the first choice and of the best of three, in points."""
    cuts = list(truth.rows)
    values, real = [scores[cut] for cut in cuts], [truth.trained[cut] for cut in cuts]
    best = max(real)
    first, three = (100 * regret(values, real, choices=choices, best=best) for choices in (1, 3))
    return kendall_tau(values, real), first, three


def error_points(truth: Truth, predicted: Scores) -> float:
    """Return the mean absolute error of predicted accuracies, in points."""
    return 100 * fmean(abs(predicted[cut] - accuracy) for cut, accuracy in truth.trained.items())


# ---- sections ----

PREFACE = """# Does the prediction hold?

Written by `make reproduce-report` from the lines in experiments/reproduction/results; do not edit. The lines are made
by `python experiments/reproduction/run.py --data FOLDER` and `predictors.py`, which go on where they stopped: what is
missing below has not been trained yet.

The claim of I-SPLIT (Cunico et al., ICPR 2022) is that importance, computed before any split is made, tells how
accurate each split will be, and that the best split depends on the classes. Here every cut of a network is given a
bottleneck that sends one in 64 of its elements, from the closed form, and is trained until the accuracy on the select
part stops improving (at most three epochs of 3,000 images). Predictors see the fit and select parts; the truth is the
accuracy on the test part. Where this differs from the paper: the bottleneck starts from a closed form and its values
are quantised and entropy-coded, heads stay frozen, images are 32 to 64 pixels wide, and ResNet-50 is trained from
random values, as no pretrained weights could be had."""


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
            rows.append([pair.name, str(pair.image_size), "–", "–", "0", "–"])
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
                f"{sum(row['seconds'] for row in own) / 3600:.1f}",
            ]
        )
    heads = ["pair", "pixels", "base accuracy", "test images", "cuts trained", "hours of training"]
    return f"## Six pairs\n\n{table(heads, rows)}"


def predictors_section(truths: Sequence[Truth], scores: Sequence[Row], lines: Sequence[Row]) -> str:
    """Every predictor over all pairs."""
    if not truths:
        return ""
    results: dict[str, list[tuple[float | None, float, float]]] = {}
    errors: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    for truth in truths:
        for name, (values, seconds) in predictors(truth, scores).items():
            results.setdefault(name, []).append(judged(truth, values))
            if name == "closed form":
                errors.setdefault(name, []).append(error_points(truth, values))
            if seconds is not None:
                costs.setdefault(name, []).append(100 * seconds / truth.seconds)
        predicted = calibrated(truth, [other for other in truths if other is not truth])
        if predicted is not None:
            results.setdefault("closed form, calibrated", []).append(judged(truth, predicted))
            errors.setdefault("closed form, calibrated", []).append(error_points(truth, predicted))

    def mean_tau(name: str) -> float:
        return fmean(tau or 0.0 for tau, *_ in results[name])

    rows: list[list[str]] = []
    for name in sorted(results, key=mean_tau, reverse=True):
        taus = [tau or 0.0 for tau, *_ in results[name]]
        rows.append(
            [
                name,
                f"{fmean(taus):+.2f}",
                f"{min(taus):+.2f}",
                f"{fmean(first for _, first, _ in results[name]):.1f}",
                f"{fmean(three for *_, three in results[name]):.1f}",
                or_dash(fmean(errors[name]) if name in errors else None, ".1f"),
                or_dash(fmean(costs[name]) if name in costs else None, ".1f"),
            ]
        )
    heads = [
        "predictor",
        "Kendall τ, mean",
        "lowest",
        "regret of the first",
        "of the best of three",
        "error of the accuracy",
        "% of the training's time",
    ]
    ceilings = [
        tau
        for truth in truths
        if (again := gather(lines, truth.pair, seed=1)) is not None and set(again.rows) == set(truth.rows)
        if (tau := kendall_tau([truth.trained[cut] for cut in truth.rows], list(again.trained.values()))) is not None
    ]
    ceiling = (
        f"The ceiling: two seeds' own trained accuracies agree with τ {fmean(ceilings):+.2f} ({len(ceilings)} pairs)."
        if ceilings
        else "The ceiling, τ between two seeds' own trained accuracies, is not measured yet."
    )
    return (
        "## Predictors compared\n\n"
        f"Over the {len(truths)} pairs whose cuts are all trained, one in 64 of the elements. τ between the predictor's"
        " score and the accuracy after training; regrets and errors in points. The calibrated one is a monotone curve "
        "from the loss before training to the loss after it, fitted to the other pairs.\n\n"
        f"{table(heads, rows)}\n\n{ceiling}"
    )


def images_section(scores: Sequence[Row]) -> str:
    """How many images an order needs: tau between the scores of some and of all."""
    names = list(dict.fromkeys(row["predictor"] for row in scores))
    if not names:
        return ""
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
        "## How many images an order needs\n\nτ between the order from so many images and that from 500; the lowest of "
        f"the pairs.\n\n{table(['score', *counts], rows)}"
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
    parts: list[str] = []
    for pair in PAIRS:
        budgets = dict.fromkeys(row["budget"] for row in lines if row["pair"] == pair.name and row["budget"] != RATIO)
        for budget in budgets:
            truth = gather(lines, pair.name, budget=budget)
            if truth is None or len(truth.rows) < cuts_of(scores, pair.name):
                continue
            rows: list[list[str]] = []
            for name, (values, _) in predictors(truth, scores).items():
                tau, first, three = judged(truth, values)
                rows.append([name, or_dash(tau, "+.2f"), f"{first:.1f}", f"{three:.1f}"])
            spread = max(truth.trained.values()) - min(truth.trained.values())
            parts.append(
                f"{pair.name}, {budget}, accuracies {points(spread)} points apart:\n\n"
                f"{table(['predictor', 'Kendall τ', 'regret of the first', 'of the best of three'], rows)}"
            )
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


def draw(truth: Truth, scores: Sequence[Row]) -> None:
    """Draw importance over depth above the accuracies, one figure for a pair."""
    cuts = list(truth.rows)
    places = np.arange(len(cuts))

    def of_row(name: str) -> list[float]:
        return [truth.rows[cut][name] for cut in cuts]

    found = predictors(truth, scores)
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "isplit", "axes.spines.top": False}):
        figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, layout="constrained")
        if "cui" in found:
            values = found["cui"][0]
            upper.plot(places, [values[cut] for cut in cuts], "o-", color="#1d4f91", label="CUI")
        upper.set_ylabel("CUI")
        size = upper.twinx()
        size.plot(places, np.array(of_row("bytes")) / 1024, "s:", color="#a3abb8", markersize=3)
        size.set_ylabel("size, KiB")
        size.set_yscale("log")
        for name, label, style, color in (
            ("closed_form_test", "closed form", "o--", "#c2571a"),
            ("trained_test", "trained", "o-", "#1d4f91"),
        ):
            lower.plot(places, 100 * np.array(of_row(name)), style, color=color, label=label)
        lower.axhline(100 * of_row("whole_test")[0], color="#6b7280", linewidth=0.8, label="whole model")
        lower.set_ylabel("accuracy, %")
        lower.set_xticks(places, cuts, rotation=90)
        lower.legend(frameon=False)
        figure.savefig(DOCS / "images" / f"experiments-{truth.pair}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
