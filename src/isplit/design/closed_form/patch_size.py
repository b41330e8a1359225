"""Choose how large the patches of a cut are, and how many channels are kept to make room for them."""

from collections.abc import Sequence
from itertools import accumulate

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.records import Cut

_TUNING = ClosedFormTuning()


def choose_patch(
    cut: Cut,
    *,
    images: int,
    eigenvalues: Sequence[float] = (),
    loss: float = 0.0,
    tuning: ClosedFormTuning = _TUNING,
) -> tuple[int, int]:
    """Return the side of the patches, the largest of 8, 4, 2, 1 that can be had, and how many channels to keep for it.

    A larger patch makes more of what neighbours share. Its vectors have to be short enough, and its samples not too
    few; the channels that matter least are given up for that.

    Args:
        cut: With one crossing tensor.
        images: The number of images that the statistics will be from.
        eigenvalues: Those of single positions, descending; without them all channels are kept.
        loss: The share of the weighted energy that the budget will lose at single positions.
        tuning: How long a vector may be, and what a larger patch is worth.

    """
    total = sum(eigenvalues)
    lost = [1 - value / total for value in accumulate(eigenvalues)] if total > 0 else []
    for patch, worth in tuning.patch_worth:
        layout = PatchLayout.of(cut, patch)
        if len(layout.extents) != 2 or min(layout.extents) < patch:
            continue
        area = patch * patch
        samples = images * int(layout.whole().sum())
        room = min(tuning.max_patch_width // area, int(samples / (tuning.samples_per_dimension * area)))
        if room >= layout.channels:
            return patch, layout.channels
        if room and lost and lost[room - 1] <= max(worth * loss, tuning.negligible_share):
            needed = next(rank + 1 for rank, share in enumerate(lost) if share <= tuning.negligible_share)
            return patch, min(room, needed)
    return 1, PatchLayout.of(cut).channels
