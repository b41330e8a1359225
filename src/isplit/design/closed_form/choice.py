"""Choose between closed forms of the same cut and budget by what the network answers behind them.

The expected loss (basis.py) is of the first order, and its weights and its basis are from the same few images. Where
vectors have fewer samples than entries it misjudges a size of patches by far: after MobileNetV2's features.5, with 0.3
samples per entry, it expected 8×8 patches to lose an eighth of what 4×4 patches lose, yet they answered 23 points
worse. What the network answers for a few images that the basis was not solved from needs no such assumption.
"""

from collections.abc import Sequence

from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.devices import device_of
from isplit.design.measure.splits import evaluate_splits
from isplit.design.running import chosen_precision
from isplit.design.splits import BuiltSplit


def choose_by_answers(passes: StatisticsPasses, candidates: Sequence[Sequence[BuiltSplit]]) -> list[int]:
    """Return which of each group of splits answers most like the whole network.

    All groups are judged in one pass over the first `compared_images` images that the moments are not from, by the mean
    divergence of the class probabilities from the whole network's. Where all images are among those of the moments, or
    `compared_images` is 0, the first split of each group is taken.

    Args:
        passes: Over the study's images.
        candidates: Groups of splits of the same cut and budget, each group in the order of preference.

    Returns:
        The place of the chosen split in each group.

    """
    images = passes.images.held_out[: passes.settings.tuning.compared_images]
    compared = [number for number, group in enumerate(candidates) if len(group) > 1]
    places = [0] * len(candidates)
    if passes.images.are_shared or not len(images) or not compared:
        return places
    evaluations = iter(
        evaluate_splits(
            passes.view,
            [split for number in compared for split in candidates[number]],
            images=images,
            precision=chosen_precision(passes.settings.precision, device=device_of(passes.view.graph.module)),
            progress=passes.progress,
            label="comparison of patches",
        )
    )
    for number in compared:
        divergences = [next(evaluations).divergence_nats for _ in candidates[number]]
        places[number] = divergences.index(min(divergences))
    return places
