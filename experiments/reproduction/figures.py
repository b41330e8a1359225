"""The figures of docs/experiments.md: importance over depth above the accuracies, one for a pair."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from truth import Row, Truth, predictors


def draw(truth: Truth, scores: Sequence[Row], path: Path) -> None:
    """Write the figure of a pair as SVG."""
    cuts = list(truth.rows)
    places = np.arange(len(cuts))

    def of_row(name: str) -> list[float]:
        return [truth.rows[cut][name] for cut in cuts]

    found = predictors(truth, scores)
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "isplit", "axes.spines.top": False}):
        figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, layout="constrained")
        if "cui" in found:
            values = found["cui"][0]
            upper.plot(places, [values[cut] for cut in cuts], "o-", color="#1d4f91")
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
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
