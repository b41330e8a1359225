"""Keep the sums of a pass over images now and then, so that a run which is stopped goes on from them."""

import time
from collections.abc import Sequence

import numpy as np

from isplit.design.closed_form.moments import CutMoments
from isplit.design.kept_work import KeptWork

SAVE_EVERY_S = 60.0
"""A stopped pass loses at most the work of about so many seconds."""
_LARGEST_SHARE = 0.03
"""The share of the time that may be spent on writing: sums of many long vectors are gigabytes."""


class KeptSums:
    """The sums of one pass on disk: a file for each cut's vectors, and one that says after how many images they are.

    Args:
        kept: Where they are kept, with all that they depend on.
        moments: The sums, which `resume` fills.

    """

    def __init__(self, kept: KeptWork, moments: Sequence[CutMoments]) -> None:
        self._kept, self._moments = kept, moments
        cuts = [of_cut.vectors.cut.name for of_cut in moments]
        # The same names in a later run that has fewer cuts left to do.
        self._names = [f"{cuts[:number].count(cut)} {cut}" for number, cut in enumerate(cuts)]
        self._images = 0
        self._saved_at, self._writing_s = time.monotonic(), 0.0

    def resume(self) -> int:
        """Fill the sums with what was kept, and return how many images they are of; 0 where nothing is."""
        pointer = self._kept.load("sums")
        if pointer is None:
            return 0
        images = int(pointer["images"])
        states = [self._kept.load("sums", images=images, of=name) for name in self._names]
        if any(state is None for state in states):
            return 0
        for moments, state in zip(self._moments, states, strict=True):
            assert state is not None
            moments.restore(state)
        self._images = images
        return images

    def keep(self, images: int) -> None:
        """Write the sums of so many images, if it is time to."""
        waited_s = time.monotonic() - self._saved_at
        if waited_s < max(SAVE_EVERY_S, self._writing_s / _LARGEST_SHARE):
            return
        start = time.monotonic()
        for name, moments in zip(self._names, self._moments, strict=True):
            self._kept.save(moments.state(), "sums", images=images, of=name)
        self._kept.save({"images": np.array(images)}, "sums")
        for name in self._names:
            self._kept.remove("sums", images=self._images, of=name)
        self._images = images
        self._saved_at = time.monotonic()
        self._writing_s = self._saved_at - start
