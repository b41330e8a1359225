"""Choose how large the patches of a cut are, and how many channels are kept to make room for them."""

from collections.abc import Sequence
from itertools import accumulate

from isplit.design.bottleneck.patches import PatchLayout
from isplit.records import Cut

# Longer vectors would make the eigenvalue problem take longer than the images.
MAX_WIDTH = 2048

# With fewer samples than dimensions the shrinkage decides about the rest, yet a patch of 2x2 from 1.25 samples per
# dimension lost 16 points less at VGG16's pool4 than single positions from 5, and 17 less at pool5 from 0.31.
_SAMPLES_PER_DIMENSION = 0.25

# Channels are given up for a patch of this side where that loses at most so much of what the budget loses at single
# positions anyway. From 4 to 8 there is less to gain than from 2 to 4. At VGG16's pool3 patches of 8x8 with 32 of 256
# channels lose 2 points less than 4x4 with 128 where this ratio is 0.11, 1 point more at 0.29 and 4 more at 0.64; at
# conv3_2 they lose 1 to 2 points more at 0.13 to 0.20; at conv4_3 4x4 loses 2 less than 2x2 at 0.22.
_WORTH = {8: 0.12, 4: 0.25, 2: 0.25}
# Channels that hold less than this share of the weighted energy together are never worth their place in a vector.
_NOTHING = 0.0005


def choose_patch(cut: Cut, *, images: int, eigenvalues: Sequence[float] = (), loss: float = 0.0) -> tuple[int, int]:
    """Return the side of the patches, the largest of 8, 4, 2, 1 that can be had, and how many channels to keep for it.

    A larger patch makes more of what neighbours share. Its vectors have to be short enough, and its samples not too
    few; the channels that matter least are given up for that.

    Args:
        cut: With one crossing tensor.
        images: That the statistics will be from.
        eigenvalues: Of single positions, descending; without them all channels are kept.
        loss: The share of the weighted energy that the budget will lose at single positions.

    """
    total = sum(eigenvalues)
    lost = [1 - value / total for value in accumulate(eigenvalues)] if total > 0 else []
    for patch in (8, 4, 2):
        layout = PatchLayout.of(cut, patch)
        if len(layout.extents) != 2 or min(layout.extents) < patch:
            continue
        area = patch * patch
        samples = images * int(layout.whole().sum())
        room = min(MAX_WIDTH // area, int(samples / (_SAMPLES_PER_DIMENSION * area)))
        if room >= layout.channels:
            return patch, layout.channels
        if room and lost and lost[room - 1] <= max(_WORTH[patch] * loss, _NOTHING):
            return patch, min(room, next(k + 1 for k, share in enumerate(lost) if share <= _NOTHING))
    return 1, PatchLayout.of(cut).channels
