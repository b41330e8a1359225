"""Compute the time of any run of layers on a machine from its profile and the model's graph.

Boundaries number the places between layers: 0 is the image, 1 to n are the cuts in the order of computation, and n + 1
stands for the logits. Measured times are used as they are. Between two timed heads, times follow the roofline estimate.
A profile that holds only rates gives the roofline alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.records import Compression, Cut, DivisibleLayer, FigureSource, GraphRecord, ProfileRecord, TimeFigure

Values = NDArray[np.float64]

BYTES_PER_NUMBER = 4

# Time of a format relative to JPEG of the same pixels, to encode and to decode: medians of 15 runs with Pillow at
# 224 x 224 pixels on a desktop core (JPEG optimised, WebP method 6). AVIF is Pillow's default, from 3 runs over 20
# photographs on a server core, where WebP took 17.8 and 1.8 times as long as JPEG. JPEG XL was not measured: it is
# taken as AVIF.
_ENCODE_FACTOR = {"jpeg": 1.0, "webp": 18.0, "png": 21.0, "avif": 55.0, "jxl": 55.0}
_DECODE_FACTOR = {"jpeg": 1.0, "webp": 3.3, "png": 4.0, "avif": 1.3, "jxl": 1.3}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Describe a model by cumulative figures at its boundaries, in arrays of n + 2 entries.

    `names` has None at both ends. `macs` and `parameters` count everything before a boundary. `tensor_bytes` are the
    bytes that cross it as float32. The peaks are those of the activations before and after it. `places` maps the names
    of cuts to boundaries. `divisible` maps the boundary before a step to the step's largest layer that can be computed
    in blocks.
    """

    names: tuple[str | None, ...]
    macs: Values
    parameters: Values
    tail_parameters: Values
    tensor_bytes: Values
    head_peak_bytes: Values
    tail_peak_bytes: Values
    pixels: int
    places: Mapping[str, int]
    divisible: Mapping[int, DivisibleLayer] = field(default_factory=dict[int, DivisibleLayer])

    @classmethod
    def from_graph(cls, graph: GraphRecord) -> "ModelShape":
        """Make the shape of a graph, with its cuts in the order of computation."""
        cuts = sorted(graph.cuts, key=lambda cut: cut.depth)
        logits_bytes = BYTES_PER_NUMBER * int(np.prod(graph.output_shape)) if graph.output_shape else 0
        whole_peak = max([graph.input_bytes, *(max(cut.head_peak_bytes, cut.tail_peak_bytes) for cut in cuts)])
        return cls(
            names=(None, *(cut.name for cut in cuts), None),
            macs=np.maximum.accumulate([0.0, *(float(cut.head_macs) for cut in cuts), float(graph.macs)]),
            parameters=np.maximum.accumulate(
                [0.0, *(float(cut.head_parameters) for cut in cuts), float(graph.parameters)]
            ),
            tail_parameters=np.array([float(graph.parameters), *(float(cut.tail_parameters) for cut in cuts), 0.0]),
            tensor_bytes=np.array([float(graph.input_bytes), *(float(cut.bytes) for cut in cuts), float(logits_bytes)]),
            head_peak_bytes=np.array([0.0, *(float(cut.head_peak_bytes) for cut in cuts), float(whole_peak)]),
            tail_peak_bytes=np.array([float(whole_peak), *(float(cut.tail_peak_bytes) for cut in cuts), 0.0]),
            places={cut.name: number for number, cut in enumerate(cuts, start=1)},
            pixels=int(np.prod(graph.input_shape[-2:])) if len(graph.input_shape) >= 2 else 1,
            divisible=_largest_divisible(graph, cuts),
        )

    @property
    def end(self) -> int:
        """The number of the last boundary, the logits."""
        return len(self.names) - 1

    @property
    def whole_macs(self) -> float:
        """The operations of the whole model, at least 1 so that shares can be taken."""
        return max(float(self.macs[-1]), 1.0)

    def index(self, cut: str) -> int:
        """Return the boundary of a cut.

        Raises:
            InputError: the graph has no such cut.

        """
        try:
            return self.places[cut]
        except KeyError:
            known = ", ".join(name for name in self.names[1:6] if name)
            msg = f"the model has no cut {cut!r}; its cuts begin with {known} (`isplit cuts` lists them)"
            raise InputError(msg) from None


def _largest_divisible(graph: GraphRecord, cuts: Sequence[Cut]) -> dict[int, DivisibleLayer]:
    """Return the largest divisible layer of every step between neighbouring cuts, by the step's first boundary."""
    depths = np.array([cut.depth for cut in cuts], int)
    largest: dict[int, DivisibleLayer] = {}
    for layer in graph.divisible:
        start = int(np.searchsorted(depths, layer.depth, side="left"))  # a cut directly behind the layer ends its step
        if start not in largest or layer.parameters > largest[start].parameters:
            largest[start] = layer
    return largest


