"""Choose between closed forms of the same cut and budget by what the network answers behind them.

The expected loss (basis.py) is of the first order, and its weights and its basis are from the same few images. Where
vectors have fewer samples than entries it misjudges a size of patches by far: after MobileNetV2's features.5, with 0.3
samples per entry, it expected 8×8 patches to lose an eighth of what 4×4 patches lose, yet they answered 23 points
worse. What the network answers for a few images that the basis was not solved from needs no such assumption.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.measure.splits import evaluate_splits
from isplit.design.splits import BuiltSplit

_FIRST_IMAGES = 16
"""Images that all splits are judged on; those of a group that are not settled then are judged on twice as many."""
_SURE_ERRORS = 3.0
"""A split is surely worse where the mean difference of divergences on the same images is so many standard errors."""


def choose_by_answers(passes: StatisticsPasses, candidates: Sequence[Sequence[BuiltSplit]]) -> list[int]:
    """Return the first split of each group, or one behind it that answers clearly more like the whole network.

    Groups are judged on up to `compared_images` of the images that the moments are not from, by the mean divergence of
    the class probabilities from the whole network's. A split that is surely worse than another of its group is judged
    on the first images only. A split is taken instead of those before it if its divergence is lower by more than a
    standard error of the paired difference: images are few, and the order is mostly right. Where all images are among
    those of the moments, or `compared_images` is 0, the first split of each group is taken.

    Args:
        passes: Over the study's images.
        candidates: Groups of splits of the same cut and budget, each group in the order of preference.

    Returns:
        The place of the chosen split in each group.

    """
    images = passes.images.held_out[: passes.settings.tuning.compared_images]
    # For each group the splits that may still be the best, by their places.
    remaining = [range(len(group)) for group in candidates]
    if passes.images.are_shared or not len(images):
        return [0] * len(candidates)
    divergences: dict[tuple[int, int], NDArray[np.float64]] = {}
    seen = 0
    while seen < len(images) and any(len(places) > 1 for places in remaining):
        until = min(len(images), max(_FIRST_IMAGES, 2 * seen))
        compared = [(number, place) for number, places in enumerate(remaining) if len(places) > 1 for place in places]
        evaluations = evaluate_splits(
            passes.view,
            [candidates[number][place] for number, place in compared],
            images=images[seen:until],
            precision=passes.precision,
            progress=passes.progress,
            label="comparison of patches",
        )
        for key, evaluation in zip(compared, evaluations, strict=True):
            before = divergences.get(key, np.zeros(0))
            divergences[key] = np.concatenate([before, evaluation.divergences_nats])
        remaining = [
            _undecided({place: divergences[number, place] for place in places}) if len(places) > 1 else places
            for number, places in enumerate(remaining)
        ]
        seen = until
    return [
        _preferred({place: divergences[number, place] for place in places}) if len(places) > 1 else places[0]
        for number, places in enumerate(remaining)
    ]


def _preferred(divergences: dict[int, NDArray[np.float64]]) -> int:
    """Return the first place, or a later one whose divergences (N) are lower by more than a standard error."""
    chosen, *others = divergences
    for place in others:
        gains = divergences[chosen] - divergences[place]
        if len(gains) > 1 and gains.mean() > gains.std(ddof=1) / sqrt(len(gains)):
            chosen = place
    return chosen


def _undecided(divergences: dict[int, NDArray[np.float64]]) -> list[int]:
    """Return the places of splits that are not surely worse than the best, from the divergences (N) of each."""
    best = min(divergences, key=lambda place: divergences[place].mean())

    def may_be_better(place: int) -> bool:
        worse = divergences[place] - divergences[best]
        return len(worse) < 2 or worse.mean() <= _SURE_ERRORS * worse.std(ddof=1) / sqrt(len(worse))

    return [place for place in divergences if place == best or may_be_better(place)]
