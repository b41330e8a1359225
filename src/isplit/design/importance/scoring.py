"""Score images batch by batch. A run can be interrupted and continued, and may stop early when the order is settled."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.class_subsets import ClassSubset
from isplit.design.devices import device_of
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.curve import curve_points
from isplit.design.importance.methods import ImportanceMethod, check_scores
from isplit.design.importance.passes import ImagePasses
from isplit.design.importance.settle import order_is_settled
from isplit.design.importance.table import ScoreTable
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset
from isplit.progress import Progress, silent
from isplit.records import Precision, Preprocessing, Target

# A killed process loses at most the work of this many seconds.
_SAVE_EVERY_S = 20.0
# Fewer images of a class than this give no useful variance.
_MIN_IMAGES_PER_CLASS = 5


@dataclass(frozen=True, kw_only=True)
class ScoreJob:
    """The images, method and limits of a scoring run.

    `order` holds indices of the data set in the order to take them (every prefix is balanced by class). With
    `tolerance`, the run may stop early: see `order_is_settled`, which `first_only` is for too.
    """

    method: ImportanceMethod
    target: Target
    precision: Precision
    batch_size: int
    order: NDArray[np.int64]
    tolerance: float | None = None
    first_only: bool = False


def score_images(
    gradients: GradientPass,
    dataset: Dataset,
    preprocessing: Preprocessing,
    group: ClassSubset,
    job: ScoreJob,
    table: ScoreTable,
    *,
    save: Callable[[ScoreTable], None],
    progress: Progress = silent,
) -> tuple[ScoreTable, str]:
    """Add rows to `table` until the job is done.

    Whatever ends it, including errors and Ctrl-C, the computed rows are saved first.

    Returns:
        The table, and the reason why it ends where it does.

    """
    if not np.array_equal(table.images, job.order[: len(table)]):
        table = table.head(0)
    total = len(job.order)
    saved_at, saved_rows = time.monotonic(), len(table)
    progress(f"importance, {group.group.name}", len(table), total)
    remaining = job.order[len(table) :]
    settled = _is_settled(table, gradients, group, job)
    device = device_of(gradients.graph.module)
    batches = iter_batches(dataset, remaining, preprocessing, batch_size=job.batch_size, device=device)
    try:
        for batch in batches if not settled else ():
            labels = torch.from_numpy(group.label_map)[batch.labels]
            passes = ImagePasses(
                gradient_pass=gradients,
                images=batch.images,
                labels=labels,
                classes=group,
                target=job.target,
                precision=job.precision,
            )
            rows = check_scores(job.method, job.method(passes), images=len(labels), cuts=len(gradients.cuts))
            table = table.extended(batch.indices, labels.numpy(), rows.numpy())
            progress(f"importance, {group.group.name}", len(table), total)
            if _is_settled(table, gradients, group, job):
                settled = True
                break
            if time.monotonic() - saved_at > _SAVE_EVERY_S:
                save(table)
                saved_at, saved_rows = time.monotonic(), len(table)
    finally:
        batches.close()
        if len(table) > saved_rows:
            save(table)
    if settled and len(table) < total:
        what = "first choice" if job.first_only else "order of the candidates"
        return table, f"the {what} is settled to a tolerance of {job.tolerance:g}"
    return table, f"all {total} images asked for were seen"


def _is_settled(table: ScoreTable, gradients: GradientPass, group: ClassSubset, job: ScoreJob) -> bool:
    classes = group.group.classes
    if job.tolerance is None or len(table) < _MIN_IMAGES_PER_CLASS * len(classes):
        return False
    points = curve_points([cut.name for cut in gradients.cuts], table.scores, table.labels, classes)
    return order_is_settled(points, table.scores, table.labels, len(classes), job.tolerance, first_only=job.first_only)