@dataclass(frozen=True, kw_only=True)
class MachineTimes:
    """Hold the time that one machine takes for any part of one model.

    `prefix_ms` is the time up to each boundary without the cost of a call, `call_ms` is the cost of a call, and
    `spread` is the ratio of the 95th percentile of a time to its median. `exact` says at which boundaries the prefix
    was timed.
    """

    profile: ProfileRecord
    shape: ModelShape
    prefix_ms: Values
    exact: NDArray[np.bool_]
    call_ms: float
    spread: float
    ms_per_mac: float
    heads: dict[tuple[str, str | None], TimeFigure]
    tails: dict[tuple[str, str | None], TimeFigure]

    def part_ms(self, start: NDArray[np.intp] | int, end: NDArray[np.intp] | int) -> Values:
        """Return the time from boundary `start` to `end`, which is 0 where nothing is computed."""
        time_ms = np.maximum(self.prefix_ms[end] - self.prefix_ms[start], 0.0)
        return np.where(np.asarray(end) > np.asarray(start), time_ms + self.call_ms, 0.0)

    def span_ms(self, start: int, end: int) -> float:
        """Return the time from boundary `start` to `end` as one number."""
        if end <= start:
            return 0.0
        return max(float(self.prefix_ms[end]) - float(self.prefix_ms[start]), 0.0) + self.call_ms

    def head_ms(self, cut: str, *, budget: str | None, encoder_macs: float) -> tuple[float, FigureSource]:
        """Return the time of a head with its encoder, and the source of this time."""
        figure = self.heads.get((cut, budget))
        if budget is not None and figure is not None:
            return figure.median_ms, figure.source
        index = self.shape.index(cut)
        bare = self.heads.get((cut, None))
        bare_ms = bare.median_ms if bare else self.span_ms(0, index)
        return bare_ms + encoder_macs * self.ms_per_mac, self.source(bool(self.exact[index]))

    def tail_ms(self, cut: str, *, budget: str | None, decoder_macs: float) -> tuple[float, FigureSource]:
        """Return the time of a tail with its decoder, and the source of this time."""
        figure = self.tails.get((cut, budget))
        if budget is not None and figure is not None:
            return figure.median_ms, figure.source
        index = self.shape.index(cut)
        bare = self.tails.get((cut, None))
        bare_ms = bare.median_ms if bare else self.span_ms(index, self.shape.end)
        return bare_ms + decoder_macs * self.ms_per_mac, self.source(bool(self.exact[index]) or bare is not None)

    def source(self, exact: bool) -> FigureSource:
        """Return the profile's source for a measured time, and "estimated" for any other."""
        return self.profile.source if exact else "estimated"

    @property
    def whole_ms(self) -> float:
        """The time of the whole model in one call."""
        return self.profile.whole.median_ms if self.profile.whole else self.span_ms(0, self.shape.end)

    def preprocess_ms(self) -> float:
        """Return the time from a decoded picture to the model's input."""
        if self.profile.preprocess is not None:
            return self.profile.preprocess.median_ms
        return self._pixels_ms(self.shape.pixels)

    def request_ms(self) -> float:
        """Return this machine's half of a request's cost beside model, codec and link; 0 if it is unknown."""
        return 0.0 if self.profile.request is None else self.profile.request.median_ms / 2

    def codec_ms(self, cut: str, *, budget: str, elements: float) -> tuple[float, float]:
        """Return the times to entropy-code a latent of that many numbers, and to decode it."""
        for codec in self.profile.codecs:
            if (codec.cut, codec.budget) == (cut, budget):
                return codec.encode.median_ms, codec.decode.median_ms
        rate = self.profile.rates.symbols_per_s if self.profile.rates else 1e6
        time_ms = self.call_ms / 2 + 1e3 * elements / rate
        return time_ms, time_ms

    def image_ms(self, compression: Compression) -> tuple[float, float]:
        """Return the times to compress an image for the server, and to decode and resize it."""
        for image in self.profile.images:
            if (image.format, image.quality, image.scale) == (
                compression.format,
                compression.quality,
                compression.scale,
            ):
                return image.encode.median_ms, image.decode.median_ms
        pixels = self.shape.pixels * compression.scale**2
        resize = self._pixels_ms(self.shape.pixels) if compression.scale != 1 else 0.0
        encode = _ENCODE_FACTOR[compression.format] * self._pixels_ms(pixels)
        decode = _DECODE_FACTOR[compression.format] * self._pixels_ms(pixels)
        return encode + resize, decode + resize

    def _pixels_ms(self, pixels: float) -> float:
        rate = self.profile.rates.pixels_per_s if self.profile.rates else 2e7
        return 1e3 * pixels / rate


