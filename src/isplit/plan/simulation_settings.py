"""Define what is simulated: devices, their requests, the server, and how the link behaves."""

import math
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from isplit.errors import InputError
from isplit.plan.arrivals import MOST_REQUESTS
from isplit.plan.controllers import ControllerName, ControllerSettings
from isplit.plan.packets import LINUX_TCP, TcpSettings
from isplit.plan.units import LONGEST_S
from isplit.records import LinkRecord, LinkTrace, Scenario, Transport
from isplit.records.simulation import Arrivals
from isplit.setting_checks import check_choice, check_ranges, check_types

_MOST = 1_000_000
_RANGES = {
    "devices": (1, MOST_REQUESTS),
    "packet_bytes": (68, 65_535),
    **dict.fromkeys(("max_batch", "queue_capacity", "workers"), (1, _MOST)),
    "batch_gain": (0, 1),
    "early_exit_share": (0, 1),
}
"""What counts and shares may be. The sizes are those of IP packets."""


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """Set what is simulated.

    Args:
        devices: The number of devices that make requests.
        arrivals: When requests come: "periodic", "poisson", or "trace" (at `times_s`).
        period_ms: The mean time between two requests of one device.
        duration_s: The time during which requests are made.
        times_s: Request times in seconds, for "trace".
        deadline_ms: Answers that take longer count as missed. With None, only dropped and lost requests do.
        transport: TCP or UDP. None takes the plan's.
        tcp: The behaviour of TCP.
        packet_bytes: The size of the largest IP packet. None takes the link's.
        shared_uplink: Whether all devices share the link's rate. Otherwise each device has a link of its own.
        max_batch: The largest number of requests in one batch of the server.
        queue_capacity: The largest number of requests that wait at the server.
        workers: The number of batches that the server runs at a time.
        batch_gain: The share of a request's time that a batch saves (see `queues.serve_batches`).
        early_exit_share: The share of requests that an exit on the device answers after the head.
        trace: A link that changes over time, which replaces the link's rate, round trip and loss.
        controller: The controller that chooses each request's placement over a trace. None simulates each placement
            by itself.
        seed: The seed of the simulation.

    Raises:
        InputError: a count, time or share is outside its range, a choice is unknown, or a setting lacks another that it
            needs.

    """

    devices: int = 1
    arrivals: Arrivals = "poisson"
    period_ms: float = 1000.0
    duration_s: float = 60.0
    times_s: tuple[float, ...] = ()
    deadline_ms: float | None = None
    transport: Transport | None = None
    tcp: TcpSettings = LINUX_TCP
    packet_bytes: int | None = None
    shared_uplink: bool = True
    max_batch: int = 8
    queue_capacity: int = 64
    workers: int = 1
    batch_gain: float = 0.0
    early_exit_share: float = 0.0
    trace: LinkTrace | None = None
    controller: ControllerName | None = None
    controller_settings: ControllerSettings = field(default_factory=ControllerSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self, _RANGES)
        if not 0 <= self.seed < 2**64:
            msg = f"seed is {self.seed}; give 0 or more, and less than 2^64"
            raise InputError(msg)
        check_choice("arrivals", self.arrivals, get_args(Arrivals))
        if self.transport is not None:
            check_choice("transport", self.transport, get_args(Transport))
        if self.controller is not None:
            check_choice("controller", self.controller, get_args(ControllerName))
        self._check_times()

    def _check_times(self) -> None:
        """Refuse times that are none, and settings without another that they need."""
        times = (("period", self.period_ms, "ms"), ("duration", self.duration_s, "s"))
        for name, value, unit in (*times, ("deadline", self.deadline_ms, "ms")):
            if value is not None and not (value > 0 and math.isfinite(value)):
                msg = f"{name} is {value:g} {unit}; give a time above 0"
                raise InputError(msg)
        if not _are_times(self.times_s):
            msg = f"times_s holds something else than times; give a list of seconds from 0 to {LONGEST_S:g}"
            raise InputError(msg)
        if self.arrivals == "trace" and len(self.times_s) == 0:  # it may be an array of numpy
            msg = "arrivals are to follow a trace, but there are no request times"
            raise InputError(msg)
        if self.controller is not None and self.trace is None:
            msg = f"controller is {self.controller!r}, which needs a link that changes: give `trace=FILE` too"
            raise InputError(msg)

    def scenario(self, link: LinkRecord, transport: Transport) -> Scenario:
        """Return what is recorded of them, over a link."""
        return Scenario(
            devices=self.devices,
            arrivals=self.arrivals,
            period_ms=self.period_ms,
            duration_s=self.duration_s,
            transport=transport,
            packet_bytes=self.packet_bytes or link.mtu_bytes,
            retransmission_timeout_ms=self.tcp.rto_ms(link.rtt_ms),
            shared_uplink=self.shared_uplink,
            max_batch=self.max_batch,
            queue_capacity=self.queue_capacity,
            workers=self.workers,
            link=link,
            trace=None if self.trace is None else self.trace.name,
            controller=self.controller,
            seed=self.seed,
        )


def _are_times(values: object) -> bool:
    """Return whether a value is a list or an array of times in seconds."""
    try:
        seconds = np.asarray(values)
    except ValueError:  # rows of several lengths
        return False
    return seconds.ndim == 1 and seconds.dtype.kind in "iuf" and bool(((seconds >= 0) & (seconds <= LONGEST_S)).all())
