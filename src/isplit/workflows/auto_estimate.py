"""Estimate how long the phases of isplit.auto will take, from a timed batch and the number of images of each phase."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isplit.design.measure.speed import ModelSpeed
from isplit.design.predict_estimate import predict_seconds
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.records import Budget, CandidatesRecord, GraphRecord, PredictionsRecord, SplitRecord
from isplit.text import duration

# Figures of two runs in November 2026 (the demo's network, and MobileNetV2 at 96 pixels), in a processor's seconds.
_START_S = 3.0
_TRAINED = 1.5
_EXPORT_S = 3.0
_EXPORT_CUT_S = 0.8
"""Exporting takes longer for a model of more layers, of which the cuts are a measure."""


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """Hold the seconds that each phase will take. Work that a study holds already counts as done.

    `training_s` is the time of one training. There may be none.
    """

    analyze_s: float
    predict_s: float
    training_s: float
    export_s: float
    most_trainings: int

    @property
    def text(self) -> str:
        """The estimate as a sentence."""
        least_s = self.analyze_s + self.predict_s + self.export_s
        trainings = "training" if self.most_trainings == 1 else f"up to {self.most_trainings} trainings"
        each = "" if self.most_trainings == 1 else " each"
        return (
            "Rough estimate of the time, which may be off by a factor of two: "
            f"analyze {duration(self.analyze_s)}, predict {duration(self.predict_s)}, "
            f"export {duration(self.export_s)}, together {duration(least_s)}; where the plan asks for it, "
            f"{trainings} of {duration(self.training_s)}{each}."
        )


def estimate_time(
    speed: ModelSpeed,
    graph: GraphRecord,
    *,
    product_s: float,
    images: Mapping[str, int],
    budgets: Sequence[Budget],
    settings: tuple[AnalyzeSettings, PredictSettings, FitSettings],
    most_trainings: int,
    study: Path,
) -> TimeEstimate:
    """Estimate the time of the remaining work, to a factor of about two.

    Args:
        speed: The time that the model takes for an image.
        product_s: The time that `measure_product` measured on this machine.
        graph: The model's cuts. A split at a cut runs the model's operations behind the cut once more.
        images: The number of images of each part of the data.
        budgets: The budgets that are predicted.
        settings: The settings of analyze, predict and fit.
        most_trainings: The largest number of splits that may be trained.
        study: The study's directory, which need not exist.

    """
    analysis, prediction, training = settings
    forward_s, gradient_s = speed.forward_s, speed.gradient_s
    cuts = graph.curve_cuts
    tails = [cut.tail_macs / max(graph.macs, 1) for cut in cuts] or [0.0]
    # Which cut will be trained is not known. For a weak device it is rather an early one, which has a long tail.
    tail = (sum(tails) / len(tails) + max(tails)) / 2

    def count(limit: int | None, part: str) -> int:
        return images[part] if limit is None else min(limit, images[part])

    analyze_s = _START_S + count(analysis.images, "fit") * gradient_s + count(analysis.test_images, "test") * forward_s
    splits_s = predict_seconds(
        speed,
        product_s,
        cuts,
        budgets,
        settings=prediction,
        fit_images=images["fit"],
        select_images=images["select"],
    )
    predict_s = _START_S + splits_s * _share_to_predict(study, len(cuts) * len(budgets))
    fitted, judged = count(training.images, "fit"), count(training.select_images, "select")
    epochs = training.epochs + (training.feature_epochs or 0)
    # Features of mirrored images are kept beside the others. The split is judged before and after every epoch, and at
    # the end together with its closed form.
    features_s = (fitted * (2 if training.flip else 1) + judged) * forward_s
    epoch_s = tail * (fitted * _TRAINED * gradient_s + judged * forward_s)
    tested_s = (images["test"] * (1 + tail) + judged * (1 + 2 * tail)) * forward_s
    return TimeEstimate(
        analyze_s=0.0 if (study / CandidatesRecord.file_name).is_file() else analyze_s,
        predict_s=predict_s,
        training_s=_START_S + features_s + epochs * epoch_s + tested_s,
        export_s=_EXPORT_S + _EXPORT_CUT_S * len(graph.cuts) + 60 * forward_s,
        most_trainings=most_trainings,
    )


def _share_to_predict(study: Path, splits: int) -> float:
    """Return the share of the splits that have no prediction yet."""
    if not (study / PredictionsRecord.file_name).is_file():
        return 1.0
    known = sum(1 for _ in (study / "splits").glob(f"*/{SplitRecord.file_name}"))
    return max(1.0 - known / max(splits, 1), 0.0)
