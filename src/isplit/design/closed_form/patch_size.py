"""Choose how large the patches of a cut are, and how many channels are kept to make room for them."""

from collections.abc import Sequence
from itertools import accumulate

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.records import Cut

_TUNING = ClosedFormTuning()


def possible_patches(
    cut: Cut,
    *,
    images: int,
    eigenvalues: Sequence[float] = (),
    loss: float = 0.0,
    compared: bool = True,
    tuning: ClosedFormTuning = _TUNING,
) -> list[tuple[int, int]]:
    """Return the patches that may suit a budget, each as its side and the number of channels to keep for it.

    A larger patch makes more of what neighbours share. Its vectors have to be short enough, and its samples not too
    few; the channels that matter least are given up for that. The first patches are the largest of 8, 4, 2 and 1 that
    can be had. Where they give channels up or have few samples, the next smaller ones follow, since only a comparison
    on images can tell whether the size is worth that. What is compared may give up more channels than what is not.

    Args:
        cut: With one crossing tensor.
        images: The number of images that the statistics will be from.
        eigenvalues: Those of single positions, descending; without them all channels are kept.
        loss: The share of the weighted energy that the budget will lose at single positions.
        compared: Whether the caller will compare them; otherwise there is only one.
        tuning: How long a vector may be, and what a larger patch is worth.

    Returns:
        One or two pairs (side, channels).

    """
    total = sum(eigenvalues)
    lost = [1 - value / total for value in accumulate(eigenvalues)] if total > 0 else []
    factor = tuning.compared_worth if compared else 1.0
    possible: list[tuple[int, int]] = []
    for patch, worth in tuning.patch_worth:
        layout = PatchLayout.of(cut, patch)
        if len(layout.extents) != 2 or min(layout.extents) < patch:
            continue
        area = patch * patch
        samples = images * int(layout.whole().sum())
        room = min(tuning.max_patch_width // area, int(samples / (tuning.samples_per_dimension * area)))
        if room >= layout.channels:
            possible.append((patch, layout.channels))
            if samples >= tuning.settled_samples * layout.channels * area:
                break
            continue
        if room and lost and lost[room - 1] <= max(factor * worth * loss, tuning.negligible_share):
            needed = next(rank + 1 for rank, share in enumerate(lost) if share <= tuning.negligible_share)
            channels = min(room, needed)
            possible.append((patch, channels))
            if lost[channels - 1] <= tuning.negligible_share and samples >= tuning.settled_samples * channels * area:
                break
    else:
        possible.append((1, PatchLayout.of(cut).channels))
    return possible[: 2 if compared else 1]
