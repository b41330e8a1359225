"""Keep what crosses cuts in memory between two passes over the same images, so that the second is mostly spared.

    first pass ─ what crosses its deepest cuts ─> kept ─> second pass: only up to the deepest cut that is not kept

A pass ends at the deepest cut that it is for. So the deepest cuts are kept first: the second pass then ends earlier,
and what crosses there takes the fewest bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.records import Cut

ROOM_BYTES = 2**30
"""The memory for all that is kept; the sums of long vectors beside it take about as much."""
VALUE_BYTES = 4
"""The bytes of a value of float32, which the network computes in."""


@dataclass(frozen=True, eq=False)
class _HeldPass:
    """What crossed some cuts in one pass: for each cut's name its batches, in the order of the pass's images."""

    images: NDArray[np.int64]
    batches: dict[str, list[torch.Tensor]]


class FeatureStore:
    """What crossed cuts in earlier passes, N×… float32 as these passes showed it.

    Only what is on the processor is kept: an accelerator computes it again sooner than it is copied.

    Args:
        room_bytes: The memory that all of it may take.

    """

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._room_bytes = room_bytes
        self._passes: list[_HeldPass] = []

    def begin(self, cuts: Sequence[Cut], images: NDArray[np.int64]) -> None:
        """Prepare to keep what crosses cuts in a pass over images: at the deepest ones, as many as there is room for.

        What an earlier pass over the same images left is let go.

        Args:
            cuts: The cuts that a later pass will ask for, with one crossing tensor each.
            images: Indices of the images of the pass, in its order.

        """
        self.forget(images)
        free_bytes = self._room_bytes - sum(map(_size_bytes, self._passes))
        batches: dict[str, list[torch.Tensor]] = {}
        for cut in sorted(cuts, key=lambda cut: cut.depth, reverse=True):
            if cut.name in batches:
                continue
            free_bytes -= VALUE_BYTES * prod(cut.shape) * len(images)
            if free_bytes < 0:
                break
            batches[cut.name] = []
        self._passes.append(_HeldPass(images, batches))

    def keep(self, cut: Cut, tensor: torch.Tensor) -> None:
        """Keep a copy of what crosses a cut for the next batch of the pass that was begun last, if it is to be kept."""
        batches = self._passes[-1].batches if self._passes and tensor.device.type == "cpu" else {}
        if cut.name in batches:
            batches[cut.name].append(tensor.detach().to(torch.float32, copy=True))

    def batches(self, cut: Cut, images: NDArray[np.int64]) -> list[torch.Tensor] | None:
        """Return what crosses a cut for some images, batch by batch; None where it was not kept for all of them.

        Args:
            cut: The cut.
            images: Indices of images that follow one another in one of the passes.

        """
        for held in self._passes:
            start = _place(images, held.images)
            kept = held.batches.get(cut.name, [])
            if start is None or sum(map(len, kept)) != len(held.images):
                continue
            parts: list[torch.Tensor] = []
            for batch in kept:
                part = batch[max(0, start) : max(0, start + len(images))]
                start -= len(batch)
                if len(part):
                    parts.append(part)
            return parts
        return None

    def forget(self, images: NDArray[np.int64]) -> None:
        """Let go what a pass over these images left."""
        self._passes = [held for held in self._passes if not np.array_equal(held.images, images)]


def _size_bytes(held: _HeldPass) -> int:
    return sum(VALUE_BYTES * batch.numel() for batches in held.batches.values() for batch in batches)


def _place(images: NDArray[np.int64], among: NDArray[np.int64]) -> int | None:
    """Return where some images begin among others that they follow one another in; None where they do not."""
    for start in np.flatnonzero(among == images[0]).tolist() if len(images) else []:
        if np.array_equal(among[start : start + len(images)], images):
            return start
    return None
