"""Compare a trained split with the closed form that it started from, and keep the better one."""

from dataclasses import dataclass, replace

from isplit.design.devices import device_of
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.running import chosen_precision
from isplit.design.splits import BuiltSplit
from isplit.design.training.rate import CodedLatents
from isplit.design.training.start import FitTask, StartingPoint
from isplit.progress import Progress
from isplit.records import Measurement, PartName

BUDGET_TOLERANCE = 0.02
"""The share by which a mean payload may be off the budget before a record has to say why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Hold the split that is kept, and the measurements that decided it.

    Attributes:
        kept: The trained split, or the closed form if that was more accurate on the select part.
        is_closed_form: Whether `kept` is the closed form, perhaps with another quantiser and other tables.
        select: The measurement of the trained split on the select part.
        closed_form_select: The measurement of the closed form as it was solved, on the same images. None for a random
            start.
        budget_note: The reason why the payload is not within 2 % of the budget. None where it is.

    """

    kept: BuiltSplit
    is_closed_form: bool
    select: Measurement
    closed_form_select: Measurement | None
    budget_note: str | None


def compare_with_closed_form(
    task: FitTask,
    starting: StartingPoint,
    built: BuiltSplit,
    *,
    at_budget: CodedLatents | None,
    is_finest: bool,
    progress: Progress,
) -> Outcome:
    """Compare the trained split with the closed form on the same images, and keep the better one.

    A closed form meets its budget on images of the fit part. Where its payloads on the select part are more than 2 %
    off the budget, it is kept only with the quantiser that fills the budget there.

    Args:
        task: The task that was trained.
        starting: The starting point, which holds the closed form if there is one.
        built: The trained split.
        at_budget: The codec with which the closed form fills the budget on the select part. None where there is no
            budget of bytes or no closed form.
        is_finest: Whether the trained split's quantiser is the finest that exists.
        progress: Called as work goes on.

    """
    before = starting.before
    if before is None:
        (select,) = measured(task, [built], part="select", progress=progress)
        note = _budget_note(task, select, is_finest=is_finest)
        return Outcome(kept=built, is_closed_form=False, select=select, closed_form_select=None, budget_note=note)
    candidates = [built, before]
    if at_budget is not None:
        candidates.append(replace(before, codec=at_budget.codec))
    select, closed_form, *others = measured(task, candidates, part="select", progress=progress)
    kept, kept_select = before, closed_form
    if at_budget is not None and _share_off(task, closed_form) > BUDGET_TOLERANCE:
        kept, kept_select = candidates[2], others[0]
    is_closed_form = kept_select.accuracy.accuracy > select.accuracy.accuracy
    if not is_closed_form:
        kept, kept_select = built, select
    elif at_budget is not None:
        is_finest = at_budget.is_finest
    return Outcome(
        kept=kept,
        is_closed_form=is_closed_form,
        select=select,
        closed_form_select=closed_form,
        budget_note=_budget_note(task, kept_select, is_finest=is_finest),
    )


def _share_off(task: FitTask, select: Measurement) -> float:
    """Return the share by which the mean payload is above or below the budget; 0 without a budget of bytes."""
    budget_bytes = task.budget.payload_bytes
    return 0.0 if budget_bytes is None else abs(select.payload_bytes.mean / budget_bytes - 1)


def _budget_note(task: FitTask, select: Measurement, *, is_finest: bool) -> str | None:
    """Say why the mean payload on the select part is not within 2 % of the budget; return None where it is."""
    if _share_off(task, select) <= BUDGET_TOLERANCE:
        return None
    mean, budget_bytes = select.payload_bytes.mean, task.budget.payload_bytes
    payload = f"payloads on the select part take {mean:.1f} of {budget_bytes} bytes"
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
