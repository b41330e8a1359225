"""Show refusals to the operator: all of them in the metrics, and a bounded number in the log."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from isplit.runtime.server.log import event, logger
from isplit.runtime.server.metrics import Metrics

REASONS = {
    "token": "the token was missing or wrong",
    "handshake": "TLS failed: no or a wrong certificate, another protocol, or it took too long",
    "not_grpc": "a request of another protocol than gRPC",
    "protocol_error": "bytes that HTTP/2 does not allow, or more headers than any call needs",
    "idle_stranger": "a connection that made no authorised call for too long",
    "strangers": "too many connections without an authorised call; the oldest was closed",
    "connections": "too many connections; the least useful was closed",
    "too_many_calls": "too many calls without a token on one connection",
    "gave_way": "the message that had been awaited for longest, when there was no room for others",
    "stalled": "a long message that stalled while others waited behind it",
    "too_slow": "a message that did not arrive in time",
    "no_room": "no memory for another message",
    "message_too_long": "a message longer than any request for these bundles",
    "compressed": "a message that gRPC compressed",
    "unknown_method": "a method that the server does not have",
    "not_read": "a peer that does not read its answers",
    "invalid": "a request that is wrong in itself",
    "not_found": "a model that the server does not have",
    "queue_full": "a request when too many images were waiting",
    "costly": "a request when too many pixels were waiting to be decoded",
    "late": "a request whose deadline had passed",
    "unavailable": "a request while the server starts, drains or has stopped, or after replicas died",
    "stopped": "a request that was not answered before the server stopped",
    "bad_logits": "a model whose logits are not finite, or are not as many as there are classes",
    "internal": "a fault of the server",
}
"""The meaning of every reason."""

_PERIOD_S = 10.0
_MAX_PEERS = 5


@dataclass(kw_only=True)
class _Tally:
    """The refusals of one reason since they were last logged."""

    logged_at: float
    count: int = 0
    detail: str = ""
    peers: dict[str, None] = field(default_factory=dict[str, None])


class RefusalLog:
    """Counts refusals by reason. The first of a reason is logged at once; later ones are summed up every 10 s.

    At the level `debug`, each one is logged. `clock` gives seconds.
    """

    def __init__(self, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._tallies: dict[str, _Tally] = {}
        # Every series exists from the start, so that an alert can be written before anything was refused.
        self._counters = {reason: metrics.refusals.labels(reason) for reason in REASONS}

    def note(self, reason: str, *, detail: str, peer: str = "", **fields: object) -> None:
        """Count a refusal; `detail` and `fields` go only to the log."""
        self._counters[reason].inc()
        if logger.isEnabledFor(logging.DEBUG):
            event("refused", level=logging.DEBUG, reason=reason, detail=detail, peer=peer, **fields)
            return
        now = self._clock()
        tally = self._tallies.get(reason)
        if tally is None:
            self._tallies[reason] = _Tally(logged_at=now)
            event("refused", level=logging.WARNING, reason=reason, count=1, detail=detail, peers=[peer], **fields)
            return
        tally.count += 1
        tally.detail = detail
        if len(tally.peers) < _MAX_PEERS:
            tally.peers[peer] = None

    def flush(self, *, force: bool = False) -> None:
        """Log the sums that are due; with `force`, log all of them."""
        now = self._clock()
        for reason, tally in list(self._tallies.items()):
            if not force and now - tally.logged_at < _PERIOD_S:
                continue
            if not tally.count:
                del self._tallies[reason]  # nothing happened for a period, so the next refusal is logged at once again
                continue
            self._tallies[reason] = _Tally(logged_at=now)
            event(
                "refused",
                level=logging.WARNING,
                reason=reason,
                count=tally.count,
                seconds=round(now - tally.logged_at, 1),
                detail=tally.detail,
                peers=list(tally.peers),
            )
