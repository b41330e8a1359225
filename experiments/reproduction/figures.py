"""The figures of docs/experiments.md: importance over depth above the accuracies, one figure for a data set."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from truth import RATIO, Row, Truth, predictors

BLUE, ORANGE, GREY, FAINT = "#1d4f91", "#c2571a", "#6b7280", "#a3abb8"


def draw(networks: Sequence[Sequence[Truth]], scores: Sequence[Row], path: Path) -> None:
    """Write the figure of a data set as SVG: a column for each network, which are its splits at one or two budgets."""
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "isplit", "axes.spines.top": False}):
        size = (3.9 * len(networks) + 0.4, 4.8)
        figure, axes = plt.subplots(2, len(networks), figsize=size, sharex="col", layout="constrained", squeeze=False)
        for number, (truths, upper, lower) in enumerate(zip(networks, axes[0], axes[1], strict=True)):
            upper.set_title(truths[0].pair)
            _importance(upper, truths[0], scores, first=number == 0, last=number == len(networks) - 1)
            _accuracies(lower, truths)
            if number == 0:
                lower.set_ylabel("accuracy on test, %")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _importance(axis: Axes, truth: Truth, scores: Sequence[Row], *, first: bool, last: bool) -> None:
    """Draw CUI and size, both over depth and on logarithmic axes, as the paper does."""
    cui = predictors(truth, scores)["cui"][0]
    places = np.arange(len(truth.rows))
    axis.plot(places, [cui[cut] for cut in truth.rows], "o-", color=BLUE, markersize=4)
    axis.set_yscale("log")
    size = axis.twinx()
    size.plot(places, [row["bytes"] / 1024 for row in truth.rows.values()], "s:", color=FAINT, markersize=3)
    size.set_yscale("log")
    if first:
        axis.set_ylabel("CUI (line)")
    if last:
        size.set_ylabel("size, KiB (dots)")


def _accuracies(axis: Axes, truths: Sequence[Truth]) -> None:
    """Draw the splits before and after training at every budget."""
    for truth, color in zip(truths, (BLUE, ORANGE), strict=False):
        places = np.arange(len(truth.rows))
        name = "one in 64" if truth.budget == RATIO else truth.budget.replace("B", " bytes")
        for field, label, style in (("closed_form_test", "closed form", "o--"), ("trained_test", "trained", "o-")):
            values = [100 * row[field] for row in truth.rows.values()]
            axis.plot(places, values, style, color=color, markersize=3, label=f"{name}, {label}")
    rows = truths[0].rows
    axis.axhline(100 * next(iter(rows.values()))["whole_test"], color=GREY, linewidth=0.8, label="whole model")
    axis.set_xticks(range(len(rows)), list(rows), rotation=90)
    axis.legend(frameon=False, fontsize=7, handlelength=3)
