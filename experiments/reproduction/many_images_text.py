"""The section of docs/experiments.md on the truth with 5,000 test images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from truth import RATIO, Row, read, unpacked

from isplit.design.measure.ranking import kendall_tau, regret
from isplit.records.splits import closeness

MAC_LIMITS = (0.25, 0.5, 0.75)
_RESAMPLES = 400
_SEED = 0
_Scores = Sequence[float]


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitSet:
    """All splits of one budget and seed, in the order of computation.

    Attributes:
        budget: The budget's tag.
        rows: A line for each cut (C).
        right: Whether each split is right on each test image (C×N).

    """

    budget: str
    rows: Sequence[Row]
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Accuracy of each trained split on the test part (C)."""
        return self.right.mean(1)

    def scores(self) -> dict[str, _Scores]:
        """Return what each predictor says of the cuts before training; more is better."""
        return {
            "closed form": [row["closed_form_select"] for row in self.rows],
            "closed form, divergence": [-row["closed_form_divergence"] for row in self.rows],
            "closed form, closeness": [
                closeness(row["closed_form_select"], row["closed_form_divergence"]) for row in self.rows
            ],
            "CUI": [row["cui"] or 0.0 for row in self.rows],
            "size": [-float(row["bytes"]) for row in self.rows],
            "depth": [float(row["depth"]) for row in self.rows],
        }


def split_sets() -> dict[tuple[str, int], SplitSet]:
    """Return the sets that are whole, by budget and seed; all of a budget are of the network with the most of them."""
    lines = read("many-images")
    sets: dict[tuple[str, str, int], SplitSet] = {}
    for answer in read("many-images-answers"):
        key = answer["weights_sha256"], answer["budget"], answer["seed"]
        rows = [row for row in lines if (row["weights_sha256"], row["budget"], row["seed"]) == key]
        rows.sort(key=lambda row: row["depth"])
        if not rows or any(row["cut"] not in answer["right"] for row in rows):
            continue
        right = np.array([unpacked(answer["right"][row["cut"]], answer["images"]) for row in rows])
        sets[key] = SplitSet(budget=answer["budget"], rows=rows, right=right)
    cuts = max((len(of_budget.rows) for of_budget in sets.values()), default=0)
    whole = [key for key, of_budget in sets.items() if len(of_budget.rows) == cuts]
    most: dict[str, str] = {}
    for budget in {budget for _, budget, _ in whole}:
        networks = [network for network, of_budget, _ in whole if of_budget == budget]
        most[budget] = max(networks, key=networks.count)
    return {key[1:]: sets[key] for key in whole if most[key[1]] == key[0]}


def many_images_section(table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]) -> str:
    """Return the section; empty while no set is whole."""
    sets = split_sets()
    if not sets:
        return ""
    first = {budget: of_budget for (budget, seed), of_budget in sets.items() if seed == 0}
    example = next(iter(first.values()))
    return "\n\n".join(
        [
            "## A truth with 5,000 test images",
            f"A thousand test images cannot tell cuts apart whose accuracies differ by a point. MobileNetV2 with "
            f"ImageNet weights was therefore fine-tuned on tiny-imagenet-100 at 96 pixels "
            f"({100 * example.rows[0]['whole_test']:.1f} % on {example.right.shape[1]:,} test images) and split at "
            f"{len(example.rows)} cuts: after the stem, each block and the last convolution, and at three cuts inside "
            f"blocks. Training is the same as above. Intervals hold 95 % of {_RESAMPLES} bootstrap resamples of the "
            f"test images.{_other_networks(first, example)}",
            table(*_ranking_table(first)),
            _ceilings(sets),
            *([_bytes_of_ratio(first[RATIO])] if RATIO in first else []),
            f"The splits at {budget_words(example.budget)} were predicted with an earlier calibration, a curve that "
            f"was fitted to the six other pairs. {_calibration(example)} Therefore it was replaced (see above).",
            "**Under a limit of device MACs.** Depth cannot answer how shallow a cut may be, because its choice is "
            "always the deepest cut that the limit allows. The table shows the choice of each predictor among the cuts "
            "whose head and encoder stay within the limit, and by how many points the best of those cuts exceeds it "
            "after training.",
            table(*_limits_table(first)),
        ]
    )


def _other_networks(sets: Mapping[str, SplitSet], example: SplitSet) -> str:
    """Say which sets are of the network after it was trained again; empty where all are of one."""
    budgets: dict[tuple[str, float], list[str]] = {}
    for budget, of_budget in sets.items():
        row = of_budget.rows[0]
        if row["weights_sha256"] != example.rows[0]["weights_sha256"]:
            budgets.setdefault((row["weights_sha256"], row["whole_test"]), []).append(budget_words(budget))
    return "".join(
        f" The splits at {' and '.join(words)} are of the network after it was trained again by the same recipe on "
        f"another machine ({100 * whole:.1f} %)."
        for (_, whole), words in budgets.items()
    )


