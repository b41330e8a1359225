"""Ask the server about an image within a budget, and check that it is the right server."""

import threading
from collections import defaultdict

import numpy as np

from isplit.errors import ServerError
from isplit.records import BundleRecord
from isplit.runtime.edge.device import REMOTE, Wire
from isplit.runtime.edge.job import Job
from isplit.runtime.edge.policy import BreakerState
from isplit.runtime.edge.reserve import Doubt, Reserve, server_budget_ms
from isplit.runtime.edge.sender import GaveUpError, Sender
from isplit.runtime.edge.transport import Reply, Request, Status

CHECK_MS = 10_000.0
"""Milliseconds that a server may take to answer the check; a first connection includes name lookup and handshakes."""

_ADVICE: dict[Status | None, str] = {
    "UNAVAILABLE": "is `isplit serve` running there, and do both sides use TLS, or neither?",
    "DEADLINE_EXCEEDED": "something may listen there, but it does not answer",
    "UNAUTHENTICATED": "give the token that the server was started with",
    "PERMISSION_DENIED": "the server does not let this device in",
    "NOT_FOUND": "start the server with this bundle",
    "UNIMPLEMENTED": "what listens there does not speak the Open Inference Protocol",
    "INVALID_ARGUMENT": "start the server with this bundle",
}


class ServerSide:
    """Ask the server about images, each within its budget. It may be shared between threads.

    `reserve` knows how long a fallback takes; None if there is no fallback.
    """

    def __init__(self, sender: Sender, record: BundleRecord, *, reserve: Reserve | None) -> None:
        self._sender = sender
        self._record = record
        self._reserve = reserve
        self._lock = threading.Lock()
        self._doubts: defaultdict[str, Doubt] = defaultdict(Doubt)

    def ask(self, job: Job, wire: Wire) -> None:
        """Send an image's request; afterwards the job has logits, or a reason why not."""
        request = self._request(job.id, job.placement, wire)
        doubt = self._doubt(job.placement)
        remaining_ms, held_back_ms = job.remaining_ms, self._reserve.held_back_ms() if self._reserve else None
        doubtful = doubt.of_next()
        budget_ms = server_budget_ms(remaining_ms, held_back_ms=held_back_ms, doubtful=doubtful)
        try:
            sent = self._sender.send(request, budget_ms=budget_ms)
        except GaveUpError as error:
            job.attempts = error.attempts
            job.failed(str(error))
            if error.attempts:
                job.parts_ms["retry_ms"] = error.retry_ms
                self._learn(job, doubt, error.status, remaining_ms=remaining_ms, budget_ms=budget_ms, doubtful=doubtful)
            return
        doubt.answered()
        job.attempts = sent.attempts
        if sent.attempts > 1:
            job.parts_ms["retry_ms"] = sent.retry_ms
        if fault := self._fault(request.model, sent.reply):
            job.failed(fault)
            return
        job.heard(sent.reply, round_trip_ms=sent.round_trip_ms)
        job.source = "remote" if job.placement == REMOTE else "split"

    def check(self, placement: str, wire: Wire) -> None:
        """Send a sample and check whether the server answers it as this bundle's server would.

        The request names the file that the server should run. isplit's servers compare it with theirs; others ignore
        it.

        Raises:
            ServerError: nobody answers, the server refuses, or it serves another bundle.

        """
        request = self._request("check", placement, wire, model_sha256=self._sha256(placement))
        try:
            fault = self._fault(request.model, self._sender.send(request, budget_ms=CHECK_MS).reply)
        except GaveUpError as error:
            advice = _ADVICE.get(error.status)
            fault = f"{error}; {advice}" if advice else str(error)
        if fault is not None:
            msg = f"the server cannot be used for {request.model}: {fault}"
            raise ServerError(msg)

    def state(self, placement: str) -> BreakerState:
        """Return the state of a placement's circuit breaker."""
        return self._sender.state(self._model(placement))

    def close(self) -> None:
        """Give up pending requests, and close the connection."""
        self._sender.close()

    def _learn(
        self,
        job: Job,
        doubt: Doubt,
        status: Status | None,
        *,
        remaining_ms: float | None,
        budget_ms: float | None,
        doubtful: bool,
    ) -> None:
        """Record what a failed request tells about the server, and about the timer that ended it."""
        if status == "DEADLINE_EXCEEDED":
            doubt.timed_out()
        if not doubtful:
            doubt.tried()
        now_ms = job.remaining_ms
        if self._reserve is None or remaining_ms is None or budget_ms is None or now_ms is None:
            return
        lateness_ms = remaining_ms - now_ms - budget_ms
        if lateness_ms > 0:
            self._reserve.note_lateness(lateness_ms)

    def _fault(self, model: str, reply: Reply) -> str | None:
        """Return what is wrong with a reply; None if nothing is."""
        classes = len(self._record.group.classes)
        if reply.logits is None:
            return None if reply.best else f"the server's {model} gives no class for this image"
        if reply.logits.size != classes:
            return (
                f"the server's {model} gives {reply.logits.size} logits, this bundle has {classes} classes: it serves "
                "another bundle"
            )
        if not np.isfinite(reply.logits).all():
            return f"the server's {model} gives logits that are not finite for this image"
        return None

    def _request(self, request_id: str, placement: str, wire: Wire, *, model_sha256: str | None = None) -> Request:
        return Request(
            id=request_id,
            model=self._model(placement),
            tensor=wire.tensor,
            content=wire.content,
            shape=wire.shape,
            model_sha256=model_sha256,
        )

    def _sha256(self, placement: str) -> str:
        """Return the SHA-256 of the file that the server runs for a placement."""
        remote = self._record.remote
        file = remote.file if placement == REMOTE and remote else self._record.cut(placement).tail
        return self._record.files[file].sha256

    def _model(self, placement: str) -> str:
        return f"{self._record.name}.{placement}"

    def _doubt(self, placement: str) -> Doubt:
        with self._lock:
            return self._doubts[placement]
