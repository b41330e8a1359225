"""Compute what every placement costs the device and the server, whatever the link: milliseconds, bytes and shares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isplit.plan.compute import BYTES_PER_NUMBER, MachineTimes
from isplit.plan.rows import PlacementRow
from isplit.plan.study_facts import SplitFacts, StudyFacts
from isplit.records import FigureSource, PlannedAccuracy

Values = NDArray[np.float64]

RUNTIME_BYTES = 83_000_000
"""Resident memory of the device's process without a model: interpreter, numpy, onnxruntime and the client, and the code
of onnxruntime that a first small model reads in (70 MB before it, 82 to 83 MB after it, on Linux x86-64 in November
2026)."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Hold in columns what each row costs two machines, in milliseconds, bytes and shares, and its accuracy.

    `loss` is how far the accuracy lies below the whole model's. `judged_loss` is its 95 % bound where there is one, and
    is checked against limits. Both are NaN where they are unknown. `sends` is False where nothing crosses the link. For
    placements on several tiers, `middle_ms` is the time beyond the first server, there and back, and `slowest_ms` is
    the slowest stage of it.
    """

    rows: tuple[PlacementRow, ...]
    preprocess_ms: Values
    head_ms: Values
    encode_ms: Values
    decode_ms: Values
    tail_ms: Values
    finish_ms: Values
    middle_ms: Values
    slowest_ms: Values
    payload_bytes: Values
    up_bytes: Values
    up_p95_bytes: Values
    down_bytes: Values
    device_mac_share: Values
    server_mac_share: Values
    memory_bytes: Values
    measured_energy_mj: Values
    accuracy: Values
    loss: Values
    judged_loss: Values
    sends: NDArray[np.bool_]
    sources: tuple[FigureSource, ...]
    device_spread: float
    server_spread: float
    active_w: float
    idle_w: float


def price(rows: Sequence[PlacementRow], facts: StudyFacts, *, device: MachineTimes, server: MachineTimes) -> Costs:
    """Compute what every row costs the device and the server, independently of the link."""
    columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
    sources: list[FigureSource] = []
    for row in rows:
        values, source = _price_row(row, facts, device=device, server=server)
        sources.append(source)
        for name in _COLUMNS:
            columns[name].append(values.get(name, 0.0))
    power = device.profile.power
    accuracies = [row.accuracy for row in rows]
    return Costs(
        rows=tuple(rows),
        **{name: np.array(values, float) for name, values in columns.items()},
        accuracy=np.array([np.nan if entry is None else entry.accuracy for entry in accuracies], float),
        loss=np.array([_loss(entry) for entry in accuracies], float),
        judged_loss=np.array([_judged_loss(entry) for entry in accuracies], float),
        sends=np.array([row.kind not in ("local", "segmented") for row in rows], bool),
        sources=tuple(sources),
        device_spread=device.spread,
        server_spread=server.spread,
        active_w=power.active_w if power else np.nan,
        idle_w=power.idle_w if power else np.nan,
    )


_COLUMNS = (
    "preprocess_ms",
    "head_ms",
    "encode_ms",
    "decode_ms",
    "tail_ms",
    "finish_ms",
    "middle_ms",
    "slowest_ms",
    "payload_bytes",
    "up_bytes",
    "up_p95_bytes",
    "down_bytes",
    "device_mac_share",
    "server_mac_share",
    "memory_bytes",
    "measured_energy_mj",
)


def _loss(accuracy: PlannedAccuracy | None) -> float:
    return np.nan if accuracy is None or accuracy.difference is None else -accuracy.difference


def _judged_loss(accuracy: PlannedAccuracy | None) -> float:
    loss = None if accuracy is None else accuracy.judged_loss
    return np.nan if loss is None else loss


def _price_row(
    row: PlacementRow, facts: StudyFacts, *, device: MachineTimes, server: MachineTimes
) -> tuple[dict[str, float], FigureSource]:
    if row.fixed is not None:
        return dict(row.fixed), "estimated" if device.profile.estimated else device.profile.source
    shape, wire = device.shape, facts.wire_overhead
    known_energy = {} if device.profile.power is None else device.profile.power.energy_mj
    values = {"preprocess_ms": device.preprocess_ms(), "measured_energy_mj": np.nan}
    if row.kind == "local":
        values["head_ms"] = device.whole_ms
        values["device_mac_share"] = 1.0
        values["memory_bytes"] = _memory(
            device, "local", parameters=shape.parameters[-1], peak=shape.head_peak_bytes[-1]
        )
        values["measured_energy_mj"] = known_energy.get("local", np.nan)
        return values, device.source(bool(device.exact[-1]))
    if row.image is not None:
        image = row.image
        values["encode_ms"], _ = device.image_ms(image.compression)
        _, values["decode_ms"] = server.image_ms(image.compression)
        values["encode_ms"] += device.request_ms()
        values["decode_ms"] += server.request_ms()
        values["tail_ms"] = server.whole_ms
        values["server_mac_share"] = 1.0
        values["payload_bytes"] = image.payload_bytes
        values["up_bytes"] = image.payload_bytes + wire.image_up_bytes
        values["up_p95_bytes"] = image.payload_p95_bytes + wire.image_up_bytes
        values["down_bytes"] = wire.image_down_bytes
        values["memory_bytes"] = _memory(device, "remote", parameters=0.0, peak=2.0 * BYTES_PER_NUMBER * shape.pixels)
        values["measured_energy_mj"] = known_energy.get("remote", np.nan)
        return values, _weakest(device.profile.source, server.source(bool(server.exact[-1])))
    assert row.split is not None, row
    return _price_split(row, row.split, values, facts, device=device, server=server, known_energy=known_energy)


def _price_split(
    row: PlacementRow,
    split: SplitFacts,
    values: dict[str, float],
    facts: StudyFacts,
    *,
    device: MachineTimes,
    server: MachineTimes,
    known_energy: dict[str, float],
) -> tuple[dict[str, float], FigureSource]:
    shape, wire, tag = device.shape, facts.wire_overhead, split.budget.tag
    cut = shape.index(split.cut)
    values["head_ms"], head_source = device.head_ms(split.cut, budget=tag, encoder_macs=split.encoder_macs)
    values["encode_ms"], _ = device.codec_ms(split.cut, budget=tag, elements=split.elements)
    _, values["decode_ms"] = server.codec_ms(split.cut, budget=tag, elements=split.elements)
    values["encode_ms"] += device.request_ms()
    values["decode_ms"] += server.request_ms()
    values["payload_bytes"] = split.payload_bytes
    values["up_bytes"] = split.payload_bytes + wire.split_up_bytes
    values["up_p95_bytes"] = split.payload_p95_bytes + wire.split_up_bytes
    device_macs = shape.macs[cut] + split.encoder_macs
    parameters = shape.parameters[cut] + split.encoder_parameters
    peak = shape.head_peak_bytes[cut]
    if row.second is None:
        values["tail_ms"], tail_source = server.tail_ms(split.cut, budget=tag, decoder_macs=split.decoder_macs)
        values["down_bytes"] = wire.split_down_bytes
        server_macs = shape.whole_macs - shape.macs[cut]
        values["measured_energy_mj"] = known_energy.get(split.cut, np.nan)
    else:
        second, back = row.second, shape.index(row.second.cut)
        between = (split.decoder_macs + second.encoder_macs) * server.ms_per_mac
        encode_ms = server.codec_ms(second.cut, budget=tag, elements=second.elements)[0]
        values["tail_ms"] = server.span_ms(cut, back) + between + encode_ms
        tail_source = server.source(bool(server.exact[cut] and server.exact[back]))
        decode_ms = device.codec_ms(second.cut, budget=tag, elements=second.elements)[1]
        finish_ms, _ = device.tail_ms(second.cut, budget=tag, decoder_macs=second.decoder_macs)
        values["finish_ms"] = finish_ms + decode_ms
        # The answer carries the second latent instead of the logits.
        values["down_bytes"] = second.payload_bytes + wire.split_down_bytes
        device_macs += shape.whole_macs - shape.macs[back] + second.decoder_macs
        server_macs = shape.macs[back] - shape.macs[cut]
        parameters += shape.tail_parameters[back]
        peak = max(peak, shape.tail_peak_bytes[back])
    values["device_mac_share"] = device_macs / shape.whole_macs
    values["server_mac_share"] = server_macs / shape.whole_macs
    values["memory_bytes"] = _memory(device, split.cut, parameters=parameters, peak=peak)
    return values, _weakest(head_source, tail_source)


def _memory(device: MachineTimes, placement: str, *, parameters: float, peak: float) -> float:
    """Return the measured peak, or the sum of the weights, the live activations and the process itself."""
    for entry in device.profile.memory:
        if entry.placement == placement:
            return float(entry.peak_bytes)
    return RUNTIME_BYTES + BYTES_PER_NUMBER * parameters + peak


def _weakest(*sources: FigureSource) -> FigureSource:
    order: tuple[FigureSource, ...] = ("estimated", "scaled", "measured")
    return next(source for source in order if source in sources)
