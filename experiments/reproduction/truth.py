"""The trained splits as ground truth, and every predictor's scores of them."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isplit.design.importance.candidates import interior_maxima
from isplit.records.splits import closeness

# The scripts above are found from wherever this one was started.
sys.path.append(str(Path(__file__).parents[1]))
from result_rows import Row
from result_rows import packed as packed
from result_rows import read_rows as read_rows
from result_rows import unpacked as unpacked

RESULTS = Path(__file__).parent / "results"
RATIO = "1in64"

Scores = Mapping[str, float]
"""Cut to what a predictor says of it; more is better."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The trained splits of one pair, budget and set of classes: cut to its line, in the order of computation.

    `network` is the SHA-256 of the weights: a pair's network may have been trained more than once.
    """

    pair: str
    network: str
    group: str
    budget: str
    rows: Mapping[str, Row]

    @property
    def trained(self) -> dict[str, float]:
        """Accuracy on the test part after training."""
        return {cut: row["trained_test"] for cut, row in self.rows.items()}

    @property
    def seconds(self) -> float:
        """What training all of them took, features and judging the epochs included."""
        return sum(row["fit_seconds"] for row in self.rows.values())


def read(name: str) -> list[Row]:
    """Return the lines of a results file."""
    return read_rows(RESULTS / f"{name}.jsonl")


def gather(
    lines: Sequence[Row],
    pair: str,
    *,
    group: str = "all classes",
    budget: str = RATIO,
    design: str = "linear",
    seed: int = 0,
    network: str | None = None,
) -> Truth | None:
    """Return the splits that were trained alike, None where there are none.

    They are of one network: without `network`, of that with the most of them, and of equal ones the first.
    """
    chosen = [
        row
        for row in lines
        if (row["pair"], row["group"], row["budget"], row["design"], row["seed"]) == (pair, group, budget, design, seed)
        and network in (None, row["weights_sha256"])
    ]
    if not chosen:
        return None
    ((most, _),) = Counter(row["weights_sha256"] for row in chosen).most_common(1)
    rows_of_network = [row for row in chosen if row["weights_sha256"] == most]
    rows = {row["cut"]: row for row in sorted(rows_of_network, key=lambda row: row["depth"])}
    return Truth(pair=pair, network=most, group=group, budget=budget, rows=rows)


def scores_of(truth: Truth, scores: Sequence[Row]) -> list[Row]:
    """Return the predictors' lines that are of the same network."""
    return [row for row in scores if (row["pair"], row["weights_sha256"]) == (truth.pair, truth.network)]


def first_by_cui(curves: Row) -> str:
    """Return the highest local maximum of importance between the ends: the cut that the paper would choose first."""
    cuts, values = list(curves["cui"]), [value or 0.0 for value in curves["cui"].values()]
    inner = [first for first, _ in interior_maxima(values)]
    return cuts[max(inner or range(len(values)), key=lambda place: values[place])]


def first_by_closed_form(curves: Row) -> str:
    """Return the cut whose closed form is the most accurate on select; of equal ones, the one that moves least."""
    accuracy, moved = curves["closed_form_select"], curves["closed_form_divergence"]
    return max(accuracy, key=lambda cut: (accuracy[cut], -moved[cut]))


def is_whole(truth: Truth, scores: Sequence[Row]) -> bool:
    """Whether every cut of the pair is trained and scored: a ranking of some of them would say little."""
    cuts_scored = [set(row["elements"]) for row in scores_of(truth, scores)]
    return bool(cuts_scored) and all(cuts == set(truth.rows) for cuts in cuts_scored)


def predictors(truth: Truth, scores: Sequence[Row]) -> dict[str, tuple[Scores, float | None]]:
    """Return every predictor's scores of a pair's cuts, and the seconds it takes (None: next to nothing)."""
    scores_by_name: dict[str, tuple[Scores, float | None]] = {}
    rows = scores_of(truth, scores)
    for row in rows:
        if row["predictor"] == "closed form":
            continue
        means = row["means"][max(row["means"], key=int)]
        scores_by_name[row["predictor"]] = {cut: means[cut] for cut in truth.rows}, row["seconds"]
        if row["predictor"] == "cui":
            sums = {cut: means[cut] * row["elements"][cut] for cut in truth.rows}
            scores_by_name["cui, summed over channels and positions"] = sums, row["seconds"]
    scores_by_name["size"] = {cut: -float(row["bytes"]) for cut, row in truth.rows.items()}, None
    scores_by_name["depth"] = {cut: float(row["depth"]) for cut, row in truth.rows.items()}, None
    if truth.budget == RATIO:
        scores_by_name["payload, more first"] = (
            {cut: float(row["payload_bytes"]) for cut, row in truth.rows.items()},
            None,
        )
    seconds = next((row["seconds"] for row in rows if row["predictor"] == "closed form"), None)
    scores_by_name["closed form"] = (
        {cut: row["whole_test"] - loss_before(row) for cut, row in truth.rows.items()},
        seconds,
    )
    if all(row.get("closed_form_divergence") is not None for row in truth.rows.values()):
        moved = {cut: -float(row["closed_form_divergence"]) for cut, row in truth.rows.items()}
        scores_by_name["closed form, divergence"] = moved, seconds
        scores_by_name["closed form, closeness"] = (
            {
                cut: closeness(row["closed_form_select"], row["closed_form_divergence"])
                for cut, row in truth.rows.items()
            },
            seconds,
        )
    return scores_by_name


def loss_before(row: Row) -> float:
    """Return what a split loses in closed form, on the select part.

    The whole model's own accuracy on the test part is known before any split is: less this loss, it is what the
    closed form says of the split there.
    """
    return row["whole_select"] - row["closed_form_select"]
