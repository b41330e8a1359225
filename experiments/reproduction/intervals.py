"""Accuracies after training: the share of a loss that remains, and intervals checked on pairs that were left out.

A pair is a network on a data set. Its splits err together, so a pair is the unit of everything here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pairs import CLASSES
from scipy.optimize import least_squares
from scipy.special import expit, logit
from truth import RESULTS, Row, loss_before, read, read_rows

from isplit.design.measure.calibration import REFERENCE_CLASSES, Calibration, RemainingShare

COVERAGE = 0.9
_UNBOUNDED = 30.0
"""A logit that is moved by so much is a share of nothing or of everything."""
_SMALL_LOSS = 0.02
"""Of losses below this, what remains is mostly noise."""
_FEWEST_SMALL = 3
_HARDLY_ANY = 1e-9
_RIDGE = 0.1
_ERROR_WITHOUT_LOSS, _ERROR_PER_LOSS = 0.008, 0.15
"""What errors are weighed by: half a standard error more than that of 1,000 images, and a share of the loss."""


@dataclass(frozen=True, kw_only=True)
class TrainedSplit:
    """A split that was trained: its pair, the pair's number of classes, and its losses before and after training.

    The loss before training is on the select part and the loss after it on the test part, as shares of the images.
    """

    pair: str
    classes: int
    before: float
    after: float

    @classmethod
    def of(cls, row: Row) -> Self:
        """Take a split from a line of the reproduction."""
        return cls(
            pair=row["pair"],
            classes=CLASSES[row["pair"].split("-")[-1]],
            before=loss_before(row),
            after=row["whole_test"] - row["trained_test"],
        )


def further_splits() -> list[TrainedSplit]:
    """Return the splits of pairs that are none of the reproduction's six: with many images, and of never_loses.py."""
    many = [row for row in read("many-images") if row["seed"] == 0]
    lines = read_rows(RESULTS.parents[1] / "results" / "never-loses.jsonl")
    return [TrainedSplit.of(row) for row in many] + [
        TrainedSplit(
            pair=line["name"],
            classes=CLASSES[line["name"].split("-")[-1]],
            before=-line["select_closed_form"]["against_whole"],
            after=-line["test"]["against_whole"],
        )
        for line in lines
    ]


