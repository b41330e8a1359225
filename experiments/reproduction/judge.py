"""How well every predictor ranks the trained splits, what no predictor can exceed, and the calibration that ships."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot, log10
from pathlib import Path
from statistics import fmean

import numpy as np
from intervals import TrainedSplit, coverage, fit_calibration, fit_remaining, further_splits
from sklearn.linear_model import LinearRegression
from truth import Row, Scores, Truth, gather, predictors, scores_of

from isplit.design.measure.ranking import kendall_tau, regret

PACKAGE = Path(__file__).parent.parent.parent / "src" / "isplit"
CALIBRATED = "closed form, calibrated"
WITH_MORE = "closed form, calibrated with CUI and bytes"
_FEWEST_PAIRS = 3
_FEWEST_CLEAR = 10


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How well scores rank the splits of a truth.

    `tau` is Kendall's over all cuts, 0 where the scores are all the same; `clear_tau` that over the pairs of cuts whose
    accuracies differ by more than two standard errors, None where there are fewer than ten; regrets are in points, and
    so is the mean absolute error, where an accuracy is predicted. `cost_percent` is over the time of training all cuts.
    """

    tau: float
    clear_tau: float | None
    first_regret: float
    three_regret: float
    error_points: float | None = None
    cost_percent: float | None = None


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are there."""
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


def judge(truth: Truth, scores: Scores, *, accuracies: bool = False, seconds: float | None = None) -> Judgement:
    """Compare scores with the accuracies after training."""
    cuts = list(truth.rows)
    values, real = [scores[cut] for cut in cuts], [truth.trained[cut] for cut in cuts]
    first, three = (100 * regret(values, real, choices=choices, best=max(real)) for choices in (1, 3))
    return Judgement(
        tau=kendall_tau(values, real) or 0.0,
        clear_tau=clear_tau(truth, scores),
        first_regret=first,
        three_regret=three,
        error_points=100 * fmean(abs(value - other) for value, other in zip(values, real, strict=True))
        if accuracies
        else None,
        cost_percent=None if seconds is None else 100 * seconds / truth.seconds,
    )


def clear_tau(truth: Truth, scores: Scores) -> float | None:
    """Return the share of clearly different pairs of cuts that scores put right, less the share they put wrong."""
    signs: list[int] = []
    for row, other in combinations(truth.rows.values(), 2):
        difference = row["trained_test"] - other["trained_test"]
        # Each loss is against the same whole model: the noise that both share is counted twice, to the safe side.
        if abs(difference) > 2 * hypot(row["loss_stderr"], other["loss_stderr"]):
            agrees = difference * (scores[row["cut"]] - scores[other["cut"]])
            signs.append((agrees > 0) - (agrees < 0))
    return fmean(signs) if len(signs) >= _FEWEST_CLEAR else None


def judge_all(truths: Sequence[Truth], every: Sequence[Truth], scores: Sequence[Row]) -> dict[str, list[Judgement]]:
    """Judge every predictor on some truths; the calibrated one is fitted to the other pairs' splits in `every`."""
    judgements: dict[str, list[Judgement]] = {}
    for truth in truths:
        known = predictors(truth, scores)
        for name, (values, seconds) in known.items():
            accuracies = name == "closed form"
            judgements.setdefault(name, []).append(judge(truth, values, accuracies=accuracies, seconds=seconds))
        others = [other for other in every if other.pair != truth.pair]
        for name, predict in ((CALIBRATED, calibrated), (WITH_MORE, calibrated_with_more)) if others else ():
            seconds = known["closed form"][1]
            judgements.setdefault(name, []).append(
                judge(truth, predict(truth, others), accuracies=True, seconds=seconds)
            )
    return judgements


def ceilings(truths: Sequence[Truth], lines: Sequence[Row]) -> dict[str, list[Judgement]]:
    """Judge what is known only after all cuts are trained, by how well it agrees with the same truth.

    The same trained splits on the select part; and, where there are any, splits trained from another seed, and those of
    the network trained again.
    """
    on_select = [judge(truth, {cut: row["trained_select"] for cut, row in truth.rows.items()}) for truth in truths]
    judgements = {"*all trained, their accuracy on select*": on_select}
    for name, twice in (("with another seed", other_seeds), ("in the network trained again", other_networks)):
        both = [
            pair
            for truth in truths
            if (pair := twice(truth, lines)) and all(set(candidate.rows) == set(truth.rows) for candidate in pair)
        ]
        if both:
            count = f"{len(both)} pair{'s' * (len(both) > 1)}"
            judgements[f"*all trained {name} ({count})*"] = [judge(first, other.trained) for first, other in both]
    return judgements


