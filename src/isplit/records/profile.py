"""How fast a machine runs the parts of a model: measured with onnxruntime, scaled, or estimated from stated rates.

    ProfileRecord
    ├── machine, execution      what ran, and how it was set up
    ├── whole, heads, tails     times of model parts; `segments` with a `correction` where not every head was run
    ├── preprocess, codecs, images, request    times of what surrounds the model
    ├── memory                  peak resident memory of each placement, each from a process of its own
    ├── power                   energy meter, or stated watts
    └── rates                   operations and bytes per second, for parts that nobody timed

Every time has its own `source`, so that one profile may hold measured, scaled and estimated values side by side.
"""

from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from isplit.records.base import Amount, Count, Part, Record
from isplit.records.compression import Compression

FigureSource = Literal["measured", "scaled", "estimated"]
"""Measured on the machine; measured on another machine and multiplied; or computed from stated rates."""

Milliseconds = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
LONGEST_NAME = 100
"""The most characters of a profile's name."""

PositiveRate = Annotated[float, Field(ge=1e-12, le=1e18, allow_inf_nan=False)]
"""A rate or a factor that is within what any machine or link could have, so that times computed from it are finite."""

Bytes = Annotated[int, Field(ge=0)]


class TimeFigure(Part):
    """Median and 95th percentile of a duration in milliseconds, over `runs` runs after the warm-up (0: estimated)."""

    median_ms: Milliseconds
    p95_ms: Milliseconds
    runs: int = Field(ge=0)
    source: FigureSource = "measured"

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.p95_ms < self.median_ms:
            msg = f"the 95th percentile is {self.p95_ms} ms, below the median of {self.median_ms} ms"
            raise ValueError(msg)
        return self

    def scaled(self, factor: float) -> "TimeFigure":
        """Return the figure multiplied by `factor`; a measured one is then "scaled", an estimated one stays so."""
        source: FigureSource = "estimated" if self.source == "estimated" else "scaled"
        return TimeFigure(median_ms=self.median_ms * factor, p95_ms=self.p95_ms * factor, runs=self.runs, source=source)


class ModelPartTime(Part):
    """The time of one part of the model, from the cut `start` (None: the image) to `end` (None: the logits).

    A head has `start=None`, a tail `end=None`; segments run from each cut to the next. `budget` is the tag of the
    bottleneck whose encoder (in a head) or decoder (in a tail) is part of the measured file, as in a bundle ("512B");
    None where the part is the bare model. Bytes are of the weights that the part loads; `load` is the time to read and
    prepare it.
    """

    start: str | None
    end: str | None
    budget: str | None = None
    time: TimeFigure
    weight_bytes: Bytes | None = None
    load: TimeFigure | None = None


class SegmentCorrection(Part):
    """How the times of segments add up to the time of a head.

    A head takes `factor` x (the sum of its segments) + `offset_ms` + `output_ms_per_mb` x (its output in MB). Segments
    are timed inside the whole model, which has neither the cost of another call nor that of handing out a cut's tensor
    (converting its layout and copying it), so a few whole heads are run as well and the three figures are fitted. The
    errors are the shares by which the fit misses the `checked_heads`, which were left out of it.
    """

    factor: PositiveRate
    offset_ms: float = Field(allow_inf_nan=False)
    output_ms_per_mb: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    fitted_heads: tuple[str, ...]
    checked_heads: tuple[str, ...]
    median_error_share: float = Field(ge=0)
    max_error_share: float = Field(ge=0)

    def head_ms(self, segments_ms: float, output_bytes: float) -> float:
        """Return the time of a head from the sum of its segments' times and the bytes that it hands out."""
        return max(self.factor * segments_ms + self.offset_ms + self.output_ms_per_mb * output_bytes / 1e6, 0.0)

    def scaled(self, scale: float) -> "SegmentCorrection":
        """Return the correction of a machine that takes `scale` times as long."""
        changes = {"offset_ms": self.offset_ms * scale, "output_ms_per_mb": self.output_ms_per_mb * scale}
        return self.model_copy(update=changes)


