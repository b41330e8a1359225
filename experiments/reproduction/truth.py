"""The trained splits as ground truth, every predictor's scores of them, and how well one ranks the other."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot
from pathlib import Path
from statistics import fmean
from typing import Any

from sklearn.isotonic import IsotonicRegression

from isplit.design.calibration import Calibration
from isplit.design.training.ranking import kendall_tau, regret

RESULTS = Path(__file__).parent / "results"
PACKAGE = Path(__file__).parent.parent.parent / "src" / "isplit"
RATIO = "1in64"
_FEWEST_PAIRS = 3
_FEWEST_CLEAR = 10

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


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How well scores rank the splits of a truth.

    `tau` is Kendall's over all cuts, 0 where the scores are all the same; `clear_tau` that over the pairs of cuts whose
    accuracies differ by more than two standard errors, None where there are fewer than ten; regrets are in points.
    """

    tau: float
    clear_tau: float | None
    first_regret: float
    three_regret: float


def read(name: str) -> list[Row]:
    """Return the lines of a results file."""
    path = RESULTS / f"{name}.jsonl"
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


def is_whole(truth: Truth, scores: Sequence[Row]) -> bool:
    """Whether every cut of the pair is trained and scored: a ranking of some of them would say little."""
    own = [set(row["elements"]) for row in scores if row["pair"] == truth.pair]
    return bool(own) and all(cuts == set(truth.rows) for cuts in own)


def predictors(truth: Truth, scores: Sequence[Row]) -> dict[str, tuple[Scores, float | None]]:
    """Return every predictor's scores of a pair's cuts, and the seconds it takes (None: next to nothing)."""
    found: dict[str, tuple[Scores, float | None]] = {}
    own = [row for row in scores if row["pair"] == truth.pair]
    for row in own:
        if row["predictor"] == "closed form":
            continue
        means = row["means"][max(row["means"], key=int)]
        found[row["predictor"]] = {cut: means[cut] for cut in truth.rows}, row["seconds"]
        if row["predictor"] == "cui":
            sums = {cut: means[cut] * row["elements"][cut] for cut in truth.rows}
            found["cui, summed over channels and positions"] = sums, row["seconds"]
    found["size"] = {cut: -float(row["bytes"]) for cut, row in truth.rows.items()}, None
    found["depth"] = {cut: float(row["depth"]) for cut, row in truth.rows.items()}, None
    seconds = next((row["seconds"] for row in own if row["predictor"] == "closed form"), None)
    found["closed form"] = {cut: row["whole_test"] - loss_before(row) for cut, row in truth.rows.items()}, seconds
    if all(row.get("closed_form_divergence") is not None for row in truth.rows.values()):
        moved = {cut: -float(row["closed_form_divergence"]) for cut, row in truth.rows.items()}
        found["closed form, divergence"] = moved, seconds
    return found


def loss_before(row: Row) -> float:
    """Return what a split loses in closed form, on the select part.

    The whole model's own accuracy on the test part is known before any split is: less this loss, it is what the
    closed form says of the split there.
    """
    return row["whole_select"] - row["closed_form_select"]


def calibration(rows: Iterable[Row]) -> Any:
    """Fit the loss after training, on the test part, as a rising curve of the loss before it, on the select part."""
    used = list(rows)
    before = [loss_before(row) for row in used]
    after = [row["whole_test"] - row["trained_test"] for row in used]
    return IsotonicRegression(out_of_bounds="clip").fit(before, after)


def ship_calibration(truths: Sequence[Truth]) -> None:
    """Write what comes with the package: the curve of all pairs, with the error on pairs left out."""
    if len(truths) < _FEWEST_PAIRS:
        return
    predicted = {truth.pair: calibrated(truth, truths) for truth in truths}
    errors = [
        found[cut] - accuracy
        for truth in truths
        if (found := predicted[truth.pair]) is not None
        for cut, accuracy in truth.trained.items()
    ]
    rows = [row for truth in truths for row in truth.rows.values()]
    fitted = calibration(rows)
    Calibration(
        name=f"{len(rows)} splits at one in 64 of the elements ({', '.join(truth.pair for truth in truths)})",
        splits=len(rows),
        curve=tuple(zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True)),
        stderr=fmean(error**2 for error in errors) ** 0.5,
    ).save(PACKAGE / "design")


def calibrated(truth: Truth, others: Sequence[Truth]) -> dict[str, float] | None:
    """Predict a pair's trained accuracies by the curve of the other pairs; None where there are no others."""
    rows = [row for other in others if other.pair != truth.pair for row in other.rows.values()]
    if not rows:
        return None
    own = list(truth.rows.values())
    losses = calibration(rows).predict([loss_before(row) for row in own])
    return {row["cut"]: row["whole_test"] - float(loss) for row, loss in zip(own, losses, strict=True)}


def judged(truth: Truth, scores: Scores) -> Judgement:
    """Compare scores with the accuracies after training."""
    cuts = list(truth.rows)
    values, real = [scores[cut] for cut in cuts], [truth.trained[cut] for cut in cuts]
    best = max(real)
    first, three = (100 * regret(values, real, choices=choices, best=best) for choices in (1, 3))
    return Judgement(
        tau=kendall_tau(values, real) or 0.0,
        clear_tau=clear_tau(truth, scores),
        first_regret=first,
        three_regret=three,
    )


def clear_tau(truth: Truth, scores: Scores) -> float | None:
    """Return the share of clearly different pairs of cuts that scores put right, less the share they put wrong."""
    signs: list[int] = []
    for one, other in combinations(truth.rows.values(), 2):
        difference = one["trained_test"] - other["trained_test"]
        # Each loss is against the same whole model: the noise that both share is counted twice, to the safe side.
        if abs(difference) > 2 * hypot(one["loss_stderr"], other["loss_stderr"]):
            agrees = difference * (scores[one["cut"]] - scores[other["cut"]])
            signs.append((agrees > 0) - (agrees < 0))
    return fmean(signs) if len(signs) >= _FEWEST_CLEAR else None


def error_points(truth: Truth, predicted: Scores) -> float:
    """Return the mean absolute error of predicted accuracies, in points."""
    return 100 * fmean(abs(predicted[cut] - accuracy) for cut, accuracy in truth.trained.items())
