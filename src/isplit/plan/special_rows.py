"""Make the placements that depend on the machines: on several tiers in a row, and in segments on one device."""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import numpy as np

from isplit.plan.compute import BYTES_PER_NUMBER, MachineTimes
from isplit.plan.costs import RUNTIME_BYTES
from isplit.plan.evaluate import Load
from isplit.plan.limits import DEFAULT_ACCURACY_LOSS
from isplit.plan.rows import PlacementRow, combined_accuracy
from isplit.plan.segments import least_memory_bytes, split_into_segments
from isplit.plan.study_facts import ImageFacts, SplitFacts, StudyFacts
from isplit.plan.tiers import TierPlacement, TierProblem, place_on_tiers
from isplit.plan.transfer import transfer_cost
from isplit.records import LinkRecord, PlannedAccuracy


def segmented_row(facts: StudyFacts, device: MachineTimes, *, max_memory_bytes: int) -> PlacementRow | None:
    """Return the placement in segments on the device if the whole model does not fit, and None otherwise.

    Where no division fits, the division that takes the least memory is returned. It breaks the limit, and the plan can
    name it as the nearest.
    """
    shape = device.shape
    whole = RUNTIME_BYTES + BYTES_PER_NUMBER * shape.parameters[-1] + shape.head_peak_bytes[-1]
    if whole <= max_memory_bytes:
        return None
    plan = split_into_segments(device, max_memory_bytes=max(max_memory_bytes, least_memory_bytes(shape)))
    return PlacementRow(
        name=f"segmented in {len(plan.segments)}",
        kind="segmented",
        accuracy=facts.whole,
        parts=tuple((0, segment.start, segment.end) for segment in plan.segments),
        blocks={
            segment.start: (segment.layer.name, segment.blocks)
            for segment in plan.segments
            if segment.layer is not None
        },
        fixed={
            "preprocess_ms": device.preprocess_ms(),
            "head_ms": plan.latency_ms,
            "device_mac_share": 1.0,
            "memory_bytes": plan.memory_bytes,
            "measured_energy_mj": np.nan,
        },
    )


def tier_rows(
    facts: StudyFacts, machines: Sequence[MachineTimes], links: Sequence[LinkRecord], load: Load
) -> list[PlacementRow]:
    """Return, for each budget, the exact best placement over all machines where it uses more than the first server.

    Bottlenecks of the same budget are used at all cuts, and their losses add up.
    """
    budgets = sorted(
        {split.budget.tag: split.budget for split in facts.splits}.values(), key=lambda budget: budget.order
    )
    rows: list[PlacementRow] = []
    for budget in budgets:
        splits: dict[int, SplitFacts] = {}
        for split in facts.splits:
            index = machines[0].shape.index(split.cut)
            known = splits.get(index)
            if split.budget == budget and (known is None or _loss(split) < _loss(known)):
                splits[index] = split
        placement = place_on_tiers(_problem(splits, facts, machines, links, load))
        if placement is not None and max(part.tier for part in placement.segments) > 1:
            rows.append(_tier_row(placement, splits, facts, machines, links, load, tag=budget.tag))
    return rows


def _loss(split: SplitFacts) -> float:
    return -(split.accuracy.difference or 0.0)


def _best_image(facts: StudyFacts) -> ImageFacts | None:
    """Return the compressed image of the fewest bytes that surely loses at most one point in the network as it is.

    The splits that follow on other machines are of that network, and not of one trained on compressed images.
    """
    untrained = (image for image in facts.images if not image.trained)
    return min(
        (image for image in untrained if (image.accuracy.judged_loss or 0.0) <= DEFAULT_ACCURACY_LOSS + 1e-9),
        key=lambda image: image.payload_bytes,
        default=None,
    )


