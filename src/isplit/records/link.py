"""Record networks between a device and a server: a link, a link that changes over time, and the overhead."""

import itertools
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from isplit.records.base import Amount, Part, Record
from isplit.records.profile import FigureSource, PositiveRate

Transport = Literal["tcp", "udp"]

LossShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class WireBytes(Part):
    """The bytes of one image on the wire, including the protocol, for each direction."""

    up: Amount
    down: Amount

    def over(self, other: "WireBytes") -> tuple[float, float]:
        """Return these bytes over others: up, and in both directions together."""
        return self.up / other.up, (self.up + self.down) / (other.up + other.down)


class WireOverhead(Part):
    """The bytes that the protocol adds to a payload, without TCP and IP headers; all per request on a warm connection.

    A split sends its payload and `split_up_bytes` more, and receives `split_down_bytes` in all; a compressed image
    correspondingly. An answer holds the most probable classes. `source` says where the figures come from.
    """

    split_up_bytes: int = Field(ge=0)
    split_down_bytes: int = Field(ge=0)
    image_up_bytes: int = Field(ge=0)
    image_down_bytes: int = Field(ge=0)
    source: str

    def with_classes(self, classes: int) -> Self:
        """Return the overhead of answers with this number of classes, if this one is of `MEASURED_CLASSES`."""
        more = _best_bytes(classes) - _best_bytes(MEASURED_CLASSES)
        changes = {"split_down_bytes": self.split_down_bytes + more, "image_down_bytes": self.image_down_bytes + more}
        return self.model_copy(update=changes)

    def of_split(self, payload_bytes: float) -> WireBytes:
        """Return the bytes on the wire for a split that sends a payload of this length."""
        return WireBytes(up=payload_bytes + self.split_up_bytes, down=self.split_down_bytes)

    def of_image(self, payload_bytes: float) -> WireBytes:
        """Return the bytes on the wire for a compressed image of this length."""
        return WireBytes(up=payload_bytes + self.image_up_bytes, down=self.image_down_bytes)


MEASURED_CLASSES = 10
"""The number of classes that `MEASURED_WIRE_OVERHEAD` was measured with."""

_BEST_CLASSES = 5
"""How many of the most probable classes an answer holds where there are so many."""

MEASURED_WIRE_OVERHEAD = WireOverhead(
    split_up_bytes=9,
    split_down_bytes=33,
    image_up_bytes=9,
    image_down_bytes=33,
    source=(
        "counted by a proxy between isplit's client and server in November 2026, on a warm connection: a request takes "
        "9 bytes more than its payload, and an answer with the five most probable of 10 classes takes 33; over gRPC, "
        "which the client takes where the server or a proxy speaks nothing else, 112 and 238"
    ),
)
"""What the protocol of this version adds to a payload, for 10 classes (see `WireOverhead.with_classes`).

tests/runtime/test_wire_bytes.py counts these bytes again.
"""


def _best_bytes(classes: int) -> int:
    """Return the bytes of the most probable classes in an answer: the class's number, and 16 bits of probability."""
    return min(_BEST_CLASSES, classes) * (2 + (1 if classes <= 2**8 else 2 if classes <= 2**16 else 4))


def wire_overhead(classes: int) -> WireOverhead:
    """Return the bytes that this version's protocol adds to a payload, for answers with this number of classes.

    0 classes stand for an unknown number, for which `MEASURED_CLASSES` is used.
    """
    return MEASURED_WIRE_OVERHEAD.with_classes(classes or MEASURED_CLASSES)


class Radio(Part):
    """What sending and receiving cost the device beside its other power, in watts while it does so."""

    transmit_w: float = Field(ge=0, allow_inf_nan=False)
    receive_w: float = Field(ge=0, allow_inf_nan=False)


class ProbeDetails(Part):
    """How a link was measured: the bytes in each direction, the round trips, the seconds, and the server.

    `loss_method` describes how loss was estimated, since TCP hides it.
    """

    server: str
    up_bytes: int = Field(ge=0)
    down_bytes: int = Field(ge=0)
    round_trips: int = Field(ge=1)
    seconds: float = Field(gt=0)
    started_unix_s: Amount
    loss_method: str


class LinkRecord(Record):
    """A link, "isplit.link/1": rates in bits per second as seen from the device, times in milliseconds.

    Rates are those of IP packets, headers included. `rtt_ms` is the round trip of a small packet on an idle link and
    `jitter_ms` the standard deviation of that round trip. Losses are the shares of packets lost on the way up and down,
    independent of each other. `mtu_bytes` is the largest IP packet. `max_message_bytes` limits one message and
    `duty_cycle` the share of time in which the device may send, where the technology has such limits (None: none).
    `source` is "measured" for a probe, and "estimated" for presets and stated figures.
    """

    schema_name: ClassVar[str] = "isplit.link/1"
    file_name: ClassVar[str] = "link.json"

    name: str = Field(min_length=1, max_length=100)
    title: str
    source: FigureSource
    sources: tuple[str, ...] = ()
    up_bits_per_s: PositiveRate
    down_bits_per_s: PositiveRate
    rtt_ms: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    jitter_ms: float = Field(default=0.0, ge=0, le=1e9, allow_inf_nan=False)
    loss_up: LossShare = 0.0
    loss_down: LossShare = 0.0
    mtu_bytes: int = Field(default=1500, ge=68, le=65_535)
    max_message_bytes: int | None = Field(default=None, ge=1)
    duty_cycle: float | None = Field(default=None, ge=1e-9, le=1)
    radio: Radio | None = None
    probe: ProbeDetails | None = None

    def with_rate(self, bits_per_s: float) -> "LinkRecord":
        """Return the link with that rate up; the rate down keeps its ratio to it."""
        ratio = self.down_bits_per_s / self.up_bits_per_s
        return self.model_copy(update={"up_bits_per_s": bits_per_s, "down_bits_per_s": bits_per_s * ratio})


class TracePoint(Part):
    """The state of a link from `time_s` until the next point."""

    time_s: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    up_bits_per_s: float = Field(ge=0, le=1e18, allow_inf_nan=False)
    down_bits_per_s: float = Field(ge=0, le=1e18, allow_inf_nan=False)
    rtt_ms: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    loss: LossShare = 0.0


class LinkTrace(Record):
    """A link that changes, "isplit.trace/1": points in the order of time, repeated from the start after `seconds`.

    A rate of 0 is an outage. The first point is at time 0.
    """

    schema_name: ClassVar[str] = "isplit.trace/1"
    file_name: ClassVar[str] = "trace.json"

    name: str
    points: tuple[TracePoint, ...] = Field(min_length=1)
    seconds: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        times = [point.time_s for point in self.points]
        if times[0] != 0:
            msg = f"the first point is at {times[0]} s; start the trace at 0"
            raise ValueError(msg)
        for before, after in itertools.pairwise(times):
            if after <= before:
                msg = f"time {after} s follows {before} s; times have to grow"
                raise ValueError(msg)
        if self.seconds <= times[-1]:
            msg = f"the trace ends at {self.seconds} s, not after its last point at {times[-1]} s"
            raise ValueError(msg)
        if not any(point.up_bits_per_s > 0 for point in self.points):
            msg = "the link's rate is 0 at every point: nothing could ever be sent"
            raise ValueError(msg)
        return self
