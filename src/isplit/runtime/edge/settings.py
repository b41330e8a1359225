"""Define how a device runs a bundle, reaches its server, and decides when a request fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from isplit.errors import InputError
from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.edge.security import Tls
from isplit.runtime.providers import Provider, check_provider
from isplit.setting_checks import check_ranges, check_types

WireName = Literal["payload", "latent"]
ProtocolName = Literal["auto", "lean", "grpc"]
PROTOCOLS: tuple[ProtocolName, ...] = ("auto", "lean", "grpc")

_MAX_BEST = 255
"""Most classes of an answer on the lean wire, which states their number in one byte."""

_MAX_THREADS = 256


@dataclass(frozen=True, kw_only=True)
class EdgeSettings:
    """Define how a client on a device works.

    Args:
        placement: The placement of calls that give none; by default the bundle's first cut, or "local" without a
            server.
        deadline_ms: The deadline of calls that give none; by default there is none.
        wire: "payload" sends entropy-coded bytes. "latent" sends plain uint8, for any server of the Open Inference
            Protocol.
        fallback: Whether the whole model runs here when the server cannot be reached, if the bundle holds it. It takes
            that model's memory once it is needed.
        token: The bearer token for the server.
        tls: The certificates for the server; None speaks plain text.
        insecure: Whether a token may cross a network in plain text.
        retry: How often and how soon a failed request is sent again.
        breaker: When requests are no longer sent, and for how long.
        attempt_timeout_ms: The longest time that an attempt may take.
        threads: The threads that share the work of one operator of the head, 1 to 256.
        provider: The execution provider of models here (see `isplit.runtime.providers`). If it is not available, the
            CPU takes over, and every answer says so.
        verify: Whether the bundle's files are hashed first.
        require_server: Whether the constructor asks the server about a sample image, so that a wrong address, token or
            bundle is an error at once, and not a permanent fallback (see `EdgeClient.check_server`). None stands for
            True if a server is given. Give False for a device that must start without its server.
        protocol: "auto" takes isplit's lean wire where the server speaks it (see `EdgeClient.wire_note`) and gRPC
            elsewhere, "grpc" is for any server, and "lean" takes nothing else.
        best_classes: How many of the most probable classes an answer holds, 1 to 255.
        logits: Whether answers on the lean wire hold the logits of all classes. Over gRPC they always do.
        server_times: Whether answers on the lean wire hold the server's times.

    Raises:
        InputError: on construction, if a value is out of its range, or two do not fit each other.

    """

    placement: str | None = None
    deadline_ms: float | None = None
    wire: WireName = "payload"
    fallback: bool = True
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    insecure: bool = False
    retry: Retry = field(default_factory=Retry)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    attempt_timeout_ms: float = 5000.0
    threads: int = 1
    provider: Provider = "auto"
    verify: bool = True
    require_server: bool | None = None
    protocol: ProtocolName = "auto"
    best_classes: int = 5
    logits: bool = False
    server_times: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        if self.wire not in ("payload", "latent"):
            msg = f"wire is {self.wire!r}; choose payload (entropy-coded) or latent (plain uint8)"
            raise InputError(msg)
        if self.protocol not in PROTOCOLS:
            msg = f"protocol is {self.protocol!r}; choose {', '.join(PROTOCOLS)}"
            raise InputError(msg)
        if self.wire == "latent" and self.protocol == "lean":
            msg = 'wire "latent" is for servers that speak gRPC: leave out protocol "lean", or wire "latent"'
            raise InputError(msg)
        positive_ms(self.attempt_timeout_ms, "attempt_timeout_ms")
        positive_ms(self.deadline_ms, "deadline_ms")
        check_provider(self.provider)
        check_ranges(self, {"best_classes": (1, _MAX_BEST), "threads": (1, _MAX_THREADS)})


def positive_ms(value: float | None, name: str) -> float | None:
    """Return a number of milliseconds; None stays None.

    Raises:
        InputError: It is not above zero, or not finite; the message calls it `name`.

    """
    if value is not None and not 0 < value < float("inf"):
        msg = f"{name} is {value}; give a number of milliseconds above zero"
        raise InputError(msg)
    return value
