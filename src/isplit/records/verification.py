"""Record how well the choice of a cut before training agrees with the accuracy of every cut after training."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from isplit.records.base import Amount, ComputedOn, Count, Part, Share
from isplit.records.budget import RecordedBudget
from isplit.records.splits import Design, Measurement
from isplit.records.tables import TableRecord

Predictor = Literal["cui", "size", "depth", "closed-form", "closeness", "calibrated"]


class VerifiedCut(Part):
    """A cut as it was judged before training, and its result.

    `cui` is its importance (None if the curve does not cover it), `bytes` the size of the crossing tensors as fp32,
    and `depth` its number in the order of computation. `closed_form` was measured on the select part without training,
    and `calibrated_accuracy` is predicted from it (None without a calibration). `trained` is measured on the test
    part.
    """

    cut: str
    cui: float | None
    bytes: Count
    depth: Count
    closed_form: Measurement
    calibrated_accuracy: Share | None
    trained: Measurement


class PredictorScore(Part):
    """How well one way to choose ranked the cuts.

    Chosen first is the highest importance ("cui"), the fewest bytes ("size"), the deepest cut ("depth"), or the highest
    accuracy without training ("closed-form"), the same with the divergence ("closeness": `Measurement.closeness`), or
    the highest accuracy predicted from it ("calibrated"). `kendall_tau` is tau-b over `cuts` cuts (None where one side
    is constant or fewer than two are left). Regrets are accuracy points (of 100) by which the best cut of all beats the
    first choice, or the best of the first three. `mean_absolute_error` is of the predicted accuracy, in points; None
    for what predicts no accuracy. What was predicted on the select part is moved to the test part by the difference of
    the whole model's accuracies on the two.
    """

    predictor: Predictor
    cuts: Count
    kendall_tau: Annotated[float, Field(ge=-1, le=1)] | None
    top1: str | None
    top1_regret_points: Amount | None
    top3_regret_points: Amount | None
    mean_absolute_error_points: Amount | None


class Verification(Part):
    """All cuts trained for one budget and set of classes, in the order of computation, and the predictors' scores."""

    group: str
    budget: RecordedBudget
    design: Design
    cuts: tuple[VerifiedCut, ...]
    scores: tuple[PredictorScore, ...]
    epochs: Count
    training_seconds: Amount
    device: ComputedOn = None


class VerificationRecord(TableRecord):
    """verification.json: one verification for each budget and set of classes."""

    schema_name: ClassVar[str] = "isplit.verification/1"
    file_name: ClassVar[str] = "verification.json"
    remedy: ClassVar[str] = "delete the file and run `isplit verify {directory}` again"
    rows_field: ClassVar[str] = "verifications"

    verifications: tuple[Verification, ...]

    def _rows(self) -> list[dict[str, Any]]:
        """Return one row for each trained cut of each verification."""
        return [
            {
                "group": verification.group,
                "budget": verification.budget.tag,
                "cut": row.cut,
                "cui": row.cui,
                "bytes": row.bytes,
                "depth": row.depth,
                "closed_form_accuracy": row.closed_form.accuracy.accuracy,
                "calibrated_accuracy": row.calibrated_accuracy,
                **row.trained.row(),
            }
            for verification in self.verifications
            for row in verification.cuts
        ]