def _problem(
    splits: dict[int, SplitFacts],
    facts: StudyFacts,
    machines: Sequence[MachineTimes],
    links: Sequence[LinkRecord],
    load: Load,
) -> TierProblem:
    shape = machines[0].shape
    count, tiers = shape.end + 1, len(machines)
    starts, ends = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    encode, decode = np.zeros((tiers, count)), np.zeros((tiers, count))
    payload = np.full(count, np.nan)
    for index, split in splits.items():
        payload[index] = split.payload_bytes + facts.wire_overhead.split_up_bytes
        for tier, machine in enumerate(machines):
            coding = machine.codec_ms(split.cut, budget=split.budget.tag, elements=split.elements)
            encode[tier, index] = split.encoder_macs * machine.ms_per_mac + coding[0]
            decode[tier, index] = split.decoder_macs * machine.ms_per_mac + coding[1]
    best_image = _best_image(facts)
    if best_image is not None:
        payload[0] = best_image.payload_bytes + facts.wire_overhead.image_up_bytes
        for tier, machine in enumerate(machines):
            encode[tier, 0], decode[tier, 0] = machine.image_ms(best_image.compression)
    transfer = np.full((tiers - 1, count), np.inf)
    answer = np.zeros(tiers - 1)
    sendable = ~np.isnan(payload)
    for number, link in enumerate(links):
        cost = transfer_cost(payload[sendable], link, transport=load.transport, warm=load.warm, settings=load.tcp)
        transfer[number, sendable] = cost.median_ms
        back = transfer_cost(facts.wire_overhead.split_down_bytes, link, up=False, transport=load.transport)
        answer[number] = float(back.median_ms)
    return TierProblem(
        part_ms=np.stack([machine.part_ms(starts, ends) for machine in machines]),
        encode_ms=encode,
        decode_ms=decode,
        transfer_ms=transfer,
        answer_ms=answer,
        begin_ms=machines[0].preprocess_ms(),
    )


def _tier_row(
    placement: TierPlacement,
    splits: dict[int, SplitFacts],
    facts: StudyFacts,
    machines: Sequence[MachineTimes],
    links: Sequence[LinkRecord],
    load: Load,
    *,
    tag: str,
) -> PlacementRow:
    """Turn a placement into a row, in which everything beyond the device and its link is one sum."""
    shape = machines[0].shape
    problem = _problem(splits, facts, machines, links, load)
    first, second, *_ = placement.segments
    sent_by_device = float(problem.transfer_ms[0, first.end])
    device_ms = float(problem.part_ms[0, first.start, first.end])
    device_own_ms = problem.begin_ms + device_ms + float(problem.encode_ms[0, first.end])
    answered = float(problem.answer_ms[0])
    beyond = placement.cost_ms - device_own_ms - sent_by_device - answered
    stages = [
        float(problem.decode_ms[part.tier, part.start] + problem.part_ms[part.tier, part.start, part.end])
        for part in placement.segments[1:]
    ]
    entry = splits.get(first.end)
    parameters = shape.parameters[first.end] + (entry.encoder_parameters if entry else 0.0)
    macs = float(shape.macs[first.end]) + (entry.encoder_macs if entry else 0.0)
    image = _best_image(facts) if entry is None else None
    sent = entry or image
    assert sent is not None, "nothing crosses the first link"
    overhead = facts.wire_overhead.image_up_bytes if image else facts.wire_overhead.split_up_bytes
    names = " | ".join(
        f"{machines[part.tier].profile.name} to {shape.names[part.end] or 'the end'}" for part in placement.segments
    )
    return PlacementRow(
        name=f"tiers @ {tag}: {names}",
        kind="tiers",
        split=entry,
        accuracy=_tier_accuracy(placement, splits, image),
        parts=tuple((part.tier, part.start, part.end) for part in placement.segments),
        fixed={
            "preprocess_ms": problem.begin_ms,
            "head_ms": device_ms,
            "encode_ms": float(problem.encode_ms[0, first.end]),
            "middle_ms": beyond,
            "slowest_ms": max(stages),
            "payload_bytes": sent.payload_bytes,
            "up_bytes": sent.payload_bytes + overhead,
            "up_p95_bytes": sent.payload_p95_bytes + overhead,
            "down_bytes": facts.wire_overhead.split_down_bytes,
            "device_mac_share": macs / shape.whole_macs,
            "server_mac_share": 1 - float(shape.macs[second.start]) / shape.whole_macs,
            "memory_bytes": RUNTIME_BYTES
            + BYTES_PER_NUMBER * float(parameters)
            + float(shape.head_peak_bytes[first.end]),
            "measured_energy_mj": np.nan,
        },
    )


def _tier_accuracy(
    placement: TierPlacement, splits: dict[int, SplitFacts], image: ImageFacts | None
) -> PlannedAccuracy | None:
    """Return the accuracy after all losses on the way: that of the image's compression, and that of every split."""
    crossings = [splits.get(before.end) for before, _ in pairwise(placement.segments)]
    lossy = [image, *crossings]
    accuracies = [facts.accuracy for facts in lossy if facts is not None]
    return reduce(combined_accuracy, accuracies) if accuracies else None
