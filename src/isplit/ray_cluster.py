"""Join a Ray cluster: the server's replicas and the training sweeps of `design` both do."""

import logging
import os
import socket
from importlib import import_module
from typing import Any

from isplit.errors import InputError, needs_extra

_REACH_S = 5.0
"""How long the cluster's head may take to accept a connection."""


def join_ray_cluster(address: str | None) -> bool:
    """Join the Ray cluster at `address`, and return whether this process had not joined one before.

    Whoever gets True calls `ray.shutdown()` in the end. `address` is as for `ray.init`: HOST:PORT of a cluster; None
    joins the one that runs on this machine or that RAY_ADDRESS names, or else starts one on this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: There is no cluster at the address.

    """
    # A process that outlives its cluster must not make Ray start a new one on its next call.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    with needs_extra("ray"):
        ray: Any = import_module("ray")  # its own types are partly unknown
    if ray.is_initialized():
        return False
    # A cluster that is started here sends no usage statistics and opens no dashboard.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address is None and "RAY_ADDRESS" not in os.environ:
        options["include_dashboard"] = False
    try:
        _check_reachable(address)
        ray.init(address=address, **options)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        msg = f"cannot join the Ray cluster at {address}: {reason}; give the HOST:PORT that `ray start --head` printed"
        raise InputError(msg) from error
    return True


def _check_reachable(address: str | None) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray would try for minutes, and then say little."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:  # "auto", "local" and "ray://…" are words of Ray's own
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
