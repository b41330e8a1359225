"""Judge how well a score that is known before training ranks the accuracies after training."""

from collections.abc import Sequence
from typing import Any

from isplit.records import Predictor, PredictorScore, VerifiedCut


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two lists of scores of the same items (Kendall 1945).

    A pair that is tied in either list counts neither for nor against the agreement. The result is None for fewer than
    two items, or where all scores of one list are equal.
    """
    if len(first) < 2 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    # scipy.stats takes over a second to import, and only `verify` comes here.
    from scipy.stats import kendalltau

    result: Any = kendalltau(first, second, variant="b")
    return float(result.statistic)


def regret(scores: Sequence[float], truth: Sequence[float], *, choices: int, best: float) -> float:
    """Return by how much `best` exceeds the best truth among the `choices` highest scores.

    Of equal scores, the first counts as higher.
    """
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return best - max(truth[place] for place in order[:choices])


def score_predictors(cuts: Sequence[VerifiedCut]) -> tuple[PredictorScore, ...]:
    """Judge every predictor over cuts in the order of computation.

    Closeness is among them where the divergence was measured, and the calibrated one where there is a calibration.
    """
    scores: dict[Predictor, list[float | None]] = {
        "cui": [cut.cui for cut in cuts],
        "size": [-float(cut.bytes) for cut in cuts],
        "depth": [float(cut.depth) for cut in cuts],
        "closed-form": [cut.closed_form.accuracy.accuracy for cut in cuts],
        "closeness": [cut.closed_form.closeness for cut in cuts],
        "calibrated": [cut.calibrated_accuracy for cut in cuts],
    }
    for optional in ("closeness", "calibrated"):
        if all(value is None for value in scores[optional]):
            del scores[optional]
    return tuple(_score(name, values, cuts) for name, values in scores.items())


def _on_test(accuracy: float, cut: VerifiedCut) -> float:
    """Move an accuracy from the select to the test part, where it lies as far below the whole model's."""
    return cut.trained.whole.accuracy - (cut.closed_form.whole.accuracy - accuracy)


def _score(predictor: Predictor, values: Sequence[float | None], cuts: Sequence[VerifiedCut]) -> PredictorScore:
    pairs = [(value, cut) for value, cut in zip(values, cuts, strict=True) if value is not None]
    if not pairs:
        return PredictorScore(
            predictor=predictor,
            cuts=0,
            kendall_tau=None,
            top1=None,
            top1_regret_points=None,
            top3_regret_points=None,
            mean_absolute_error_points=None,
        )
    known = [value for value, _ in pairs]
    truth = [cut.trained.accuracy.accuracy for _, cut in pairs]
    best = max(cut.trained.accuracy.accuracy for cut in cuts)
    errors = [abs(_on_test(value, cut) - true) for (value, cut), true in zip(pairs, truth, strict=True)]
    return PredictorScore(
        predictor=predictor,
        cuts=len(pairs),
        kendall_tau=kendall_tau(known, truth),
        top1=pairs[known.index(max(known))][1].cut,
        top1_regret_points=100 * regret(known, truth, choices=1, best=best),
        top3_regret_points=100 * regret(known, truth, choices=3, best=best),
        mean_absolute_error_points=(
            100 * sum(errors) / len(errors) if predictor in ("closed-form", "calibrated") else None
        ),
    )
