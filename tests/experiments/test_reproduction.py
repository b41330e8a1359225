"""The reproduction's arithmetic, by hand on a few made-up splits: the report says what these functions return."""

import sys
from math import log
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "reproduction"))

from intervals import TrainedSplit, coverage, coverage_text, fit_calibration, pooled_quantile
from judge import calibrated, ceilings, judge, judge_all
from truth import Row, Truth, first_by_closed_form, first_by_cui, gather, is_whole, loss_before, predictors

WHOLE = 0.9


def line(
    cut: str, trained: float, *, pair: str = "one-tin20", network: str = "a", before: float = 0.5, **fields
) -> Row:
    return {
        "pair": pair,
        "weights_sha256": network,
        "group": "all classes",
        "budget": "1in64",
        "design": "linear",
        "seed": 0,
        "cut": cut,
        "depth": int(cut[1:]),
        "trained_test": trained,
        "trained_select": trained,
        "loss_stderr": 0.01,
        "whole_test": WHOLE,
        "whole_select": WHOLE,
        "closed_form_select": before,
        "closed_form_divergence": WHOLE - before,
        "cui": 1.0,
        "bytes": 400,
        "payload_bytes": 50.0,
        "fit_seconds": 10.0,
    } | fields


def scored(values: dict[str, float], *, network: str = "a", name: str = "cui") -> Row:
    return {
        "pair": "one-tin20",
        "weights_sha256": network,
        "predictor": name,
        "seconds": 3.0,
        "means": {"50": dict.fromkeys(values, 0.0), "500": values},
        "elements": dict.fromkeys(values, 2),
    }


def truth_of(*lines: Row, **wanted) -> Truth:
    truth = gather(lines, lines[0]["pair"], **wanted)
    assert truth is not None
    return truth


def test_a_truth_is_of_one_network() -> None:
    """Of that with the most splits, of equal ones the first; in the order of computation; never of another budget."""
    lines = [line("c2", 0.7), line("c1", 0.6), line("c1", 0.1, network="b"), line("c3", 0.2, budget="30B")]

    assert [("c1", 0.6), ("c2", 0.7)] == list(truth_of(*lines).trained.items())
    assert {"c1": 0.1} == truth_of(*lines, network="b").trained
    assert "a" == truth_of(line("c1", 0.6), line("c1", 0.1, network="b")).network
    assert gather(lines, "one-tin20", design="undercomplete") is None
    assert 20 == truth_of(*lines).seconds


def test_predictors_are_of_the_truths_network() -> None:
    """Scores of another training of the network count neither as predictor nor as reason to call a truth whole."""
    truth = truth_of(line("c1", 0.6), line("c2", 0.7, before=0.8))
    scores = [scored({"c1": 1.0, "c2": 2.0}), scored({"c1": 9.0, "c2": 1.0}, network="b")]

    assert is_whole(truth, scores)
    assert not is_whole(truth, scores[1:])
    assert not is_whole(truth_of(line("c1", 0.6)), scores)
    values = predictors(truth, scores)
    assert ({"c1": 1.0, "c2": 2.0}, 3.0) == values["cui"]
    assert {"c1": 2.0, "c2": 4.0} == values["cui, summed over channels and positions"][0]
    assert {"c1": -400.0, "c2": -400.0} == values["size"][0]
    assert {"c1": pytest.approx(0.5), "c2": pytest.approx(0.8)} == values["closed form"][0]


def test_judgement_by_hand() -> None:
    """Two of three pairs of cuts in the right order: τ 1/3; the first choice is 5 points below the best."""
    truth = truth_of(line("c1", 0.60), line("c2", 0.70), line("c3", 0.65))
    judgement = judge(truth, {"c1": 0.50, "c2": 0.66, "c3": 0.69}, accuracies=True, seconds=3.0)

    assert pytest.approx(1 / 3) == judgement.tau
    assert pytest.approx(5) == judgement.first_regret
    assert 0 == judgement.three_regret
    assert pytest.approx((10 + 4 + 4) / 3) == judgement.error_points
    assert pytest.approx(10) == judgement.cost_percent
    assert judgement.clear_tau is None  # three pairs of cuts are too few to say


