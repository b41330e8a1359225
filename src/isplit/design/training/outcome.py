"""Compare a trained split with the closed form that it started from, and keep the better one."""

from dataclasses import dataclass

from isplit.design.devices import device_of
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.running import chosen_precision
from isplit.design.splits import BuiltSplit
from isplit.design.training.start import FitTask, StartingPoint
from isplit.progress import Progress
from isplit.records import Measurement, PartName

BUDGET_TOLERANCE = 0.02
"""The share by which a mean payload may be off the budget before a record has to say why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The split that is kept, and what decided that.

    Attributes:
        kept: The trained split, or the closed form if that was more accurate on the select part.
        select: The trained split on the select part.
        closed_form_select: The closed form on the same images; None for a random start.
        budget_note: Why the payload is not within 2 % of the budget; None where it is.

    """

    kept: BuiltSplit
    select: Measurement
    closed_form_select: Measurement | None
    budget_note: str | None


def compare_with_closed_form(
    task: FitTask, starting: StartingPoint, built: BuiltSplit, *, is_finest: bool, progress: Progress
) -> Outcome:
    """Compare the trained split with the closed form itself on the same images, and keep the better one."""
    before = starting.before
    candidates = [built] if before is None else [built, before]
    select, *others = measured(task, candidates, part="select", progress=progress)
    closed_form = others[0] if others else None
    kept, kept_select = built, select
    if before is not None and closed_form is not None and closed_form.accuracy.accuracy > select.accuracy.accuracy:
        kept, kept_select = before, closed_form
    note = _budget_note(task, kept_select, is_closed_form=kept is not built, is_finest=is_finest)
    return Outcome(kept=kept, select=select, closed_form_select=closed_form, budget_note=note)


def _budget_note(task: FitTask, select: Measurement, *, is_closed_form: bool, is_finest: bool) -> str | None:
    """Say why the mean payload on the select part is not within 2 % of the budget; None where it is."""
    budget_bytes, mean = task.budget.payload_bytes, select.payload_bytes.mean
    if budget_bytes is None or abs(mean / budget_bytes - 1) <= BUDGET_TOLERANCE:
        return None
    payload = f"payloads on the select part take {mean:.1f} of {budget_bytes} bytes"
    if is_closed_form:
        return f"{payload}: training gained nothing, so the closed form is kept as it was solved"
    if is_finest:
        return f"{payload}: at the finest quantiser, all information that the latents hold is sent"
    return f"{payload}: the next finer quantiser would take more than the budget"


def measured(task: FitTask, splits: list[BuiltSplit], *, part: PartName, progress: Progress) -> list[Measurement]:
    """Measure splits on the same images of a part."""
    view, settings = task.view, task.settings
    evaluations = evaluate_splits(
        view,
        splits,
        images=view.images(part, limit=settings.select_images if part == "select" else None),
        precision=chosen_precision(settings.precision, device=device_of(view.graph.module)),
        progress=progress,
        label=f"{task.cut.name}: accuracy on the {part} part",
    )
    return [measure(view, evaluation, part=part) for evaluation in evaluations]
