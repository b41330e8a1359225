"""Record where a model should run: every placement with its latency in parts, the front, and one answer in words.

PlanRecord
├── machines, links, limits, objective    what was planned for, and which figures are estimated
├── placements    PlannedPlacement: segments on machines, latency, bytes, energy, memory, accuracy
└── answer        Recommendation: sentences, the chosen placement, switching points, what to train next

Plans of earlier versions lack what the profiles say about the machines.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from isplit.records.base import Amount, Count, Part, Share
from isplit.records.budget import RecordedBudget
from isplit.records.compression import Compression
from isplit.records.link import LinkRecord, Transport, WireOverhead
from isplit.records.profile import Execution, FigureSource, Machine, PlacementMemory, Power
from isplit.records.tables import TableRecord, named

PlacementKind = Literal["local", "remote", "split", "middle", "tiers", "segmented"]
"""All on the device; the image on the server; cut once; server in the middle; several machines; one by one in turn."""

AccuracySource = Literal["whole", "decoded images", "trained", "closed form", "predicted", "combined"]
Objective = Literal["latency", "p95-latency", "energy", "bytes", "accuracy", "throughput"]
LimitName = Literal[
    "max_latency_ms",
    "max_p95_latency_ms",
    "max_device_memory_bytes",
    "max_device_energy_mj",
    "max_wire_bytes",
    "max_bytes_per_day",
    "min_accuracy",
    "max_accuracy_loss",
    "min_images_per_s",
    "max_device_mac_share",
    "hide_image",
    "hide_answer",
    "capacity",
    "link_message",
]


class Limits(Part):
    """Limits that a placement has to keep; None is no limit.

    Latencies are from the image in the device's memory to the answer on the device, per image. `max_wire_bytes` are
    bytes of one image in both directions; `max_bytes_per_day` multiplies them by `images_per_day`. `min_accuracy` is a
    share in [0, 1], `max_accuracy_loss` the share below the whole model on the same images. `hide_image` keeps the
    image on the device, `hide_answer` the answer: the last layers then run on the device.
    """

    max_latency_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_p95_latency_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_device_memory_bytes: int | None = Field(default=None, gt=0)
    max_device_energy_mj: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_wire_bytes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_bytes_per_day: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    min_accuracy: float | None = Field(default=None, ge=0, le=1)
    max_accuracy_loss: float | None = Field(default=None, ge=0, le=1)
    min_images_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_device_mac_share: float | None = Field(default=None, gt=0, le=1)
    hide_image: bool = False
    hide_answer: bool = False


class LatencyParts(Part):
    """The parts of one image's time, in milliseconds; 0 for a part that does not take place.

    On the device `preprocess`, `head`, `encode` (entropy coding, or image compression); then `up` (first byte sent to
    last byte received), `queue`, `decode` and `tail` on the server, and `down` back to the device. With the classifier
    on the device (server in the middle), `finish` is what the device computes after the answer came back; on several
    tiers `middle` is what tiers between the first and the last compute, send and receive.
    """

    preprocess: Amount = 0.0
    head: Amount = 0.0
    encode: Amount = 0.0
    up: Amount = 0.0
    queue: Amount = 0.0
    decode: Amount = 0.0
    tail: Amount = 0.0
    middle: Amount = 0.0
    down: Amount = 0.0
    finish: Amount = 0.0

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return float(sum(getattr(self, name) for name in type(self).model_fields))


class Throughput(Part):
    """Images per second that each resource could serve alone; None where the placement does not use it."""

    device: Amount | None
    up: Amount | None
    server: Amount | None
    down: Amount | None
    bottleneck: Literal["device", "up", "server", "down"]
    images_per_s: Amount


class PlannedAccuracy(Part):
    """The accuracy of a placement, its 95 % interval, and its source.

    `difference` is to the whole model on the same images, and `stderr` is its standard error. `largest_loss` is the
    one-sided 95 % bound on how much accuracy is lost: that of the paired difference or, for a prediction, the lower end
    of its 90 % interval. It is None where neither is known. "predicted" is the accuracy after training by a
    calibration; "closed form" was measured without training, "decoded images" with the whole model on compressed
    images. "trained" was measured after training: of the split, or of the network on images of this compression.
    "combined" adds the losses of two bottlenecks
    that were measured one at a time. `images` is how many images it was measured on and `part` which part of the data
    they are of; None for a prediction.
    """

    accuracy: Share
    low: Share
    high: Share
    difference: float | None
    stderr: Amount | None
    largest_loss: float | None = None
    source: AccuracySource
    images: Count | None = None
    part: str | None = None

    @property
    def judged_loss(self) -> float | None:
        """The loss that limits are checked against: its 95 % bound, or the expected loss if there is no bound."""
        if self.largest_loss is not None:
            return self.largest_loss
        return None if self.difference is None else -self.difference


class PlacedSegment(Part):
    """A run of the model on one machine, from the cut `start` (None: the image) to `end` (None: the logits).

    `layer` is the name of a layer that is computed in `blocks` of output channels, one after the other; None where the
    run is computed at once.
    """

    machine: str
    start: str | None
    end: str | None
    mac_share: Amount
    layer: str | None = None
    blocks: int = Field(default=1, ge=1)


class PlannedPlacement(Part):
    """One way to run the model, with everything that is known about it.

    `name` is unique within a plan. `latency` are medians of parts and `latency_p95_ms` is the 95th percentile of the
    whole. Energy is the device's, radio included. Bytes are of one image: the payload alone, and what crosses the wire
    in each direction with the protocol but without TCP and IP headers. `violates` lists the limits that it breaks;
    beside the user's, "capacity" (requests come faster than it can serve them; its latency is given without waiting)
    and "link_message" (a message is longer than the link takes). `delivery_share` is the probability that request and
    answer arrive whole (1 with TCP). `worth_considering` is False for a split that leaves the server less than a tenth
    of the operations. `on_front` marks placements that no other beats in latency, bytes and accuracy together.
    `source` is the weakest source of its times: "estimated" when one of them is.
    """

    name: str
    kind: PlacementKind
    segments: tuple[PlacedSegment, ...]
    cut: str | None = None
    second_cut: str | None = None
    budget: RecordedBudget | None = None
    design: str | None = None
    compression: Compression | None = None
    latency: LatencyParts
    latency_ms: Amount
    latency_p95_ms: Amount
    throughput: Throughput
    device_mac_share: Amount
    device_memory_bytes: Count | None
    device_energy_mj: Amount | None
    payload_bytes: Amount
    wire_up_bytes: Amount
    wire_down_bytes: Amount
    bytes_per_day: Amount
    accuracy: PlannedAccuracy | None
    violates: tuple[LimitName, ...] = ()
    delivery_share: Share = 1.0
    worth_considering: bool = True
    on_front: bool = False
    source: FigureSource


class SwitchingPoint(Part):
    """From this uplink rate on, `placement` is the best; below it, the previous one in the list."""

    from_bits_per_s: Amount
    placement: str


class ExcludedBy(Part):
    """The number of placements that a limit excludes, those that it alone excludes, and the closest value of any."""

    limit: LimitName
    limit_value: Amount
    excludes: Count
    excludes_alone: Count
    nearest_value: float | None
    nearest_placement: str | None


class TrainingAdvice(Part):
    """A split whose training would settle the choice, because its accuracy is only predicted; `command` to copy."""

    cut: str
    budget: RecordedBudget
    reason: str
    command: str


class Recommendation(Part):
    """The answer: one paragraph in `text`, and the same facts as fields.

    `chosen` names the placement (None: no placement keeps the limits, then `nearest` is the one that misses them by
    least). `worth_splitting` is whether the best placement is a split that beats both running locally and sending the
    image. `switching` are the best placements over the rate of the uplink, with everything else as planned.
    """

    text: str
    chosen: str | None
    nearest: str | None
    worth_splitting: bool
    estimated: bool
    switching: tuple[SwitchingPoint, ...] = ()
    excluded_by: tuple[ExcludedBy, ...] = ()
    train: TrainingAdvice | None = None


class CutTimes(Part):
    """How long a machine takes for the head and the tail of a cut, in milliseconds, without any bottleneck.

    "estimated" is the source of a time that follows from others or from stated rates, because that part was not timed.
    """

    cut: str
    head_ms: Amount
    head_source: FigureSource
    tail_ms: Amount
    tail_source: FigureSource


class PlannedMachine(Part):
    """A machine of the plan: the name of its profile, its title, and what the profile says about it.

    `spread` is the 95th percentile of its times over their median; `power` is what the profile knows of its power.
    `machine`, `execution` and `memory` are those of the profile. `preprocess_ms`, `whole_ms` and `cuts` are the times
    """

    name: str
    title: str
    source: FigureSource
    scale: Annotated[float, Field(gt=0)] = 1.0
    spread: Annotated[float, Field(gt=0)] = 1.0
    power: Power | None = None
    machine: Machine | None = None
    execution: Execution | None = None
    preprocess_ms: Amount | None = None
    whole_ms: Amount | None = None
    cuts: tuple[CutTimes, ...] = ()
    memory: tuple[PlacementMemory, ...] = ()


class PlanRecord(TableRecord):
    """plan.json, "isplit.plan/1": all placements of one study on given machines and links, and the answer.

    `machines` are in the order of the path: the device first, then each server; `links[i]` joins machines i and i+1.
    `arrivals_per_s` is the load of the server by all devices together, from which `queue` follows. `assumptions` are
    sentences about what the figures leave out.
    """

    schema_name: ClassVar[str] = "isplit.plan/1"
    file_name: ClassVar[str] = "plan.json"
    remedy: ClassVar[str] = "delete the file and run `isplit plan {directory}` again"
    rows_field: ClassVar[str] = "placements"

    isplit_version: str
    model: str
    model_fingerprint: str
    group: str
    machines: tuple[PlannedMachine, ...]
    links: tuple[LinkRecord, ...]
    transport: Transport
    warm_connection: bool
    wire_overhead: WireOverhead
    limits: Limits
    objective: Objective
    images_per_day: Amount
    arrivals_per_s: Amount
    estimated: bool
    assumptions: tuple[str, ...]
    placements: tuple[PlannedPlacement, ...]
    answer: Recommendation

    def placement(self, name: str) -> PlannedPlacement:
        """Return the placement of that name.

        Raises:
            KeyError: no placement has it.

        """
        return named(self.placements, name)
