"""Keep what crosses cuts and the gradients there, of the first images of a pass, for the next pass over them.

    pilot ─ activations and gradients of its first batches ─> kept ─> moments of patches: only the other batches

The pilot's images are the first of those that the moments of patches are from, and its passes are the same. What is
kept is let go batch by batch as it is taken, because the sums and the features that the next pass keeps need the room.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.closed_form.kept_features import ROOM_BYTES, VALUE_BYTES
from isplit.records import Cut

GradientBatch = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""For each cut's name what crosses it, N×…, and the gradient there."""


def kept_images(cuts: Sequence[Cut], images: int, *, batch_size: int, room_bytes: int = ROOM_BYTES) -> int:
    """Return how many of some images, in whole batches, have room for what crosses the cuts and the gradients."""
    count = min(images, room_bytes // max(1, 2 * VALUE_BYTES * sum(prod(cut.shape) for cut in cuts)))
    return count - count % batch_size


class GradientStore:
    """What crossed cuts in the first batches of the last pass, and the gradients there, as that pass showed them.

    Only what is on the processor is kept: an accelerator computes it again sooner than it is copied.

    Args:
        room_bytes: The memory that all of it may take.

    """

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._room_bytes = room_bytes
        self._names: frozenset[str] = frozenset()
        self._images = np.zeros(0, np.int64)
        self._batch_size = 1
        self._batches: deque[GradientBatch] = deque()

    def begin(self, cuts: Sequence[Cut], images: NDArray[np.int64], *, batch_size: int) -> None:
        """Prepare to keep the first batches of a pass over images, as many as there is room for.

        Only whole batches are kept, so that the batches of a longer pass after them are those that it would have had.
        """
        count = kept_images(cuts, len(images), batch_size=batch_size, room_bytes=self._room_bytes)
        self._names, self._batch_size = frozenset(cut.name for cut in cuts), batch_size
        self._images = images[:count]
        self._batches.clear()

    def keep(self, activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> None:
        """Keep copies of what crosses a cut in the next batch and of the gradient there, if they are to be kept."""
        if activation.device.type != "cpu":
            return
        if not self._batches or cut.name in self._batches[-1]:
            if len(self._batches) * self._batch_size >= len(self._images):
                return
            self._batches.append({})
        self._batches[-1][cut.name] = activation.detach().clone(), gradient.detach().clone()

    def take(self, cuts: Sequence[Cut], images: NDArray[np.int64]) -> Iterator[GradientBatch]:
        """Yield the batches that a pass over images begins with, and let each go.

        Where others were kept, as for a pass that goes on from kept sums, there are none, and those are let go too.
        """
        batches, self._batches = self._batches, deque()
        known = self._names == {cut.name for cut in cuts} and np.array_equal(self._images, images[: len(self._images)])
        while known and batches:
            yield batches.popleft()
