"""Intervals of the accuracy after training: fitted, and checked on pairs of network and data that were left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from sklearn.isotonic import IsotonicRegression
from truth import Row, loss_before

from isplit.design.measure.calibration import Calibration, IntervalWidth, width_features

COVERAGE = 0.9
_SMALLEST_WIDTH = 0.002
"""No interval is narrower: accuracies are counted on about a thousand images."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """The errors on the splits of a pair that a curve was not fitted to, with what widths depend on (N and N×4).

    Splits that lose more than any that the curve was fitted to are left out: nothing is predicted for them.
    """

    pair: str
    absolute: NDArray[np.float64]
    features: NDArray[np.float64]


def loss_after(row: Row) -> float:
    """Return what a trained split loses, on the test part."""
    return row["whole_test"] - row["trained_test"]


def fit_curve(rows: Sequence[Row]) -> tuple[tuple[float, float], ...]:
    """Fit the loss after training, on the test part, as a rising curve of the loss before it, on the select part."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(
        [loss_before(row) for row in rows], list(map(loss_after, rows))
    )
    return tuple(zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True))


def fit_calibration(rows: Sequence[Row], *, name: str = "", stderr: float = 0.0) -> Calibration:
    """Fit the curve to all rows, and the width to the errors on each of their pairs, left out in turn."""
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    errors = [errors_on(pair, rows) for pair in pairs] if len(pairs) > 1 else []
    return Calibration(name=name, splits=len(rows), curve=fit_curve(rows), stderr=stderr, width=fit_width(errors))


def errors_on(pair: str, rows: Sequence[Row]) -> Errors:
    """Predict a pair's splits from those of the other pairs among the rows."""
    curve = fit_curve([row for row in rows if row["pair"] != pair])
    return errors_of(Calibration(name="", splits=0, curve=curve, stderr=0, width=fit_width([])), pair, rows)


def errors_of(calibration: Calibration, pair: str, rows: Sequence[Row]) -> Errors:
    """Return the errors of a calibration on those splits of a pair that it covers."""
    covered = [row for row in rows if row["pair"] == pair and calibration.covers(loss_before(row))]
    # What is predicted is never above the whole model's accuracy.
    predicted = [max(calibration.loss_after(loss_before(row)), 0.0) for row in covered]
    return Errors(
        pair=pair,
        absolute=np.array([abs(loss_after(row) - loss) for row, loss in zip(covered, predicted, strict=True)]),
        features=np.array([features(row) for row in covered]),
    )


def features(row: Row) -> tuple[float, ...]:
    """Return what the width of a split's interval depends on."""
    kept_share = min(row["elements"] / (row["bytes"] / 4), 1.0)
    return width_features(loss_before(row), payload_bytes=row["payload_bytes"], kept_share=kept_share)


def fit_width(errors: Sequence[Errors]) -> IntervalWidth:
    """Fit the 90 % quantile of the errors, and scale it until it holds 90 % of the splits of every one of the pairs."""
    if not errors:
        return IntervalWidth(constant=1.0, per_loss=0.0, per_decade_of_bytes=0.0, per_decade_of_numbers=0.0)
    everything = np.concatenate([part.features for part in errors])
    coefficients = _quantile_regression(everything, np.concatenate([part.absolute for part in errors]))
    coefficients[0] = max(coefficients[0], _SMALLEST_WIDTH)
    scale = max(float(np.quantile(part.absolute / (part.features @ coefficients), COVERAGE)) for part in errors)
    constant, per_loss, per_bytes, per_numbers = (max(scale, 1.0) * coefficients).tolist()
    return IntervalWidth(
        constant=constant, per_loss=per_loss, per_decade_of_bytes=per_bytes, per_decade_of_numbers=per_numbers
    )


def _quantile_regression(inputs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients, none negative, that are best for the 90 % quantile (Koenker and Bassett 1978)."""
    count, width = inputs.shape
    costs = np.concatenate([np.zeros(width), np.full(count, COVERAGE), np.full(count, 1 - COVERAGE)])
    equations = np.hstack([inputs, np.eye(count), -np.eye(count)])
    return linprog(costs, A_eq=equations, b_eq=values, bounds=(0, None)).x[:width]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many splits of a pair that was left out lie in their intervals, and the half widths, as shares of images."""

    pair: str
    splits: int
    inside: int
    predicted_nothing: int
    widths: NDArray[np.float64]


def coverage(rows: Sequence[Row]) -> list[Coverage]:
    """Check the intervals of every pair, from a calibration of the other pairs alone."""
    results: list[Coverage] = []
    for pair in dict.fromkeys(row["pair"] for row in rows):
        fitted = fit_calibration([row for row in rows if row["pair"] != pair])
        errors = errors_of(fitted, pair, rows)
        width = fitted.width
        coefficients = [width.constant, width.per_loss, width.per_decade_of_bytes, width.per_decade_of_numbers]
        widths = errors.features @ np.array(coefficients)
        results.append(
            Coverage(
                pair=pair,
                splits=len(widths),
                inside=int((errors.absolute <= widths + 1e-9).sum()),
                predicted_nothing=sum(row["pair"] == pair for row in rows) - len(widths),
                widths=widths,
            )
        )
    return results


def coverage_text(rows: Sequence[Row]) -> str:
    """Say how many splits of pairs left out lie in their 90 % intervals, and how wide these are."""
    results = coverage(rows)
    inside, splits = sum(result.inside for result in results), sum(result.splits for result in results)
    widths = 100 * np.concatenate([result.widths for result in results])
    lines = [
        f"| {result.pair} | {result.splits} | {result.inside} ({result.inside / result.splits:.0%}) | "
        f"{result.predicted_nothing} | {100 * result.widths.min():.1f}–{100 * result.widths.max():.1f} |"
        for result in results
        if result.splits
    ]
    mean_coverage = fmean(result.inside / result.splits for result in results if result.splits)
    return "\n".join(
        [
            "## Intervals of the accuracy after training",
            "",
            "`predict` gives every split an interval of its own for its accuracy after training. Its width depends on "
            "the loss in closed form, on the payload and on the share of numbers that the latent keeps. Below, each "
            "pair was left out when curve and widths were fitted. The three things that the width depends on were "
            "chosen on these same rows, among about fifteen sets of them and three rules for the scale. Splits that "
            "lose more than any in the other pairs get no prediction.",
            "",
            f"**{inside} of {splits} splits ({inside / splits:.1%}) lie in their 90 % interval; over the pairs the "
            f"mean is {mean_coverage:.1%}.** Half widths in points: mean {widths.mean():.1f}, median "
            f"{np.median(widths):.1f}, from {widths.min():.1f} to {widths.max():.1f}.",
            "",
            "| pair left out | splits | in their interval | no prediction | half width, points |",
            "|---|--:|--:|--:|--:|",
            *lines,
        ]
    )