def _ranking_table(sets: Mapping[str, SplitSet]) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    for budget, of_budget in sets.items():
        best = float(of_budget.accuracy.max())
        for name, scores in of_budget.scores().items():
            low, high = _interval(of_budget, scores)
            tau = kendall_tau(scores, of_budget.accuracy.tolist()) or 0.0
            regrets = [100 * regret(scores, of_budget.accuracy.tolist(), choices=count, best=best) for count in (1, 3)]
            rows.append(
                [budget_words(budget), name, f"{tau:+.2f}", f"{low:+.2f} to {high:+.2f}", *map(_points, regrets)]
            )
    return ["budget", "predictor", "τ", "95 % interval", "regret of the first", "of the best of three"], rows


def _interval(of_budget: SplitSet, scores: _Scores) -> tuple[float, float]:
    rng = np.random.default_rng(_SEED)
    count = of_budget.right.shape[1]
    taus = [
        kendall_tau(scores, of_budget.right[:, rng.integers(0, count, count)].mean(1).tolist()) or 0.0
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(taus, (0.025, 0.975))
    return float(low), float(high)


def _ceilings(sets: Mapping[tuple[str, int], SplitSet]) -> str:
    """Say how well two measurements of the same splits agree, and two trainings."""
    rng = np.random.default_rng(_SEED)
    sentences: list[str] = []
    for (budget, seed), of_budget in sets.items():
        if seed:
            continue
        taus: list[float] = []
        for _ in range(_RESAMPLES // 4):
            order = rng.permutation(of_budget.right.shape[1])
            halves = (of_budget.right[:, part].mean(1).tolist() for part in np.array_split(order, 2))
            taus.append(kendall_tau(*halves) or 0.0)
        spread = 100 * float(np.ptp(of_budget.accuracy))
        words = (
            f"{budget_words(budget)}: the cuts lie {spread:.1f} points apart, two halves of the test part agree with "
            f"τ {fmean(taus):+.2f}"
        )
        again = sets.get((budget, 1))
        if again is not None:
            tau = kendall_tau(of_budget.accuracy.tolist(), again.accuracy.tolist()) or 0.0
            words += f", and two trainings from different seeds with {tau:+.2f}"
        sentences.append(words)
    return f"**What a predictor can reach.** {'; '.join(sentences)}."


def _bytes_of_ratio(of_ratio: SplitSet) -> str:
    """Say how far apart the bytes of the cuts are where each sends the same share of its elements."""
    ordered = sorted(of_ratio.rows, key=lambda row: row["payload_bytes"])
    least, most = ordered[0], ordered[-1]
    return (
        f"**At one in 64 of the elements, bytes differ from cut to cut**: a mean payload has "
        f"{least['payload_bytes']:.0f} bytes after `{least['cut']}` and {most['payload_bytes']:.0f} after "
        f"`{most['cut']}`. Where a tensor is small, so few numbers lose much; depth and size put small tensors "
        f"first."
    )


def _calibration(of_budget: SplitSet) -> str:
    errors: list[float] = []
    inside: list[bool] = []
    unpredicted = 0
    for row, accuracy in zip(of_budget.rows, of_budget.accuracy, strict=True):
        if row["predicted_accuracy"] is None:
            unpredicted += 1
            continue
        # The prediction is on the select part: it is moved by what the whole model differs between the parts.
        shift = row["whole_test"] - row["whole_select"]
        errors.append(100 * abs(row["predicted_accuracy"] + shift - accuracy))
        inside.append(row["predicted_low"] + shift <= accuracy <= row["predicted_high"] + shift)
    if not errors:
        return "It predicts none of these splits: they lose more than any that it was fitted to."
    return (
        f"Of {len(errors) + unpredicted} splits it predicts {len(errors)}, with a mean error of {fmean(errors):.1f} "
        f"points; {sum(inside)} of them ({100 * fmean(inside):.0f} %) lie in their 90 % interval."
        + (" The others lose more in closed form than any split that it was fitted to." if unpredicted else "")
    )


def _limits_table(sets: Mapping[str, SplitSet]) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    for budget, of_budget in sets.items():
        for limit in MAC_LIMITS:
            allowed = [place for place, row in enumerate(of_budget.rows) if row["head_mac_share"] <= limit]
            if not allowed:
                continue
            best = max(allowed, key=lambda place: of_budget.accuracy[place])
            cells: list[str] = []
            for scores in of_budget.scores().values():
                choice = max(allowed, key=lambda place: scores[place])
                lost = 100 * (of_budget.accuracy[best] - of_budget.accuracy[choice])
                cells.append(f"{of_budget.rows[choice]['cut']} ({lost:.1f})")
            best_cell = f"{of_budget.rows[best]['cut']} ({100 * of_budget.accuracy[best]:.1f} %)"
            rows.append([budget_words(budget), f"{limit:.0%}", str(len(allowed)), best_cell, *cells])
    names = next(iter(sets.values())).scores()
    return ["budget", "MACs at most", "cuts", "best (accuracy)", *names], rows


def budget_words(budget: str) -> str:
    """Write a budget's tag in words."""
    return "one in 64" if budget == "1in64" else budget.replace("B", " bytes")


def _points(value: float) -> str:
    return f"{value:.1f}"
