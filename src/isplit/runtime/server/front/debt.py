"""Weigh what peers cost against the answers that they get, for each connection and for each address."""

import ipaddress
from collections import OrderedDict
from math import inf

_LIMIT_S = 0.5
_NOTICED_S = 0.1
_ADDRESS_MOST_S = 2.0
"""The most that is held against an address. It is forgotten within two minutes."""
_ADDRESSES = 4096
_IPV6_PREFIX = 64
"""A host chooses the rest of its IPv6 address itself."""
_FORGIVEN_S_PER_S = 0.02
_PAID_S, _PAID_S_PER_BYTE = 5e-3, 100e-9
"""Processor time that an answered call may have cost, some times what it takes."""
_FINE_S = 0.02
"""What a call counts that is refused before its message was there, because its sender begins the next one at once."""


class Debt:
    """Count the processor time that a peer has cost for calls that were not answered.

    Times are in seconds and do not go back. No more than `most_s` is held against the peer.

    Examples:
        >>> debt = Debt()
        >>> debt.cost(0.6, now=100.0)
        >>> debt.is_too_high(now=100.0), debt.is_too_high(now=110.0)
        (True, False)

    """

    def __init__(self, *, most_s: float = inf) -> None:
        self._most_s = most_s
        self._seconds = 0.0
        self._at = 0.0

    def cost(self, seconds: float, *, now: float) -> None:
        """Count processor time."""
        self._seconds = min(self._most_s, max(0.0, self._left(now) + seconds))
        self._at = now

    def refused(self, *, now: float) -> None:
        """Count a call that was refused before its message had arrived."""
        self.cost(_FINE_S, now=now)

    def answered(self, message_bytes: int, *, now: float) -> None:
        """Count a call that was answered, whose request had so many bytes."""
        if self._seconds:  # there is nothing to pay otherwise
            self.cost(-_PAID_S - _PAID_S_PER_BYTE * message_bytes, now=now)

    def is_too_high(self, *, now: float) -> bool:
        """Say whether the peer must wait as strangers do."""
        return self._left(now) >= _LIMIT_S

    def rank(self, *, now: float) -> int:
        """Return 0 for a debt that every newcomer may have, 1 for a larger one, and 2 for one that is too high."""
        left_s = self._left(now)
        return (left_s >= _NOTICED_S) + (left_s >= _LIMIT_S)

    def _left(self, now: float) -> float:
        return max(0.0, self._seconds - (now - self._at) * _FORGIVEN_S_PER_S)


class AddressDebts:
    """Keep the debt of every address that was seen lately: of all its connections, including those that were closed.

    A stranger that is refused comes back as a newcomer. Its address tells it from newcomers that cost nothing yet. An
    address is no proof, since many peers may share one: it only decides who comes first.
    """

    def __init__(self) -> None:
        self._debts: OrderedDict[str, Debt] = OrderedDict()

    def of(self, address: str) -> Debt:
        """Return the debt of a peer's address; the first 64 bits of IPv6 addresses count."""
        key = _network(address) if ":" in address else address
        debt = self._debts.setdefault(key, Debt(most_s=_ADDRESS_MOST_S))
        self._debts.move_to_end(key)
        if len(self._debts) > _ADDRESSES:
            self._debts.popitem(last=False)
        return debt


def _network(address: str) -> str:
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, _IPV6_PREFIX), strict=False))
