"""Send requests over gRPC, with one connection per client, TLS and tokens, and a new connection for a dead one."""

import re
import threading
import time
from typing import Any, cast

import grpc

from isplit.runtime.access import read_pem
from isplit.runtime.edge.security import Tls, check_address, check_token, is_loopback
from isplit.runtime.edge.transport import DEAD_AFTER_S, Reply, Request, TransportError, known_status
from isplit.runtime.edge.wire import parse_reply, read_reply, request_message

MAX_REPLY_BYTES = 2**22
"""The longest message that is accepted: a million logits."""

_METHOD = "/inference.GRPCInferenceService/ModelInfer"

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
    ("grpc.max_send_message_length", -1),
    # gRPC's own waits grow to two minutes, so that it would not notice for a long time that a server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),  # the time that a connection may take, despite the name
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),  # our own retries know the deadline, the breaker and the fallback
    # gRPC shares connections by default. Here, two clients of one process have two, and a new channel is a new
    # connection.
    ("grpc.use_local_subchannel_pool", 1),
)

_UNKNOWN_HOST = ("errors resolving", "DNS resolution failed", "hostname lookup error")
_CONNECTING = re.compile(r"Failed to connect to remote host: (?:connect: )?([^:()]+)")


def failure_words(details: str) -> str:
    """Return gRPC's words about a failure in one line, and in plain words where it could not connect.

    Examples:
        >>> failure_words("errors resolving a.b:1: [field:hostname lookup error:address lookup failed for a.b:1]")
        'no host of this name is known: check the address'
        >>> failure_words("ipv4:[::1]:1: Failed to connect to remote host: Connection refused (111)")
        'cannot connect: Connection refused'

    """
    if any(words in details for words in _UNKNOWN_HOST):
        return "no host of this name is known: check the address"
    reason = _CONNECTING.search(details)
    return f"cannot connect: {reason[1].strip()}" if reason else " ".join(details.split())


class GrpcTransport:
    """Send requests over gRPC to one server.

    Raises:
        InputError: on construction, if there is no address, a TLS file cannot be read, or a token would cross a
            network in plain text without `insecure`.

    """

    def __init__(
        self, server: str, *, token: str | None = None, tls: Tls | None = None, insecure: bool = False
    ) -> None:
        check_address(server)
        check_token(server, token, tls=tls, insecure=insecure)
        self._server = server
        self._credentials = None if tls is None else channel_credentials(tls)
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._lock = threading.Lock()
        self._closed = False
        self._link = self._open()

    def infer(self, request: Request, *, timeout_s: float | None) -> Reply:
        """Send the request and wait for the reply."""
        link = self._take()
        try:
            content = link.infer(request_message(request), timeout=timeout_s, metadata=self._metadata)
            link.heard_s = time.monotonic()
        except grpc.RpcError as error:
            raise self._failure(cast("Any", error), link) from None
        except ValueError:  # grpc raises this on a channel that was closed meanwhile
            raise TransportError("CANCELLED", "the connection was closed") from None
        finally:
            self._give_back(link)
        return read_reply(parse_reply(content))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._closed = True
            self._link.channel.close()

    def _open(self) -> "_Link":
        return _Link(open_channel(self._server, self._credentials))

    def _take(self) -> "_Link":
        with self._lock:
            self._link.users += 1
            return self._link

    def _give_back(self, link: "_Link") -> None:
        """Close a link that was replaced, once no request waits on it; it may only have been slow."""
        with self._lock:
            link.users -= 1
            unused = link is not self._link and link.users == 0
        if unused:
            link.channel.close()

    def _failure(self, error: Any, link: "_Link") -> TransportError:
        status = known_status(str(error.code().name))
        if status != "DEADLINE_EXCEEDED":
            link.heard_s = time.monotonic()
        elif time.monotonic() - link.heard_s >= DEAD_AFTER_S:
            with self._lock:
                if link is self._link and not self._closed:
                    self._link = self._open()
        return TransportError(status, failure_words(str(error.details() or "")))


def open_channel(server: str, credentials: Any) -> Any:
    """Return a gRPC channel to a server, which connects when it is first used.

    Args:
        server: Its address, as `check_address` takes it.
        credentials: What `channel_credentials` returned; None for a connection without TLS.

    """
    # A proxy from the environment must not stand between a device and itself.
    options = (*_OPTIONS, ("grpc.enable_http_proxy", 0)) if is_loopback(server) else _OPTIONS
    if credentials is None:
        return grpc.insecure_channel(server, options=options)
    return grpc.secure_channel(server, credentials, options=options)


class _Link:
    """A channel, the number of requests on it, and the time of its last sign of life."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        # The answer stays bytes here: gRPC would write a traceback into the log for bytes that are no message.
        self.infer: Any = channel.unary_unary(_METHOD, request_serializer=_serialized)
        self.users = 0
        self.heard_s = time.monotonic()


def _serialized(message: Any) -> bytes:
    return message.SerializeToString()


def channel_credentials(tls: Tls) -> Any:
    """Return gRPC's credentials from TLS files.

    Raises:
        InputError: a file cannot be read or is not PEM.

    """
    ca, key, cert = (None if path is None else read_pem(path) for path in (tls.ca, tls.key, tls.cert))
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