class CodecTime(Part):
    """The time to turn the latent of a cut and budget into a payload (`encode`, device) and back (`decode`, server).

    Work of the bundle's ONNX files (linear maps, rounding) belongs to the head and tail, not here.
    """

    cut: str
    budget: str
    encode: TimeFigure
    decode: TimeFigure


class ImageTime(Compression):
    """The time to compress an image of the model's input size (`encode`), and to decode and resize it (`decode`)."""

    encode: TimeFigure
    decode: TimeFigure


class PlacementMemory(Part):
    """Peak resident memory of a process that did nothing but run one placement's share of the device.

    `placement` is "local", "remote", or the name of a cut. `baseline_bytes` is the same process before it loaded the
    model (interpreter and libraries).
    """

    placement: str
    peak_bytes: Bytes
    baseline_bytes: Bytes
    source: FigureSource = "measured"


class Power(Part):
    """The power that the machine draws, in watts.

    `meter` is where the figures come from: RAPL, NVML or a Jetson's INA3221 through a meter that was read while the
    model ran, or "stated" where someone gave them. `active_w` is the power while it computes, `idle_w` while it waits.
    `energy_mj` are measured millijoules per image of placements by name, idle power included.
    """

    meter: Literal["rapl", "nvml", "jetson", "stated"]
    active_w: PositiveRate
    idle_w: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    energy_mj: dict[str, Amount] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.idle_w > self.active_w:
            msg = f"idle power {self.idle_w} W exceeds active power {self.active_w} W"
            raise ValueError(msg)
        return self


class ComputeRates(Part):
    """The operations and bytes that a machine processes in a second, for estimates of parts that nobody timed.

    A part takes the larger of its operations over `macs_per_s` and its bytes (weights, activations read and written)
    over `memory_bytes_per_s` (the roofline of Williams et al., 2009), and `overhead_ms` for each call. An image takes
    its pixels over `pixels_per_s` to be resized or compressed as JPEG, and a latent its numbers over `symbols_per_s`
    to be entropy-coded. `spread` is the 95th percentile of a time over its median. `macs_per_s` is what onnxruntime
    reaches in float32, not a data sheet's peak.
    """

    macs_per_s: PositiveRate
    memory_bytes_per_s: PositiveRate
    pixels_per_s: PositiveRate = 2e7
    symbols_per_s: PositiveRate = 1e6
    load_bytes_per_s: PositiveRate = 1e8
    overhead_ms: Milliseconds = 0.2
    spread: float = Field(default=1.15, ge=1, allow_inf_nan=False)


class Machine(Part):
    """The machine's description of itself. `memory_bytes` is its main memory, or what an application may use."""

    processor: str
    architecture: str
    system: str
    logical_cores: Count | None = None
    memory_bytes: Bytes | None = None
    accelerator: str | None = None


class Execution(Part):
    """How the measurement was set up.

    `provider` is onnxruntime's execution provider and `threads` its intra-op threads, fixed during the measurement.
    `interleaved` says that the parts were run in turn, round by round, so that a drifting clock hurts all alike; where
    not all of them fit in memory at once, they were run in `groups`. `pictures` says what images they were run on.
    """

    provider: str
    threads: int = Field(ge=1)
    warm_up_runs: int = Field(ge=0)
    runs: int = Field(ge=1)
    interleaved: bool
    batch: int = Field(default=1, ge=1)
    seconds: float = Field(default=0.0, ge=0)
    groups: int = Field(default=1, ge=1)
    pictures: str | None = None


