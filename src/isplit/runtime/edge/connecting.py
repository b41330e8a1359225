"""Choose the transport to a server: the lean wire, gRPC, or the former with the latter behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from isplit.runtime.edge.security import check_address, check_token

if TYPE_CHECKING:
    from isplit.runtime.edge.settings import EdgeSettings
    from isplit.runtime.edge.transport import Transport


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a device wants of answers: how many classes, whether all logits, and whether the server's times.

    `classes` is the number of classes of its bundle.
    """

    classes: int
    best: int
    logits: bool
    times: bool


def connect(server: str, settings: EdgeSettings, *, classes: int) -> Transport:
    """Return a transport, which connects when it is first used. `classes` is the number of classes of the bundle.

    Raises:
        InputError: The address or the credentials cannot be used.

    """
    check_address(server)
    check_token(server, settings.token, tls=settings.tls, insecure=settings.insecure)
    over_grpc = partial(_over_grpc, server, settings)
    if settings.protocol == "grpc" or settings.wire == "latent":
        return over_grpc()
    from isplit.runtime.edge.lean_transport import LeanTransport

    wanted = Wanted(
        classes=classes,
        best=min(settings.best_classes, classes),
        logits=settings.logits,
        times=settings.server_times,
    )
    return LeanTransport(
        server,
        wanted,
        token=settings.token,
        tls=settings.tls,
        over_grpc=None if settings.protocol == "lean" else over_grpc,
    )


def wire_note(transport: Transport | None) -> str | None:
    """Return why a transport uses gRPC where it prefers the lean wire; None if it does not, or prefers nothing."""
    note: str | None = getattr(transport, "grpc_note", None)
    return note


def _over_grpc(server: str, settings: EdgeSettings) -> Transport:
    from isplit.runtime.edge.grpc_transport import GrpcTransport  # importing grpc takes a while

    return GrpcTransport(server, token=settings.token, tls=settings.tls, insecure=settings.insecure)