def machine_times(profile: ProfileRecord, shape: ModelShape, *, model_fingerprint: str | None) -> MachineTimes:
    """Compute the times of one model on the machine of a profile.

    Raises:
        InputError: the profile's times belong to another model, or to none of the model's cuts.

    """
    if profile.model_fingerprint not in (None, model_fingerprint):
        msg = (
            f"the profile {profile.name!r} was measured with another model ({profile.model}, fingerprint "
            f"{str(profile.model_fingerprint)[:12]}…) than the study's ({str(model_fingerprint)[:12]}…): run `isplit "
            "profile` with this study's bundle on that machine"
        )
        raise InputError(msg)
    roofline, call_ms = _roofline(profile, shape)
    known = _known_prefixes(profile, shape)
    if len(known) == 1:
        prefix, exact = roofline, np.zeros(len(roofline), bool)
        prefix_call = call_ms
    else:
        indices = np.array(sorted(known))
        times = np.maximum.accumulate([known[index] for index in indices])
        prefix = np.interp(roofline, roofline[indices], times)
        # Beyond the last timed boundary, the estimate continues with the slope so far.
        last = indices[-1]
        if last < shape.end and roofline[last] > 0:
            prefix[last:] = times[-1] + (roofline[last:] - roofline[last]) * times[-1] / roofline[last]
        exact = np.isin(np.arange(len(prefix)), indices)
        prefix_call = 0.0  # the measured times include it
    spread = _spread(profile)
    return MachineTimes(
        profile=profile,
        shape=shape,
        prefix_ms=prefix,
        exact=exact,
        call_ms=prefix_call,
        spread=spread,
        ms_per_mac=float(prefix[-1]) / shape.whole_macs,
        heads={(part.end, part.budget): part.time for part in profile.heads if part.end is not None},
        tails={(part.start, part.budget): part.time for part in profile.tails if part.start is not None},
    )


def _roofline(profile: ProfileRecord, shape: ModelShape) -> tuple[Values, float]:
    """Return the estimated time up to each boundary, and that of a call. Without rates, MACs stand for times."""
    macs = np.diff(shape.macs)
    moved = BYTES_PER_NUMBER * np.diff(shape.parameters) + shape.tensor_bytes[:-1] + shape.tensor_bytes[1:]
    rates = profile.rates
    if rates is None:
        # Moving one number costs about as much as ten operations on the processors that isplit runs on.
        steps = np.maximum(macs, 10 * moved / BYTES_PER_NUMBER)
        return np.concatenate([[0.0], np.cumsum(steps)]) / max(float(steps.sum()), 1.0), 0.0
    steps = np.maximum(macs / rates.macs_per_s, moved / rates.memory_bytes_per_s) * 1e3
    return np.concatenate([[0.0], np.cumsum(steps)]), rates.overhead_ms


def _known_prefixes(profile: ProfileRecord, shape: ModelShape) -> dict[int, float]:
    """Return the timed prefixes by boundary: heads without a bottleneck, sums of segments, and the whole model."""
    known: dict[int, float] = {0: 0.0}
    places = shape.places
    total = 0.0
    if profile.correction is not None:
        for segment in profile.segments:
            total += segment.time.median_ms
            index = shape.end if segment.end is None else places.get(segment.end)
            if index is not None:
                known[index] = profile.correction.head_ms(total, shape.tensor_bytes[index])
    ends = [(head, places[head.end]) for head in profile.heads if head.end is not None and head.end in places]
    bare = {place: head.time.median_ms for head, place in ends if head.budget is None}
    if not bare and not profile.segments:
        # A bundle's heads include their encoders. Encoders are small beside heads, so the fastest head of a cut is a
        # better point to interpolate from than the image and the logits alone.
        for head, place in ends:
            bare[place] = min(bare.get(place, math.inf), head.time.median_ms)
    known |= bare
    if profile.whole is not None:
        known[shape.end] = profile.whole.median_ms
    if len(known) == 1 and (profile.heads or profile.segments):
        msg = f"the profile {profile.name!r} has no time of any of the model's cuts: profile this study's bundle"
        raise InputError(msg)
    return known


def _spread(profile: ProfileRecord) -> float:
    figures = [part.time for part in (*profile.heads, *profile.tails)] + [profile.whole or profile.preprocess]
    ratios = [figure.p95_ms / figure.median_ms for figure in figures if figure is not None and figure.median_ms > 0]
    if ratios:
        return float(np.median(ratios))
    return profile.rates.spread if profile.rates else 1.15