def fit_remaining(splits: Sequence[TrainedSplit]) -> RemainingShare:
    """Fit the share of the loss that remains, with all pairs weighing alike and large errors counting linearly."""
    before, after, classes, pairs = _arrays(splits)
    counts = {pair: int((pairs == pair).sum()) for pair in set(pairs.tolist())}
    weights = np.array([(len(splits) / len(counts) / counts[pair]) ** 0.5 for pair in pairs.tolist()])
    weights /= _ERROR_WITHOUT_LOSS + _ERROR_PER_LOSS * before

    def errors(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        expected = before * expit(parameters[0] + parameters[1] * classes)
        return np.concatenate([weights * (expected - after), _RIDGE * parameters])

    intercept, per_log_classes = least_squares(errors, np.zeros(2), loss="soft_l1").x.tolist()
    return RemainingShare(intercept=intercept, per_log_classes=per_log_classes)


def fit_calibration(splits: Sequence[TrainedSplit], *, name: str = "", stderr: float = 0.0) -> Calibration:
    """Fit the share to all splits, and the widths to what each pair needs when it is predicted from the others."""
    by_pair = _by_pair(splits)
    held_out = [_held_out(pair_splits, splits) for pair_splits in by_pair.values()] if len(by_pair) > 1 else []
    small = [
        np.abs(after - before * expit(logits))[before < _SMALL_LOSS]
        for before, after, logits in held_out
        if (before < _SMALL_LOSS).sum() >= _FEWEST_SMALL
    ]
    noise = pooled_quantile(small, default=1.0)
    spreads = [_needed_spread(*arrays, noise=noise) for arrays in held_out]
    numbers = [split.classes for split in splits]
    return Calibration(
        name=name,
        splits=len(splits),
        remaining=fit_remaining(splits),
        spread=pooled_quantile(spreads, default=_UNBOUNDED),
        noise=noise,
        fewest_classes=min(numbers),
        most_classes=max(numbers),
        largest_loss=max(split.before for split in splits),
        stderr=stderr,
    )


def _held_out(
    pair_splits: Sequence[TrainedSplit], splits: Sequence[TrainedSplit]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return a pair's losses before and after training, and the logits of the share that remains by other pairs.

    Where the pair's number of classes is beyond that of all others, they say nothing about it, and its own splits are
    among those that the logits are from.
    """
    rest = [split for split in splits if split.pair != pair_splits[0].pair]
    numbers = [split.classes for split in rest]
    known = min(numbers) <= pair_splits[0].classes <= max(numbers)
    remaining = fit_remaining(rest if known else splits)
    before, after, classes, _ = _arrays(pair_splits)
    return before, after, remaining.intercept + remaining.per_log_classes * classes


def _needed_spread(
    before: NDArray[np.float64], after: NDArray[np.float64], logits: NDArray[np.float64], *, noise: float
) -> NDArray[np.float64]:
    """Return for each split the smallest spread of the logit with which its loss after training is in its interval."""
    loss = np.maximum(before, _HARDLY_ANY)
    shares = [np.clip((after + moved) / loss, _HARDLY_ANY, 1 - _HARDLY_ANY) for moved in (-noise, noise)]
    above = np.where(after - noise > 0, logit(shares[0]) - logits, 0.0)
    below = np.where(after + noise < before, logits - logit(shares[1]), 0.0)
    return np.clip(np.maximum(above, below), 0.0, _UNBOUNDED)


def pooled_quantile(groups: Sequence[NDArray[np.float64]], *, default: float) -> float:
    """Return the 90 % quantile of the mean of the groups' distributions: all groups weigh alike; `default` of none.

    This is the pooling of distributions of Dunn, Wasserman and Ramdas (2023), "Distribution-Free Prediction Sets for
    Two-Layer Hierarchical Models". Coverage of a new group's member tends to 90 % with the number of groups.
    """
    if not groups:
        return default
    values = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1 / len(group) / len(groups)) for group in groups])
    order = np.argsort(values)
    place = np.searchsorted(np.cumsum(weights[order]), COVERAGE - _HARDLY_ANY)
    return float(values[order][min(int(place), len(values) - 1)])


def _by_pair(splits: Sequence[TrainedSplit]) -> dict[str, list[TrainedSplit]]:
    groups: dict[str, list[TrainedSplit]] = {}
    for split in splits:
        groups.setdefault(split.pair, []).append(split)
    return groups


def _arrays(
    splits: Sequence[TrainedSplit],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
    """Return losses before (none negative) and after, logarithms of the classes, and pairs."""
    before = np.maximum([split.before for split in splits], 0.0)
    after = np.array([split.after for split in splits])
    classes = np.log([split.classes / REFERENCE_CLASSES for split in splits])
    return before, after, classes, np.array([split.pair for split in splits])


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How well a calibration of the other pairs predicts a pair's splits; widths and errors are shares of images.

    `known` says whether the other pairs have fewer and more classes, or as many. Nothing is predicted for splits that
    lose more than any of the other pairs.
    """

    pair: str
    known: bool
    inside: NDArray[np.bool_]
    widths: NDArray[np.float64]
    errors: NDArray[np.float64]
    predicted_nothing: int


def coverage(splits: Sequence[TrainedSplit]) -> list[Coverage]:
    """Check the intervals of every pair, from a calibration of the other pairs alone."""
    results: list[Coverage] = []
    for pair, pair_splits in _by_pair(splits).items():
        fitted = fit_calibration([split for split in splits if split.pair != pair])
        covered = [split for split in pair_splits if fitted.covers(split.before)]
        losses = [fitted.loss_after(split.before, classes=split.classes) for split in covered]
        predicted = list(zip(covered, losses, strict=True))
        results.append(
            Coverage(
                pair=pair,
                known=fitted.knows(pair_splits[0].classes),
                inside=np.array([loss.least <= split.after <= loss.most for split, loss in predicted], bool),
                widths=np.array([(loss.most - loss.least) / 2 for loss in losses]),
                errors=np.array([loss.expected - split.after for split, loss in predicted]),
                predicted_nothing=len(pair_splits) - len(covered),
            )
        )
    return results


def coverage_text(splits: Sequence[TrainedSplit]) -> str:
    """Say how many splits of pairs left out lie in their 90 % intervals, and how wide these are."""
    results = [result for result in coverage(splits) if len(result.inside)]
    inside, widths, errors = (
        np.concatenate([getattr(result, name) for result in results]) for name in ("inside", "widths", "errors")
    )
    lines = [
        f"| {result.pair}{'' if result.known else ' *'} | {len(result.inside)} | {int(result.inside.sum())} "
        f"({result.inside.mean():.0%}) | {result.predicted_nothing} | {100 * result.widths.min():.1f}–"
        f"{100 * result.widths.max():.1f} | {100 * np.median(result.widths):.1f} | "
        f"{100 * np.abs(result.errors).mean():.1f} | {100 * result.errors.mean():+.1f} |"
        for result in results
    ]
    shipped = fit_calibration(splits)
    mean_coverage = fmean(float(result.inside.mean()) for result in results)
    return "\n".join(
        [
            "## Intervals of the accuracy after training",
            "",
            "`predict` takes the loss after training as a share of the loss in closed form. The share rises with the "
            f"number of classes: {shipped.remaining.at(10):.0%} with 10 classes, {shipped.remaining.at(20):.0%} with "
            f"20 and {shipped.remaining.at(100):.0%} with 100. Every split has an interval of its own: the share is "
            f"moved in both directions, and {100 * shipped.noise:.1f} points are added on either side. Both widths "
            "are 90 % quantiles of what splits need whose pair is predicted from the others, and pairs weigh alike. "
            "Below, each pair was left out when share and widths were fitted. What the share depends on was chosen on "
            "these same rows, among about ten sets: neither the device's share of the operations, nor the loss, nor "
            "the bytes, nor the whole network's accuracy made intervals better on pairs left out. So were the rule for "
            "numbers of classes beyond those of all other pairs, after the intervals had failed on such a pair, and "
            "the quantile over all pairs in place of the largest of the pairs, with which all splits lay inside.",
            "",
            f"**{inside.sum()} of {len(inside)} splits ({inside.mean():.1%}) lie in their 90 % interval; over the "
            f"pairs the mean is {mean_coverage:.1%}.** Half widths in points: mean {100 * widths.mean():.1f}, median "
            f"{100 * np.median(widths):.1f}, from {100 * widths.min():.1f} to {100 * widths.max():.1f}. The mean error "
            f"is {100 * np.abs(errors).mean():.1f} points.",
            "",
            "| pair left out | splits | in their interval | no prediction | half width, points | median | mean error | "
            "predicted less actual loss |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *lines,
            "",
            "\\* The number of classes is beyond that of all other pairs, so their share says nothing: the interval "
            "reaches from no loss to the loss in closed form.",
        ]
    )