class ProfileRecord(Record):
    """A device profile, "isplit.profile/1": a file of any name that can be shared, renamed and scaled.

    `model_fingerprint` names the model whose parts were timed (None: rates alone, valid for any model), `model` is its
    specification for people. `source` is "measured" where the model's parts were timed on this machine, "scaled" where
    a measured profile was multiplied by `scale`, and "estimated" where only rates are known. `sources` are references
    for stated figures, one sentence each. What could not be measured is in `not_measured`, with the reason.
    `request` is what one request takes on the device and the server together beside the model, the codec and the link:
    the work of both ends of the protocol, measured between two processes of the machine.
    """

    schema_name: ClassVar[str] = "isplit.profile/1"
    file_name: ClassVar[str] = "profile.json"

    isplit_version: str
    versions: dict[str, str] = Field(default_factory=dict)
    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    title: str
    source: FigureSource
    scale: PositiveRate = 1.0
    sources: tuple[str, ...] = ()
    machine: Machine | None = None
    execution: Execution | None = None
    model: str | None = None
    model_fingerprint: str | None = None
    preprocess: TimeFigure | None = None
    request: TimeFigure | None = None
    whole: TimeFigure | None = None
    heads: tuple[ModelPartTime, ...] = ()
    tails: tuple[ModelPartTime, ...] = ()
    segments: tuple[ModelPartTime, ...] = ()
    correction: SegmentCorrection | None = None
    codecs: tuple[CodecTime, ...] = ()
    images: tuple[ImageTime, ...] = ()
    memory: tuple[PlacementMemory, ...] = ()
    power: Power | None = None
    rates: ComputeRates | None = None
    not_measured: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.whole is None and not self.heads and not self.segments and self.rates is None:
            msg = "the profile has neither times (whole, heads, segments) nor rates: nothing can be computed from it"
            raise ValueError(msg)
        timed = self.whole is not None or self.heads or self.tails or self.segments
        if timed and self.model_fingerprint is None:
            msg = "the profile has times of model parts but no model_fingerprint: they are of one model only"
            raise ValueError(msg)
        if wrong := [part for part in self.heads if part.start is not None or part.end is None]:
            msg = f"heads lists a part from {wrong[0].start!r} to {wrong[0].end!r}; a head is from null to a cut"
            raise ValueError(msg)
        if wrong := [part for part in self.tails if part.start is None or part.end is not None]:
            msg = f"tails lists a part from {wrong[0].start!r} to {wrong[0].end!r}; a tail is from a cut to null"
            raise ValueError(msg)
        return self

    @property
    def estimated(self) -> bool:
        """Whether what is computed from this profile has to be called estimated."""
        return self.source == "estimated"

    def scaled(self, factor: float, *, name: str | None = None) -> "ProfileRecord":
        """Return the profile of a machine that takes `factor` times as long for everything (0.5: twice as fast).

        Memory, power and bytes stay; energy measured per image is dropped, because it was measured at another speed.
        """
        return self.model_copy(
            update={
                "name": name or f"{self.name} x {factor:g}",
                "title": self.title if name is None else name,
                "source": "estimated" if self.source == "estimated" else "scaled",
                "scale": self.scale * factor,
                "preprocess": self.preprocess and self.preprocess.scaled(factor),
                "request": self.request and self.request.scaled(factor),
                "whole": self.whole and self.whole.scaled(factor),
                "heads": tuple(_scaled_part(part, factor) for part in self.heads),
                "tails": tuple(_scaled_part(part, factor) for part in self.tails),
                "segments": tuple(_scaled_part(part, factor) for part in self.segments),
                "correction": self.correction and self.correction.scaled(factor),
                "codecs": tuple(_scaled_pair(entry, factor) for entry in self.codecs),
                "images": tuple(_scaled_pair(entry, factor) for entry in self.images),
                "power": self.power and self.power.model_copy(update={"energy_mj": {}}),
                "rates": self.rates and _scaled_rates(self.rates, factor),
            }
        )


_Pair = TypeVar("_Pair", CodecTime, ImageTime)


def _scaled_part(part: ModelPartTime, factor: float) -> ModelPartTime:
    load = part.load and part.load.scaled(factor)
    return part.model_copy(update={"time": part.time.scaled(factor), "load": load})


def _scaled_pair(entry: _Pair, factor: float) -> _Pair:
    return entry.model_copy(update={"encode": entry.encode.scaled(factor), "decode": entry.decode.scaled(factor)})


def _scaled_rates(rates: ComputeRates, factor: float) -> ComputeRates:
    return rates.model_copy(
        update={
            "macs_per_s": rates.macs_per_s / factor,
            "memory_bytes_per_s": rates.memory_bytes_per_s / factor,
            "pixels_per_s": rates.pixels_per_s / factor,
            "symbols_per_s": rates.symbols_per_s / factor,
            "load_bytes_per_s": rates.load_bytes_per_s / factor,
            "overhead_ms": rates.overhead_ms * factor,
        }
    )
