"""Kendall's tau and regret, worked out by hand."""

import pytest

from isplit.design.measure.ranking import kendall_tau, regret, score_predictors
from isplit.records import VerifiedCut
from tests.design.conftest import measured


def cut(name, depth, *, cui, size, before, after, calibrated=None):
    return VerifiedCut(
        cut=name,
        cui=cui,
        bytes=size,
        depth=depth,
        closed_form=measured(before, whole=92),
        calibrated_accuracy=calibrated,
        trained=measured(after, whole=90),
    )


CUTS = [
    cut("a", 1, cui=0.1, size=400, before=50, after=70),
    cut("b", 2, cui=0.4, size=100, before=60, after=75),
    cut("c", 3, cui=0.2, size=200, before=55, after=80),
    cut("d", 4, cui=None, size=100, before=70, after=90),
]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [10, 20, 30], 1),
        ([1, 2, 3], [30, 20, 10], -1),
        # Pairs: 5 agree, 1 does not.
        ([1, 2, 3, 4], [1, 3, 2, 4], 4 / 6),
        # One tie in the first: 2 of 3 pairs agree, and tau-b divides by the root of 2 x 3.
        ([1, 1, 2], [1, 2, 3], 2 / 6**0.5),
        ([1, 1], [1, 2], None),
        ([1], [1], None),
    ],
)
def test_kendall_tau(first, second, expected):
    """Tau-b counts pairs in the same order less those in the other, over those that could be."""
    assert pytest.approx(expected) == kendall_tau(first, second)


@pytest.mark.parametrize(("choices", "expected"), [(1, 20), (2, 10), (3, 0)])
def test_regret(choices, expected):
    """Regret is what the best of the first choices lacks of the best of all; of equal scores the first is chosen."""
    assert expected == regret([5, 5, 4, 1], [70, 80, 90, 60], choices=choices, best=90)


def test_scores_by_hand():
    """Every predictor is judged over the cuts it has a score for; regret is against the best of all."""
    scores = {score.predictor: score for score in score_predictors(CUTS)}
    assert ["cui", "size", "depth", "closed-form"] == list(scores)
    cui = scores["cui"]
    assert (3, "b") == (cui.cuts, cui.top1)
    assert pytest.approx(1 / 3) == cui.kendall_tau  # a<b and a<c agree, b>c does not
    assert (15, 10, None) == tuple(
        pytest.approx(value) if value is not None else None
        for value in (cui.top1_regret_points, cui.top3_regret_points, cui.mean_absolute_error_points)
    )
    assert 1 == scores["depth"].kendall_tau
    size = scores["size"]
    assert "b" == size.top1
    assert pytest.approx(3 / (6 * 5) ** 0.5) == size.kendall_tau  # b = d tie; 4 pairs agree, b>c does not
    closed = scores["closed-form"]
    assert pytest.approx(4 / 6) == closed.kendall_tau
    # The whole model gets two points less on the test part, and so does what was predicted.
    assert pytest.approx((22 + 17 + 27 + 22) / 4) == closed.mean_absolute_error_points


def test_calibrated_where_there_is_a_calibration():
    """The calibrated prediction is judged like the others once there is one."""
    cuts = [cut.model_copy(update={"calibrated_accuracy": 0.7}) for cut in CUTS]
    score = score_predictors(cuts)[-1]
    assert ("calibrated", None) == (score.predictor, score.kendall_tau)
    assert pytest.approx((2 + 7 + 12 + 22) / 4) == score.mean_absolute_error_points


def test_closeness_orders_splits_of_equal_accuracy():
    """Where the divergence was measured, accuracy + e^(-divergence) is a predictor as well."""
    divergences = [1.0, 0.5, 0.1, 0.2]
    cuts = [
        cut.model_copy(
            update={"closed_form": measured(60, whole=92).model_copy(update={"divergence_nats": divergence_nats})}
        )
        for cut, divergence_nats in zip(CUTS, divergences, strict=True)
    ]
    closeness = {score.predictor: score for score in score_predictors(cuts)}["closeness"]
    assert ("c", None) == (closeness.top1, closeness.mean_absolute_error_points)
    assert pytest.approx(10) == closeness.top1_regret_points
    assert pytest.approx(4 / 6) == closeness.kendall_tau  # all pairs agree but c and d
    assert pytest.approx(0.6 + 0.9048374) == cuts[2].closed_form.closeness


def test_nothing_known():
    """A predictor that knows no cut has no figures."""
    cuts = [cut.model_copy(update={"cui": None}) for cut in CUTS]
    assert (0, None, None) == (lambda score: (score.cuts, score.top1, score.kendall_tau))(score_predictors(cuts)[0])
