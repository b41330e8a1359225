"""Decode what requests hold in the thread that is free for it, for as long as somebody waits for the result."""

import time

import numpy as np
from numpy.typing import NDArray

from isplit.runtime.server.computed import Computed
from isplit.runtime.server.models import Cost, Hosted
from isplit.runtime.server.refusal import RefusedError
from isplit.runtime.server.request import Content


class Wanted:
    """Tells another thread whether anybody still waits for what it decodes."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self.ended = False

    def check(self) -> None:
        """Stop work that nobody waits for."""
        if self.ended:
            raise RefusedError("UNAVAILABLE", "the caller has gone")
        if time.monotonic() >= self._deadline:
            raise RefusedError("DEADLINE_EXCEEDED", "the deadline passed while the request was decoded")


def decode(model: Hosted, pending: list[Content], wanted: Wanted) -> NDArray[np.uint8]:
    """Decode the pending content and let go of it, so that nothing else keeps the message's memory.

    Raises:
        RefusedError: The content is wrong, or nobody waits for it any more.

    """
    wanted.check()
    return model.decode(pending.pop(), wanted.check)


def decoding_cost(cost: Cost, pending: list[Content]) -> int:
    """Return the cost of decoding the pending content; 0 if there is none any more."""
    return cost(pending[0]) if pending else 0


def check_logits(computed: Computed, outputs: int) -> None:
    """Refuse to pass on logits that a model of this bundle should not give.

    Raises:
        RefusedError: INTERNAL, because the logits are not as many as there are classes, or not finite.

    """
    shape = computed.batch.logits.shape
    if shape[1:] != (outputs,):
        msg = f"the model gave logits of shape {shape}, there are {outputs} classes: export the bundle again"
    elif not computed.are_finite:
        msg = "the model gave logits that are NaN or infinite: check its weights, and export the bundle again"
    else:
        return
    raise RefusedError("INTERNAL", msg, reason="bad_logits")
