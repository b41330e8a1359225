"""Find the best way to place a model on machines in a row (device, edge server, cloud), by dynamic programming.

    image ─ tier 0 ──link 0──> tier 1 ──link 1──> tier 2 ─ logits ──answer──> tier 0
            layers up to i     layers i to j      layers from j on

A state is a tier and the boundary at which its part of the model begins. A step runs the layers up to a later boundary
and sends the tensor there to any later tier, so that a tier may be skipped. With n cuts and k tiers this takes
O(n^2 k^2) steps. The result is the optimum, because every placement of layers in order is a path of such steps.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError

Values = NDArray[np.float64]
TierObjective = Literal["latency", "slowest-stage"]


@dataclass(frozen=True, kw_only=True)
class TierProblem:
    """Hold the costs of k tiers over a model of n + 2 boundaries (0 the image, n + 1 the logits), in milliseconds.

    Args:
        part_ms: The time of a tier for the layers between two boundaries (k x (n+2) x (n+2)). It is infinite where the
            tier cannot run them because of its memory.
        encode_ms: The time of a tier to make a payload of the tensor at a boundary (k x (n+2)).
        decode_ms: The time of a tier to decode such a payload (k x (n+2)).
        transfer_ms: The time of a payload over each link ((k-1) x (n+2)). It is infinite where nothing can be sent.
        answer_ms: The time of an answer back over each link (k-1).
        begin_ms: The time before the first layer, on tier 0.

    Raises:
        InputError: on construction, where the shapes do not fit together.

    """

    part_ms: Values
    encode_ms: Values
    decode_ms: Values
    transfer_ms: Values
    answer_ms: Values
    begin_ms: float = 0.0

    def __post_init__(self) -> None:
        tiers, boundaries = self.encode_ms.shape
        shapes = {
            "part_ms": (tiers, boundaries, boundaries),
            "decode_ms": (tiers, boundaries),
            "transfer_ms": (tiers - 1, boundaries),
            "answer_ms": (tiers - 1,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                msg = f"{name} has the shape {getattr(self, name).shape}, but {tiers} tiers need {shape}"
                raise InputError(msg)


@dataclass(frozen=True, kw_only=True)
class TierSegment:
    """Hold a run of layers on one tier, from boundary `start` to `end`."""

    tier: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class TierPlacement:
    """Hold the best placement: its segments in order, and its latency or slowest stage in milliseconds."""

    segments: tuple[TierSegment, ...]
    cost_ms: float


def place_on_tiers(problem: TierProblem, *, objective: TierObjective = "latency") -> TierPlacement | None:
    """Return the placement with the least latency, or with the fastest slowest stage (the most images per second).

    A stage is the work of one tier for an image (decode, compute, encode), or the transfer of a payload over one link.
    The result is None where no placement is possible.

    Args:
        problem: The costs of every tier and link.
        objective: Whether the sum of all stages is minimised, or the slowest of them.

    """
    tiers, boundaries = problem.encode_ms.shape
    end = boundaries - 1
    combine = np.add if objective == "latency" else np.maximum
    arrival = np.full((tiers, boundaries), np.inf)
    arrival[0, 0] = problem.begin_ms if objective == "latency" else 0.0
    origin: dict[tuple[int, int], tuple[int, int]] = {}
    best_ms, last = np.inf, (-1, -1)
    for tier in range(tiers):
        stage = _stages(problem, tier, objective=objective)
        reached = combine(arrival[tier][:, None], stage)
        starts = np.argmin(reached, axis=0)
        cost = reached[starts, np.arange(boundaries)]
        answered = float(combine(cost[end], _answer_ms(problem, tier, objective=objective)))
        if answered < best_ms:
            best_ms, last = answered, (tier, int(starts[end]))
        on_the_way = np.zeros(boundaries)
        for later in range(tier + 1, tiers):
            on_the_way = combine(on_the_way, problem.transfer_ms[later - 1])
            candidate = combine(cost, on_the_way)
            better = candidate < arrival[later]
            better[end] = False  # The answer is not sent as a payload.
            arrival[later] = np.where(better, candidate, arrival[later])
            for boundary in np.flatnonzero(better).tolist():
                origin[later, boundary] = (tier, int(starts[boundary]))
    if not np.isfinite(best_ms):
        return None
    tier, start = last
    segments = [TierSegment(tier=tier, start=start, end=end)]
    while (tier, start) in origin:
        boundary = start
        tier, start = origin[tier, start]
        segments.append(TierSegment(tier=tier, start=start, end=boundary))
    return TierPlacement(segments=tuple(reversed(segments)), cost_ms=best_ms)


def _stages(problem: TierProblem, tier: int, *, objective: TierObjective) -> Values:
    """Return the time of a tier between boundaries, with decoding and encoding; it is infinite for impossible steps."""
    boundaries = int(problem.encode_ms.shape[1])
    index = np.arange(boundaries)
    decode = np.zeros(boundaries) if tier == 0 else problem.decode_ms[tier]  # The device has the image itself.
    encode = np.append(problem.encode_ms[tier, :-1], 0.0)  # Logits are not encoded.
    part = np.where(index[None, :] == index[:, None], 0.0, problem.part_ms[tier])
    stage = decode[:, None] + part + encode[None, :]
    if tier == 0 and objective == "slowest-stage":
        stage = stage + problem.begin_ms
    allowed = index[None, :] > index[:, None]
    if tier == 0:
        allowed[0, 0] = True  # The device may send the image as it is.
    return np.where(allowed, stage, np.inf)


def _answer_ms(problem: TierProblem, tier: int, *, objective: TierObjective) -> float:
    """Return the cost of the answer's way back from a tier."""
    back = problem.answer_ms[:tier]
    if objective == "latency":
        return float(back.sum())
    return float(back.max(initial=0.0))
