"""Let a device measure its link to this server by exchanging bytes without meaning.

A caller needs the token, as for other methods. A message has at most `MAX_PROBE_BYTES` in either direction, and all
callers together share an allowance of bytes per second, so that probes exhaust neither memory nor the link.
"""

import os
import time
from collections.abc import Callable

from isplit.runtime.names import MAX_PROBE_BYTES, PROBE_METHOD, PROBE_SIZE_BYTES
from isplit.runtime.server.front.method import Incoming, Method
from isplit.runtime.server.refusal import RefusedError, invalid

ALLOWED_BYTES_PER_S = 2**26
"""Bytes per second of all probes together, in both directions: half a gigabit per second."""


class Probe:
    """The method that `isplit probe` calls. `clock` returns seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowance = float(ALLOWED_BYTES_PER_S)
        self._filled_at_s = clock()
        # The bytes are random, because some links compress what they carry.
        self._filler = os.urandom(MAX_PROBE_BYTES)

    def methods(self) -> tuple[Method, ...]:
        """Return the method for the front."""
        return (Method(path=PROBE_METHOD, answer=self._answer, max_bytes=MAX_PROBE_BYTES),)

    async def _answer(self, call: Incoming) -> bytes:
        """Return as many bytes as the request wants.

        Raises:
            RefusedError: the request is too short, wants more than `MAX_PROBE_BYTES`, or the allowance is used up.

        """
        sent = len(call.message)
        if sent < PROBE_SIZE_BYTES:
            msg = f"a probe has at least {PROBE_SIZE_BYTES} bytes, this one has {sent}"
            raise invalid(msg)
        wanted = int.from_bytes(call.message[:PROBE_SIZE_BYTES], "big")
        if wanted > MAX_PROBE_BYTES:
            msg = f"a probe wants {wanted} bytes back, at most {MAX_PROBE_BYTES}: ask for less at a time"
            raise invalid(msg)
        call.release()
        self._spend(sent + wanted)
        return self._filler[:wanted]

    def _spend(self, count: int) -> None:
        now_s = self._clock()
        refilled = self._allowance + (now_s - self._filled_at_s) * ALLOWED_BYTES_PER_S
        self._allowance, self._filled_at_s = min(refilled, float(ALLOWED_BYTES_PER_S)), now_s
        if count > self._allowance:
            msg = "all probes together have used up their allowance: try again in a second"
            raise RefusedError("RESOURCE_EXHAUSTED", msg, reason="probe_allowance")
        self._allowance -= count
