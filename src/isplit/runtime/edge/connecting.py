"""Choose the transport to a server: the lean wire, gRPC, or the former with the latter behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from isplit.errors import InputError
from isplit.runtime.edge.security import Tls, check_address, check_token

if TYPE_CHECKING:
    from isplit.runtime.edge.transport import Transport

ProtocolName = Literal["auto", "lean", "grpc"]
PROTOCOLS: tuple[ProtocolName, ...] = ("auto", "lean", "grpc")

_MAX_BEST = 255
"""Most classes of an answer on the lean wire, which states their number in one byte."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a device wants of answers: how many classes, whether all logits, and whether the server's times.

    `classes` is the number of classes of its bundle.
    """

    classes: int
    best: int
    logits: bool
    times: bool


@dataclass(frozen=True, kw_only=True)
class ServerAccess:
    """The credentials for a server, as for `EdgeClient`, and what answers shall hold."""

    token: str | None
    tls: Tls | None
    insecure: bool
    wanted: Wanted


def connect(server: str, access: ServerAccess, protocol: ProtocolName) -> Transport:
    """Return a transport, which connects when it is first used.

    Raises:
        InputError: The address, the credentials or the protocol cannot be used.

    """
    if protocol not in PROTOCOLS:
        msg = f"protocol is {protocol!r}; choose {', '.join(PROTOCOLS)}"
        raise InputError(msg)
    check_address(server)
    check_token(server, access.token, tls=access.tls, insecure=access.insecure)
    over_grpc = partial(_over_grpc, server, access)
    if protocol == "grpc":
        return over_grpc()
    from isplit.runtime.edge.lean_transport import LeanTransport

    is_only = protocol == "lean"
    return LeanTransport(
        server, access.wanted, token=access.token, tls=access.tls, over_grpc=None if is_only else over_grpc
    )


def wire_note(transport: Transport | None) -> str | None:
    """Return why a transport uses gRPC where it prefers the lean wire; None if it does not, or prefers nothing."""
    note: str | None = getattr(transport, "grpc_note", None)
    return note


def check_best(count: int, *, classes: int) -> int:
    """Return how many classes an answer can hold.

    Raises:
        InputError: The number that was asked for is out of range.

    """
    if not 1 <= count <= _MAX_BEST:
        msg = f"best_classes is {count}; give 1 to {_MAX_BEST}"
        raise InputError(msg)
    return min(count, classes)


def positive_ms(value: float | None, name: str) -> float | None:
    """Return a number of milliseconds; None stays None.

    Raises:
        InputError: It is not above zero, or not finite; the message calls it `name`.

    """
    if value is not None and not 0 < value < float("inf"):
        msg = f"{name} is {value}; give a number of milliseconds above zero"
        raise InputError(msg)
    return value


def _over_grpc(server: str, access: ServerAccess) -> Transport:
    from isplit.runtime.edge.grpc_transport import GrpcTransport  # importing grpc takes a while

    return GrpcTransport(server, token=access.token, tls=access.tls, insecure=access.insecure)
