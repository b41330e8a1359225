"""Send requests on the lean wire where the server speaks it, and over gRPC where it does not."""

import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from isplit.errors import InputError, IsplitError
from isplit.runtime.edge.connecting import Wanted
from isplit.runtime.edge.lean_connect import BrokenOffError, NotLeanError, Patience, connect_lean, lean_context
from isplit.runtime.edge.lean_link import LeanLink, LostError
from isplit.runtime.edge.security import Tls, is_loopback
from isplit.runtime.edge.transport import DEAD_AFTER_S, Reply, Request, Transport, TransportError
from isplit.runtime.lean.device_frames import MAX_CONTENT_BYTES, MAX_NAME_BYTES, LeanWireError, Opening
from isplit.runtime.lean.server_frames import MAX_BODY_BYTES, AnswerBody, decode_answer

AGAIN_S = 60.0
"""Seconds between two attempts at the lean wire while gRPC serves instead."""

_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


@dataclass(eq=False)
class _Attempt:
    """An attempt to connect: its outcome once there is one."""

    link: LeanLink | None = None
    fault: IsplitError | None = None


class LeanTransport:
    """Send requests on the lean wire where the server speaks it.

    `over_grpc` makes the other transport when it is first needed: for a server without the lean wire, and for requests
    or answers that are too long for it; None refuses these. `note` says why the lean wire is not used at present; None
    if it is.
    """

    def __init__(
        self,
        server: str,
        wanted: Wanted,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        over_grpc: Callable[[], Transport] | None,
        connect: Callable[..., LeanLink] = connect_lean,
        again_s: float = AGAIN_S,
    ) -> None:
        self._server = server
        self._wanted = wanted
        self._token = token
        self._over_grpc = over_grpc
        self._connect = connect
        self._again_s = again_s
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._link: LeanLink | None = None
        self._attempt: _Attempt | None = None
        self._patience = Patience()
        self._grpc: Transport | None = None
        self._closed = False
        self._try_at_s = 0.0
        self._context: ssl.SSLContext | None = None
        self.note: str | None = _why_not(server)
        if self.note is not None:
            self._try_at_s = float("inf")
        elif tls is not None:
            try:
                self._context = lean_context(tls)
            except (OSError, InputError) as error:
                self.note, self._try_at_s = f"TLS cannot be set up: {error}", float("inf")

    @property
    def grpc_note(self) -> str | None:
        """Why requests travel over gRPC at present; None if they do not, or if there is no gRPC behind this wire."""
        return None if self._over_grpc is None else self.note

    def infer(self, request: Request, *, timeout_s: float | None) -> Reply:
        """Send the request and wait for the reply."""
        ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        opening = self._opening(request)
        if opening is not None:
            for is_last in (False, True):
                link = self._take(ends_s)
                if link is None:
                    break
                had_answered = link.answers > 0
                try:
                    body = link.exchange(opening, request.content, ends_s=ends_s)
                    return _reply(request, decode_answer(opening, body))
                except LostError:
                    # A connection that was idle may have ended long ago: the request gets a second one at once.
                    if is_last or not had_answered:
                        raise
                except LeanWireError as error:
                    raise TransportError("UNKNOWN", f"the server answered with {error}") from None
                except TransportError as error:
                    self._distrust(link, error)
                    raise
                finally:
                    self._give_back(link)
        left_s = None if ends_s is None else max(ends_s - time.monotonic(), 0.0)
        return self._other().infer(request, timeout_s=left_s)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._closed = True
            link, other = self._link, self._grpc
            self._link = None
            self._changed.notify_all()
        if link is not None:
            link.close()
        if other is not None:
            other.close()

    def _opening(self, request: Request) -> Opening | None:
        """Return how a request's model is opened; None if request or answer are too long for the lean wire."""
        wanted = self._wanted
        too_long = (
            len(request.content) > MAX_CONTENT_BYTES
            or len(request.model.encode()) > MAX_NAME_BYTES
            or (wanted.logits and 4 * wanted.classes > MAX_BODY_BYTES - 2**9)
        )
        if too_long:
            return None
        return Opening(
            model=request.model,
            tensor=request.tensor,
            classes=wanted.classes,
            best=wanted.best,
            wants_logits=wanted.logits,
            wants_timings=wanted.times,
            sha256=request.model_sha256 or "",
        )

    def _take(self, ends_s: float | None) -> LeanLink | None:
        """Return the link, once there is one; None if gRPC is to be used instead.

        Connecting goes on in a thread of its own when a request gives up, so that requests with short deadlines find a
        connection later.

        Raises:
            TransportError: Nothing can be reached, or not in time, or the transport was closed.

        """
        with self._lock:
            while True:
                if self._closed:
                    raise TransportError("CANCELLED", "the connection was closed")
                if self._link is not None and self._link.is_open:
                    self._link.users += 1
                    return self._link
                if self._attempt is None:
                    if time.monotonic() < self._try_at_s:
                        return None
                    self._attempt = _Attempt()
                    threading.Thread(target=self._run_attempt, args=(self._attempt,), daemon=True).start()
                if self.note is not None and self._over_grpc is not None:
                    return None  # gRPC has served so far, and no request waits for the attempt
                attempt = self._attempt
                while attempt is self._attempt and not self._closed:
                    left_s = None if ends_s is None else ends_s - time.monotonic()
                    if left_s is not None and left_s <= 0:
                        raise TransportError("DEADLINE_EXCEEDED", "no connection came about in time")
                    self._changed.wait(left_s)
                if isinstance(attempt.fault, TransportError):
                    raise attempt.fault
                if attempt.fault is not None:
                    return None

    def _run_attempt(self, attempt: _Attempt) -> None:
        """Connect, and tell everybody who waits."""
        note: str | None = None
        is_silent = False
        begun_s = time.monotonic()
        try:
            attempt.link = self._connect(
                self._server, token=self._token, context=self._context, patience=self._patience
            )
        except NotLeanError as error:
            attempt.fault, note = self._judged(error), str(error)
            is_silent = isinstance(error, BrokenOffError)
        except TransportError as error:
            attempt.fault = error
            is_silent = error.status == "UNAVAILABLE"
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            attempt.fault = TransportError("UNAVAILABLE", f"cannot connect: {type(error).__name__}: {error}")
        took_s = time.monotonic() - begun_s
        if attempt.link is not None:
            self._patience.after_welcome(took_s)
        elif is_silent and self._patience.after_failure(took_s):
            attempt.fault = TransportError("UNAVAILABLE", f"the server gave no answer within {took_s:.1f} s")
        old: LeanLink | None = None
        with self._lock:
            self._attempt = None
            if isinstance(attempt.fault, NotLeanError):
                self.note = note
                self._try_at_s = time.monotonic() + self._again_s
            elif attempt.link is not None:
                self.note = None
                old, self._link = self._link, attempt.link
                if self._closed:
                    old, self._link = attempt.link, None
            elif self.grpc_note is not None:
                # No request waits for this attempt, so that each would start another one while the server is down.
                self._try_at_s = time.monotonic() + self._again_s
            is_unused = old is not None and (self._closed or old.users == 0)
            self._changed.notify_all()
        if old is not None and is_unused:
            old.close()

    def _judged(self, error: NotLeanError) -> IsplitError:
        """Return what those who wait are told. Without gRPC, the next request tries a server that broke off again."""
        if self._over_grpc is not None or not isinstance(error, BrokenOffError):
            return error
        return TransportError("UNAVAILABLE", f"{error}; the server has failed, or does not speak the lean wire")

    def _distrust(self, link: LeanLink, error: TransportError) -> None:
        """Use a new connection after a timeout and silence: a link that drops everything gives no error."""
        if error.status == "DEADLINE_EXCEEDED" and time.monotonic() - link.heard_s >= DEAD_AFTER_S:
            with self._lock:
                if link is self._link:
                    self._link = None

    def _give_back(self, link: LeanLink) -> None:
        """Close a link that is no longer used for new requests, once no request waits on it."""
        with self._lock:
            link.users -= 1
            is_unused = link.users == 0 and (link is not self._link or not link.is_open)
            if is_unused and link is self._link:
                self._link = None
        if is_unused:
            link.close()

    def _other(self) -> Transport:
        if self._over_grpc is None:
            msg = f"the lean wire cannot be used: {self.note or 'the request or its answer is too long for it'}"
            raise TransportError("UNIMPLEMENTED", msg)
        with self._lock:
            if self._closed:
                raise TransportError("CANCELLED", "the connection was closed")
            if self._grpc is None:
                self._grpc = self._over_grpc()
            return self._grpc


def _why_not(server: str) -> str | None:
    """Return why the lean wire cannot be tried with a server at all; None if it can."""
    if server.startswith("unix:"):
        return "the server is a Unix socket"
    if not is_loopback(server):
        for name in _PROXY_VARIABLES:
            if os.environ.get(name):
                return f"the environment names a proxy ({name})"
    return None


def _reply(request: Request, answer: AnswerBody) -> Reply:
    times = answer.times
    return Reply(
        id=request.id,
        logits=answer.logits,
        best=answer.best,
        decode_ms=times.decode_ms if times else None,
        queue_ms=times.queue_ms if times else None,
        infer_ms=times.infer_ms if times else None,
        server_ms=times.server_ms if times else None,
        batch_size=times.batch_size if times else None,
        provider=answer.provider or None,
    )