def test_ceilings_compare_like_with_like() -> None:
    """Seeds within the network that has both; networks with each other; neither where a cut is missing."""
    first = [line("c1", 0.6), line("c2", 0.7)]
    again = [line("c1", 0.8, network="b"), line("c2", 0.5, network="b")]
    seeds = [line("c1", 0.5, network="b", seed=1), line("c2", 0.8, network="b", seed=1)]
    truth = truth_of(*first)
    select, other_seed, other_network = ceilings([truth], [*first, *again, *seeds]).values()

    assert 1 == select[0].tau
    # Seeds disagree within network b, where c1 is the best and the other seed would choose c2.
    assert (-1, pytest.approx(30)) == (other_seed[0].tau, other_seed[0].first_regret)
    assert (-1, pytest.approx(10)) == (other_network[0].tau, other_network[0].first_regret)
    assert 1 == len(ceilings([truth], [*first, again[0], seeds[0]]))


def test_calibration_leaves_the_pair_out() -> None:
    """A pair's own outcome changes nothing about what is predicted for it: of others' losses, half remained."""
    others = [truth_of(line("c1", 0.7, pair="two-tin20", before=0.5), line("c2", 0.85, pair="two-tin20", before=0.8))]
    for trained in (0.1, 0.9):
        truth = truth_of(line("c1", trained, before=0.65), line("c2", trained, before=0.8))
        judgements = judge_all([truth], [truth, *others], [scored({"c1": 1.0, "c2": 2.0}, name="closed form")])
        expected = {"c1": WHOLE - 0.125, "c2": WHOLE - 0.05}
        assert pytest.approx(expected, abs=1e-3) == calibrated(truth, others)
        error = 100 * sum(abs(value - trained) for value in expected.values()) / 2
        assert pytest.approx(error, abs=0.1) == judgements["closed form, calibrated"][0].error_points
    assert pytest.approx(0.25) == loss_before(truth.rows["c1"])


def splits_of(pair: str, share: float, *, classes: int = 10) -> list[TrainedSplit]:
    """Return splits of which the same share of the loss remains, and three that lose nothing, to a point."""
    losses = [(loss / 20, share * loss / 20) for loss in range(1, 11)] + [(0.0, 0.0), (0.0, 0.01), (0.0, -0.005)]
    return [TrainedSplit(pair=pair, classes=classes, before=before, after=after) for before, after in losses]


def test_widths_are_those_that_a_pair_left_out_needs() -> None:
    """Pairs that keep a third and half of their losses are predicted from each other, to the point without a loss."""
    fitted = fit_calibration([*splits_of("one", 1 / 3), *splits_of("two", 1 / 2)])

    assert pytest.approx(0.01) == fitted.noise
    assert 1 / 3 < fitted.remaining.at(10) < 1 / 2
    # The odds are 1/2 and 1; noise takes a part of the distance, most where losses are small.
    assert 0.5 * log(2) < fitted.spread < log(2)
    assert (10, 10, 0.5) == (fitted.fewest_classes, fitted.most_classes, fitted.largest_loss)


def test_pairs_weigh_alike_in_a_quantile() -> None:
    """Nine tenths of the mean of two distributions: the pair of a hundred splits does not drown that of five."""
    few, many = np.array([5.0, 1.0, 2.0, 4.0, 3.0]), np.zeros(100)

    assert 4.0 == pooled_quantile([few, many], default=9.0)
    assert 9.0 == pooled_quantile([np.arange(1.0, 11.0)], default=0.0)
    assert 9.0 == pooled_quantile([], default=9.0)


def test_a_number_of_classes_that_no_other_pair_reaches() -> None:
    """Other pairs say nothing about it, so the interval reaches from no loss to all of it."""
    splits = [*splits_of("one", 0.3), *splits_of("two", 0.3), *splits_of("many", 0.9, classes=100)]
    results = {result.pair: result for result in coverage(splits)}

    assert [True, True, False] == [result.known for result in results.values()]
    assert results["many"].inside.all()
    assert pytest.approx(0.25 + 0.01) == results["many"].widths.max()
    assert "many *" in coverage_text(splits)
    # The pair counts with what it needs when it is among those that the share is from.
    assert fit_calibration(splits).remaining.at(100) == pytest.approx(0.9, abs=0.05)


def test_first_choices() -> None:
    """By importance the highest interior local maximum, not the end; by the closed form the one that moves least."""
    curves = {
        "cui": {"c1": 1.0, "c2": 3.0, "c3": 2.0, "c4": 9.0},
        "closed_form_select": {"c1": 0.8, "c2": 0.7, "c3": 0.8, "c4": 0.6},
        "closed_form_divergence": {"c1": 0.3, "c2": 0.1, "c3": 0.2, "c4": 0.0},
    }

    assert "c2" == first_by_cui(curves)
    assert "c3" == first_by_closed_form(curves)