def other_seeds(truth: Truth, lines: Sequence[Row]) -> tuple[Truth, Truth] | None:
    """Return a pair's splits from the first seed and from the second, in one network; None where there are none."""
    second = gather(lines, truth.pair, budget=truth.budget, seed=1)
    first = second and gather(lines, truth.pair, budget=truth.budget, network=second.network)
    return (first, second) if first and second else None


def other_networks(truth: Truth, lines: Sequence[Row]) -> tuple[Truth, Truth] | None:
    """Return a pair's splits in one network and in the one trained again; None where there is one only."""
    rest = [row for row in lines if row["weights_sha256"] != truth.network]
    again = gather(rest, truth.pair, budget=truth.budget)
    return (truth, again) if again else None


def calibrated(truth: Truth, others: Sequence[Truth]) -> dict[str, float]:
    """Predict a pair's trained accuracies from the splits of other pairs: what ships."""
    remaining = fit_remaining(trained_splits(others))
    return {
        cut: row["whole_test"] - remaining.at(split.classes) * max(split.before, 0.0)
        for cut, row in truth.rows.items()
        for split in [TrainedSplit.of(row)]
    }


def trained_splits(truths: Sequence[Truth]) -> list[TrainedSplit]:
    """Return the splits of some truths as a calibration takes them."""
    return [TrainedSplit.of(row) for truth in truths for row in truth.rows.values()]


def from_fewer_images(truths: Sequence[Truth], scores: Sequence[Row], count: str) -> list[Judgement]:
    """Judge the closed form as measured on so many images, for those truths whose line of it has them."""
    lines = [
        (truth, row["means"])
        for truth in truths
        for row in scores_of(truth, scores)
        if row["predictor"] == "closed form" and count in row["means"]
    ]
    return [judge(truth, means[count]) for truth, means in lines]


def no_loss(truths: Sequence[Truth]) -> float:
    """Return the mean error, in points, of predicting the whole model's accuracy for every split."""
    return fmean(
        100 * fmean(abs(row["whole_test"] - row["trained_test"]) for row in truth.rows.values()) for truth in truths
    )


def calibrated_with_more(truth: Truth, others: Sequence[Truth]) -> dict[str, float]:
    """The same with CUI and bytes beside the calibration, each of which may only lower the predicted loss as it rises.

    CUI has no unit that two networks share, so it counts by how far it is, in powers of ten, from its pair's mean.
    """
    remaining = fit_remaining(trained_splits(others))

    def features(judged: Truth) -> list[list[float]]:
        importance = {cut: log10(max(row["cui"] or 0.0, 1e-12)) for cut, row in judged.rows.items()}
        middle = fmean(importance.values())
        return [
            [
                remaining.at(split.classes) * max(split.before, 0.0),
                middle - importance[cut],
                -log10(row["payload_bytes"]),
            ]
            for cut, row in judged.rows.items()
            for split in [TrainedSplit.of(row)]
        ]

    after = [row["whole_test"] - row["trained_test"] for other in others for row in other.rows.values()]
    fitted = LinearRegression(positive=True).fit([row for other in others for row in features(other)], after)
    losses = fitted.predict(features(truth))
    return {cut: row["whole_test"] - float(loss) for (cut, row), loss in zip(truth.rows.items(), losses, strict=True)}


def ship_calibration(truths: Sequence[Truth]) -> None:
    """Write what comes with the package: fitted to all pairs, with the error on pairs left out."""
    pairs = list(dict.fromkeys(truth.pair for truth in truths))
    if len(pairs) < _FEWEST_PAIRS:
        return
    splits = calibration_splits(truths)
    errors = np.concatenate([result.errors for result in coverage(splits)])
    pairs = list(dict.fromkeys(split.pair for split in splits))
    name = f"{len(splits)} splits of {len(pairs)} pairs of network and data ({', '.join(pairs)})"
    shipped = fit_calibration(splits, name=name, stderr=float(np.sqrt(np.square(errors).mean())))
    shipped.save(PACKAGE / "design" / "measure")


def calibration_splits(truths: Sequence[Truth]) -> list[TrainedSplit]:
    """Return the splits that the calibration is fitted to: those of the truths, and those of further pairs."""
    return [*trained_splits(truths), *further_splits()]
