"""Measure many splits in a fraction of the time: all on a few images, then the contenders on more (successive halving).

    all splits ─ 32 images ─> the better half of each budget ─ 64 ─> the better half ─ 128 ─> … ─> the first choice

Splits are compared in pairs on the same images. A split stays while the best one of its budget is not surely better,
but at most half of a budget's splits stay in any round (Jamieson and Talwalkar 2016, "Non-stochastic best arm
identification"); a budget whose first choice is settled is measured no further.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isplit.design.kept_work import KeptWork
from isplit.design.measure.splits import SplitEvaluation, evaluate_splits, joined
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import StudyView
from isplit.progress import Progress
from isplit.records import Budget, Paired, Precision

FIRST_IMAGES = 32
"""Images of the first round."""
MOST_IMAGES = 256
STATISTICS_IMAGES = 208
"""Enough for maps over all positions, which need 200."""
REMOTE_IMAGES = 50
PILOT_IMAGES = 50
COMPARED_IMAGES = 16
PATCH_WIDTH = 1024
"""The longest vector that a quick run solves for: half as long takes an eighth of the time."""
JOINT_WIDTH = 512
"""The longest vector of a map over all positions in a quick run."""
DECODER_FACTOR = 1
"""What crosses for as many images as the moments are from is kept from an earlier pass; more would take one more."""


def quick_settings(settings: PredictSettings, *, fit_images: int) -> PredictSettings:
    """Return settings with as few images as a quick run takes at most; where they have fewer, these stay.

    Vectors are shorter and decoders are from fewer images too, unless statistics are from as many images as without
    `quick`: a later full run would then take these splits for its own.

    Args:
        settings: The settings of the full run.
        fit_images: Images of the fit part.

    Examples:
        >>> quick_settings(PredictSettings(images=None), fit_images=5000).images
        256

    """

    def fewer(count: int | None, most: int) -> int:
        return most if count is None else min(count, most)

    tuning = settings.tuning
    if min(settings.statistics_images, fit_images) > STATISTICS_IMAGES:
        tuning = replace(
            tuning,
            pilot_images=min(tuning.pilot_images, PILOT_IMAGES),
            compared_images=min(tuning.compared_images, COMPARED_IMAGES),
            max_patch_width=min(tuning.max_patch_width, PATCH_WIDTH),
            max_joint_width=min(tuning.max_joint_width, JOINT_WIDTH),
            decoder_factor=min(tuning.decoder_factor, DECODER_FACTOR),
        )
    return replace(
        settings,
        tuning=tuning,
        statistics_images=min(settings.statistics_images, STATISTICS_IMAGES),
        images=fewer(settings.images, MOST_IMAGES),
        remote_images=fewer(settings.remote_images, REMOTE_IMAGES),
    )


def quick_note(settings: PredictSettings) -> str:
    """Say in a sentence what a quick run of these settings left out, which are those of `quick_settings`."""
    return (
        f"a quick run took statistics from {settings.statistics_images:,} images, vectors of at most "
        f"{settings.tuning.max_patch_width:,} numbers ({settings.tuning.max_joint_width:,} over all positions) and "
        f"compressed images of at most {settings.remote_images or 0:,} images: predict again without `quick=True` for "
        "all images and for splits that may lose less."
    )


def evaluate_quickly(
    view: StudyView,
    splits: Sequence[BuiltSplit],
    budgets: Sequence[Budget],
    *,
    images: NDArray[np.int64],
    precision: Precision,
    kept: KeptWork,
    progress: Progress,
) -> list[SplitEvaluation]:
    """Evaluate every split on the first images, and in each round the better half of each budget on twice as many.

    Args:
        view: The study, as a set of its classes sees it.
        splits: The splits.
        budgets: The budget of each split.
        images: Indices of the images that the first choices are measured on at most.
        precision: That of the model.
        kept: Where batches are kept until the run is finished.
        progress: Called after each batch.

    Returns:
        An evaluation of each split, in their order, of as many images as it was measured on.

    """
    evaluations: dict[int, SplitEvaluation] = {}
    remaining = list(range(len(splits)))
    seen, count = 0, min(FIRST_IMAGES, len(images))
    while remaining:
        new = evaluate_splits(
            view,
            [splits[place] for place in remaining],
            images=images[seen:count],
            precision=precision,
            kept=kept,
            progress=progress,
        )
        for place, evaluation in zip(remaining, new, strict=True):
            evaluations[place] = joined(evaluations[place], evaluation) if place in evaluations else evaluation
        if count == len(images):
            break
        remaining = [
            place
            for budget in dict.fromkeys(budgets)
            for place in _contenders({place: evaluations[place] for place in remaining if budgets[place] == budget})
        ]
        seen, count = count, min(2 * count, len(images))
    return [evaluations[place] for place in range(len(splits))]


def _contenders(evaluations: dict[int, SplitEvaluation]) -> list[int]:
    """Return the splits of one budget that may still be its first choice, best first; none where it is settled."""
    right = {place: evaluation.answers == evaluation.labels for place, evaluation in evaluations.items()}
    # Of equally many right answers, those that are nearer to the whole model's.
    order = sorted(evaluations, key=lambda place: (-int(right[place].sum()), evaluations[place].divergence_nats))
    if len(order) <= 1:
        return []
    best, *others = order
    images = len(right[best])
    open_ones = [place for place in others if Paired.from_answers(right[best], right[place]).smallest_loss(images) <= 0]
    if not open_ones:
        return []
    return [best, *open_ones][: max(2, (len(order) + 1) // 2)]
