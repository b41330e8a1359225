"""Evaluate placements over links: latency and its parts, waiting, energy, and the throughput of each resource.

All arrays have an entry for each row, so that a plan for another link is one call of `evaluate`. Rates may be an array
as well. All results then have its shape before the axis of the rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.plan.costs import Costs
from isplit.plan.packets import LINUX_TCP, TcpSettings
from isplit.plan.transfer import transfer_cost
from isplit.records import LinkRecord, Transport
from isplit.records.paired import Z95
from isplit.setting_checks import check_types

Values = NDArray[np.float64]

_MOST_IMAGES = 1e12
"""The upper limit of images a day or a second."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Describe the load of the server and of the device, and how requests travel.

    `arrivals_per_s` are the requests of all devices at the server. `images_per_s` are the images that one device has to
    keep up with (0 sets no rate). `images_per_day` is the factor that gives bytes a day.

    Raises:
        InputError: a number is negative, not finite, or beyond 1e12.

    """

    arrivals_per_s: float = 0.0
    images_per_s: float = 0.0
    images_per_day: float = 86_400.0
    transport: Transport = "tcp"
    warm: bool = True
    tcp: TcpSettings = LINUX_TCP

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("arrivals_per_s", "images_per_s", "images_per_day"):
            if not 0 <= getattr(self, name) <= _MOST_IMAGES:
                msg = f"{name} is {getattr(self, name)}; give a number from 0 to {_MOST_IMAGES:g}"
                raise InputError(msg)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Hold the results of every row over a link, in milliseconds, millijoules and images per second.

    The last axis runs over the rows.
    """

    up_ms: Values
    queue_ms: Values
    down_ms: Values
    total_ms: Values
    total_p95_ms: Values
    energy_mj: Values
    device_per_s: Values
    up_per_s: Values
    server_per_s: Values
    down_per_s: Values
    delivery_share: Values
    overloaded: NDArray[np.bool_]
    too_long: NDArray[np.bool_]

    @property
    def images_per_s(self) -> Values:
        """Return the number of images per second that the slowest resource can serve."""
        return np.minimum(np.minimum(self.device_per_s, self.up_per_s), np.minimum(self.server_per_s, self.down_per_s))


def evaluate(costs: Costs, link: LinkRecord, load: Load, *, up_bits_per_s: Values | None = None) -> Evaluation:
    """Evaluate all rows over a link. Other uplink rates (of any shape) put their shape before the axis of the rows."""
    up_rate = np.asarray(link.up_bits_per_s if up_bits_per_s is None else up_bits_per_s, float)[..., None]
    down_rate = up_rate * (link.down_bits_per_s / link.up_bits_per_s)
    up = transfer_cost(
        costs.up_bytes, link, transport=load.transport, warm=load.warm, settings=load.tcp, rate_bits_per_s=up_rate
    )
    down = transfer_cost(
        costs.down_bytes, link, up=False, transport=load.transport, settings=load.tcp, rate_bits_per_s=down_rate
    )
    longer_ms = np.maximum(costs.up_p95_bytes - costs.up_bytes, 0.0) * 8e3 / up_rate
    sends = costs.sends
    up_ms, down_ms = np.where(sends, up.median_ms, 0.0), np.where(sends, down.median_ms, 0.0)
    up_extra = np.where(sends, np.hypot(up.p95_ms - up.median_ms, longer_ms), 0.0)
    down_extra = np.where(sends, down.p95_ms - down.median_ms, 0.0)
    service_ms = costs.decode_ms + costs.tail_ms
    queue_ms, queue_p95_ms, full = waiting_ms(
        service_ms, arrivals_per_s=load.arrivals_per_s, spread=costs.server_spread
    )
    device_ms = costs.preprocess_ms + costs.head_ms + costs.encode_ms + costs.finish_ms
    total_ms = device_ms + up_ms + queue_ms + service_ms + costs.middle_ms + down_ms
    deviations = (
        (costs.device_spread - 1) * device_ms,
        (costs.server_spread - 1) * (service_ms + costs.middle_ms),
        up_extra,
        down_extra,
        np.maximum(queue_p95_ms - queue_ms, 0.0),
    )
    spread_ms = np.sqrt(sum((deviation**2 for deviation in deviations), np.zeros_like(total_ms)))
    up_busy_ms = np.where(sends, up.serialisation_ms, 0.0)
    down_busy_ms = np.where(sends, down.serialisation_ms, 0.0)
    share = 1.0 if link.duty_cycle is None else link.duty_cycle
    device_per_s, up_per_s = _per_s(device_ms), _per_s(up_busy_ms / share)
    server_per_s, down_per_s = _per_s(np.maximum(service_ms, costs.slowest_ms)), _per_s(down_busy_ms)
    wanted = load.images_per_s
    overloaded = full | (wanted > device_per_s) | (wanted > up_per_s) | (wanted > down_per_s)
    longest = np.inf if link.max_message_bytes is None else link.max_message_bytes
    radio = link.radio
    energy = costs.active_w * device_ms + costs.idle_w * (total_ms - device_ms)
    if radio is not None:
        energy = energy + radio.transmit_w * up_busy_ms + radio.receive_w * down_busy_ms
    return Evaluation(
        up_ms=up_ms,
        queue_ms=np.broadcast_to(queue_ms, total_ms.shape),
        down_ms=down_ms,
        total_ms=total_ms,
        total_p95_ms=total_ms + spread_ms,
        energy_mj=np.where(np.isnan(costs.measured_energy_mj), energy, costs.measured_energy_mj),
        device_per_s=np.broadcast_to(device_per_s, total_ms.shape),
        up_per_s=up_per_s,
        server_per_s=np.broadcast_to(server_per_s, total_ms.shape),
        down_per_s=down_per_s,
        delivery_share=np.where(sends, up.whole_share * down.whole_share, 1.0),
        overloaded=overloaded & np.ones_like(total_ms, bool),
        too_long=np.broadcast_to(sends & (costs.up_bytes > longest), total_ms.shape),
    )


def _per_s(busy_ms: Values) -> Values:
    """Return how often that time fits into a second, which is infinite for no time."""
    with np.errstate(divide="ignore"):
        return 1e3 / np.asarray(busy_ms, float)


def waiting_ms(service_ms: Values, *, arrivals_per_s: float, spread: float) -> tuple[Values, Values, NDArray[np.bool_]]:
    """Return mean and 95th percentile of the wait in an M/G/1 queue, and where the queue would grow without end.

    The mean is that of Pollaczek and Khinchine. `spread` is the ratio of the 95th percentile of service times to their
    median (1 gives M/D/1). The wait of requests that wait is taken as exponential. Where arrivals exceed the capacity,
    both are 0.
    """
    load = arrivals_per_s * service_ms / 1e3
    full = load >= 1
    variation = (spread - 1) / Z95
    idle = np.where(full, 1.0, 1 - load)
    mean = np.where(full, 0.0, load * service_ms * (1 + variation**2) / (2 * idle))
    busy = np.maximum(load, 1e-12)
    p95 = np.where(full | (load <= 0.05), 0.0, mean / busy * np.log(np.maximum(busy / 0.05, 1.0)))
    return mean, p95, full
