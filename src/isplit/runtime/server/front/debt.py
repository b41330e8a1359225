"""Weigh what a known peer costs against the answers that it gets."""

_LIMIT_S = 0.5
_FORGIVEN_S_PER_S = 0.02
_PAID_S, _PAID_S_PER_BYTE = 5e-3, 100e-9
"""Processor time that an answered call may have cost, some times what it takes."""
_FINE_S = 0.02
"""What a call counts that is refused before its message was there, because its sender begins the next one at once."""


class Debt:
    """Processor time that a peer has cost for calls that were not answered. Times are in seconds and do not go back.

    Examples:
        >>> debt = Debt()
        >>> debt.cost(0.6, now=100.0)
        >>> debt.is_too_high(now=100.0), debt.is_too_high(now=110.0)
        (True, False)

    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._at = 0.0

    def cost(self, seconds: float, *, now: float) -> None:
        """Count processor time."""
        self._seconds = max(0.0, self._left(now) + seconds)
        self._at = now

    def refused(self, *, now: float) -> None:
        """Count a call that was refused before its message had arrived."""
        self.cost(_FINE_S, now=now)

    def answered(self, message_bytes: int, *, now: float) -> None:
        """Count a call that was answered, whose request had so many bytes."""
        self.cost(-_PAID_S - _PAID_S_PER_BYTE * message_bytes, now=now)

    def is_too_high(self, *, now: float) -> bool:
        """Say whether the peer must wait as strangers do."""
        return self._left(now) >= _LIMIT_S

    def _left(self, now: float) -> float:
        return max(0.0, self._seconds - (now - self._at) * _FORGIVEN_S_PER_S)
