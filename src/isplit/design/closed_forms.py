"""Closed-form splits of many cuts for many budgets, from a few passes over images and without training.

moments of positions ─> patches ─> moments of patches ─> solve ─> latents ─> rank, step and tables for each budget
(fit part, some images)            (fit part)              │      (fit part, other images)
                                                           └────> latents of all positions ─> solve
                                                                  (fit part, budgets of bytes only)
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.codec.quantise import Quantiser
from isplit.design.batches import Batch, iter_batches
from isplit.design.bottleneck.allocation import (
    Allocation,
    allocate_bytes,
    expected_loss,
    fixed_rank,
    ratio_ranks,
    rounding_gain,
    smallest_budget,
    useful_ranks,
)
from isplit.design.bottleneck.collect import CutMoments, collect_latents, collect_moments
from isplit.design.bottleneck.joint import JointSolution, joint_ranks, solve_joint
from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap, Solution
from isplit.design.evaluate import BuiltSplit
from isplit.design.groups import GroupLogits
from isplit.design.precision import SETTINGS, chosen_precision
from isplit.design.study import OpenStudy
from isplit.errors import InputError
from isplit.records import Budget, Cut, Precision

Progress = Callable[[str, int, int], None]

# Floats of latents of one basis from which ranks, steps and tables are found.
_MAX_LATENTS = 2**22
# Enough to tell which directions of the channels hardly matter.
_PILOT_IMAGES = 100
# Of fewer images a joint map would learn the images: what it sends of others would be longer than it expects.
_JOINT_IMAGES = 200
# A joint map has to lower the expected loss to this share to be worth its weights and its operations.
_JOINT_WORTH = 0.95


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """How `predict` works.

    Args:
        statistics_images: Images of the fit part for the moments; as many others make the entropy coder's tables.
        images: Images of the select part that the accuracy is measured on; None for all.
        remote_images: Of these, how many the compressed-image baseline is measured on; 0 leaves it out.
        weighted: False for plain PCA instead of importance (S = I), for comparison.
        precision: "auto" takes bf16 where the CPU multiplies it in hardware; bottlenecks compute in float32.
        batch_size: Images per pass.

    """

    statistics_images: int = 640
    images: int | None = 500
    remote_images: int | None = 200
    weighted: bool = True
    precision: Precision | str = "auto"
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (("statistics_images", 1), ("images", 1), ("remote_images", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                msg = f"{name} is {value}; give at least {least}"
                raise InputError(msg)
        if self.precision not in SETTINGS:
            msg = f"precision is {self.precision!r}; choose one of {', '.join(SETTINGS)}"
            raise InputError(msg)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A closed-form split with what its record needs to know about where it came from."""

    split: BuiltSplit
    budget: Budget
    weighted: bool
    statistics_images: int
    samples_per_dimension: float

    @property
    def bottleneck(self) -> LinearBottleneck:
        """The linear bottleneck."""
        assert isinstance(self.split.bottleneck, LinearBottleneck)
        return self.split.bottleneck


@dataclass(frozen=True, eq=False)
class Basis:
    """What is known of a cut with patches of one size: all its latents, and the first of them for some images.

    `joint` is the same with a map over all positions, whose latents are the ones that are sent; None where there is
    none.
    """

    cut: Cut
    prefix: int
    samples_per_dimension: float
    solutions: list[Solution]
    latents: list[torch.Tensor]
    joint: "JointBasis | None" = None

    def make(self, allocation: Allocation, gains: Sequence[torch.Tensor]) -> LinearBottleneck:
        """Build the bottleneck of the latents that are kept; those of each map are decoded times their gains."""
        maps = [solution.keep(places) for solution, places in zip(self.solutions, allocation.kept, strict=True)]
        for one, scales, gain in zip(maps, allocation.scales, gains, strict=True):
            one.encoder.data /= scales[:, None]
            one.decoder.data *= (scales * gain)[:, None]
        return LinearBottleneck(maps, prefix=self.prefix)

    def sent(self, bottleneck: LinearBottleneck, kept: Sequence[torch.Tensor]) -> torch.Tensor:
        """Lay out what is sent, from the latents of each map that are kept."""
        return bottleneck.join_latents(kept)

    def expected_loss(self, budget: Budget) -> float:
        """Return what coding the latents for a budget of bytes would lose."""
        return expected_loss(self.latents, budget)


@dataclass(frozen=True, eq=False)
class JointBasis(Basis):
    """A basis whose `latents` are joint ones; `ranks` latents of each map go into them, and `dropped` is the rest."""

    ranks: list[int] = field(default_factory=list)
    solution: JointSolution | None = None
    dropped: float = 0.0

    @classmethod
    def of(cls, basis: Basis, latents: list[torch.Tensor]) -> "JointBasis":
        """Solve for the map over all positions, from the latents of the images that the basis's statistics are of."""
        ranks = [part.shape[1] for part in latents]
        bottleneck = LinearBottleneck(
            [one.keep(k) for one, k in zip(basis.solutions, ranks, strict=True)], prefix=basis.prefix
        )
        solution = solve_joint(bottleneck.join_latents(latents))
        own = [part[:, :rank] for part, rank in zip(basis.latents, ranks, strict=True)]
        rest = [part[:, rank:] for part, rank in zip(basis.latents, ranks, strict=True)]
        return cls(
            cut=basis.cut,
            prefix=basis.prefix,
            samples_per_dimension=basis.samples_per_dimension,
            solutions=basis.solutions,
            latents=[solution.encode(bottleneck.join_latents(own))],
            ranks=ranks,
            solution=solution,
            dropped=sum(float(part.square().sum()) / len(part) for part in rest),
        )

    def make(self, allocation: Allocation, gains: Sequence[torch.Tensor]) -> LinearBottleneck:
        """Build the bottleneck of the joint latents that are kept."""
        assert self.solution is not None
        maps = [solution.keep(rank) for solution, rank in zip(self.solutions, self.ranks, strict=True)]
        (kept,), (scales,), (gain,) = allocation.kept, allocation.scales, gains
        bottleneck = LinearBottleneck(maps, prefix=self.prefix, joint=len(kept))
        assert bottleneck.joint is not None
        self.solution.fill(bottleneck.joint, kept)
        bottleneck.joint.encoder.data /= scales[:, None]
        bottleneck.joint.decoder.data *= (scales * gain)[:, None]
        return bottleneck

    def sent(self, bottleneck: LinearBottleneck, kept: Sequence[torch.Tensor]) -> torch.Tensor:
        """Joint latents are sent as they are."""
        return kept[0]

    def expected_loss(self, budget: Budget) -> float:
        """Count the latents that do not go into the joint ones as lost."""
        return super().expected_loss(budget) + self.dropped


def closed_forms(
    study: OpenStudy,
    budgets: Sequence[Budget],
    cuts: Sequence[Cut],
    group: GroupLogits,
    settings: PredictSettings,
    *,
    progress: Progress = lambda what, done, total: None,
) -> list[ClosedForm]:
    """Build the closed-form split of every cut for every budget: cuts in their order, and budgets in theirs."""
    bases = closed_form_bases(study, budgets, cuts, group, settings, progress=progress)
    used = min(settings.statistics_images, len(study.images("fit", group, limit=None)))
    built: list[ClosedForm] = []
    for number, of_cut in enumerate(bases):
        for budget in budgets:
            basis = of_cut[budget]
            split = build_split(study, basis, budget)
            built.append(ClosedForm(split, budget, settings.weighted, used, basis.samples_per_dimension))
        progress("rank and step", number + 1, len(bases))
    return built


def closed_form_bases(
    study: OpenStudy,
    budgets: Sequence[Budget],
    cuts: Sequence[Cut],
    group: GroupLogits,
    settings: PredictSettings,
    *,
    progress: Progress = lambda what, done, total: None,
) -> list[dict[Budget, Basis]]:
    """Solve every cut for every budget, and take as many latents as it could use; budgets may share a basis."""
    every = study.images("fit", group, limit=None)
    first, others = every[: settings.statistics_images], every[settings.statistics_images :]
    others = (others if len(others) >= min(len(first), 200) else every)[: settings.statistics_images]
    labels = torch.from_numpy(group.label_map)
    precision = chosen_precision(settings.precision)
    size = study.record.preprocessing.image_size

    def batches_of(images: NDArray[np.int64]) -> closing[Generator[Batch]]:
        return closing(iter_batches(study.data, images, study.model.preprocessing, batch_size=settings.batch_size))

    def collect(moments: Sequence[CutMoments], images: NDArray[np.int64], what: str) -> None:
        with batches_of(images) as batches:
            collect_moments(
                study.graph,
                moments,
                batches,
                objective=lambda logits, raw: group.decision(logits, labels[raw], "correct"),
                precision=precision,
                progress=lambda done: progress(what, done, len(images)),
            )

    pilot = first[:_PILOT_IMAGES]
    positions = [CutMoments(cut, image_size=size, images=len(pilot)) for cut in cuts]
    collect(positions, pilot, "statistics of channels")
    chosen = [
        one.enlarged(budgets, image_size=size, images=len(first), weighted=settings.weighted) for one in positions
    ]
    every_moments = list(dict.fromkeys(chain.from_iterable(of_cut.values() for of_cut in chosen)))
    collect(every_moments, first, "statistics of patches")
    solved: list[tuple[CutMoments, float, list[Solution], list[LinearMap]]] = []
    for number, of_cut in enumerate(chosen):
        for moments in dict.fromkeys(of_cut.values()):
            solutions = moments.solve(weighted=settings.weighted)
            own = [budget for budget in budgets if of_cut[budget] is moments]
            candidates = _candidates(solutions, moments.cut, own)
            solved.append((moments, moments.samples_per_dimension, solutions, candidates))
            moments.forget()
        progress("closed forms", number + 1, len(cuts))
    with batches_of(others) as batches:
        maps = [(moments, candidates) for moments, *_, candidates in solved]
        latents = collect_latents(study.graph, maps, batches, max_values=_MAX_LATENTS, precision=precision)
    found = {
        moments: Basis(
            cut=moments.cut,
            prefix=moments.prefix,
            samples_per_dimension=samples_per_dimension,
            solutions=solutions,
            latents=own,
        )
        for (moments, samples_per_dimension, solutions, _), own in zip(solved, latents, strict=True)
    }
    if min(len(first), len(every) - len(first)) >= _JOINT_IMAGES:
        in_bytes = {moments for of_cut in chosen for budget, moments in of_cut.items() if budget.payload_bytes}
        wide = [(moments, maps) for moments in found if moments in in_bytes and (maps := _joint_maps(found[moments]))]
        if wide:
            with batches_of(first) as batches:
                own = collect_latents(study.graph, wide, batches, max_values=_MAX_LATENTS, precision=precision)
            for number, ((moments, _), latents) in enumerate(zip(wide, own, strict=True)):
                found[moments] = replace(found[moments], joint=JointBasis.of(found[moments], latents))
                progress("closed forms of all positions", number + 1, len(wide))
    return [{budget: found[moments] for budget, moments in of_cut.items()} for of_cut in chosen]


def _joint_maps(basis: Basis) -> list[LinearMap]:
    """Return the maps whose latents a joint map would be over; none where there is a single position."""
    positions = [solution.layout.vectors for solution in basis.solutions]
    if sum(positions) == 1:
        return []
    ranks = joint_ranks([part.shape[1] for part in basis.latents], positions)
    return [one.keep(rank) for one, rank in zip(basis.solutions, ranks, strict=True)] if any(ranks) else []


def _candidates(solutions: Sequence[Solution], cut: Cut, budgets: Sequence[Budget]) -> list[LinearMap]:
    """Return maps of as many latents as the largest budget could possibly use."""
    ranks = [0] * len(solutions)
    for budget in budgets:
        wanted = ratio_ranks(solutions, cut, budget) if budget.element_ratio else useful_ranks(solutions, budget)
        ranks = [max(pair) for pair in zip(ranks, wanted, strict=True)]
    return [solution.keep(rank) for solution, rank in zip(solutions, ranks, strict=True)]


def build_split(study: OpenStudy, basis: Basis, budget: Budget) -> BuiltSplit:
    """Choose rank and step, and make the tables from the latents' own histograms."""
    if budget.element_ratio:
        ranks = ratio_ranks(basis.solutions, basis.cut, budget)
        return built_with_tables(study, basis, fixed_rank(basis.latents, ranks))
    assert budget.payload_bytes is not None
    if basis.joint is not None and basis.joint.expected_loss(budget) < _JOINT_WORTH * basis.expected_loss(budget):
        basis = basis.joint
    wanted = float(budget.payload_bytes)
    # The estimate from the histogram is within a byte or two; real payloads decide.
    while True:
        allocation = allocate_bytes(basis.latents, wanted)
        built = built_with_tables(study, basis, allocation)
        real = mean_payload_bytes(built, basis, allocation)
        if real <= budget.payload_bytes or wanted <= smallest_budget():
            return built
        wanted = max(float(smallest_budget()), wanted - (real - budget.payload_bytes) - 0.25)


def built_with_tables(
    study: OpenStudy, basis: Basis, allocation: Allocation, quantiser: Quantiser | None = None
) -> BuiltSplit:
    """Make the split of an allocation, its tables from the basis's latents; with another quantiser if one is given."""
    kept = _kept(basis, allocation)
    gains = [torch.ones(part.shape[1]) if quantiser else rounding_gain(part, allocation.step) for part in kept]
    bottleneck = basis.make(allocation, gains)
    bottleneck.quantiser = quantiser or Quantiser.common(allocation.step, levels=allocation.levels)
    bottleneck.requires_grad_(False).eval()
    symbols = bottleneck.symbols(basis.sent(bottleneck, kept))
    codec = bottleneck.codec(
        model=study.model.source.fingerprint,
        cut=basis.cut.name,
        counts=bottleneck.count_symbols(symbols),
        images=len(symbols),
    )
    return BuiltSplit(basis.cut, bottleneck, codec)


def mean_payload_bytes(built: BuiltSplit, basis: Basis, allocation: Allocation) -> float:
    """Return the mean length of real payloads of the basis's latents, header included."""
    bottleneck = built.bottleneck
    assert isinstance(bottleneck, LinearBottleneck)
    latents = basis.sent(bottleneck, _kept(basis, allocation))
    return float(built.codec.payload_bytes(bottleneck.symbols(latents).numpy()).mean())


def _kept(basis: Basis, allocation: Allocation) -> list[torch.Tensor]:
    """Return the latents that are sent, each divided by its scale."""
    parts = zip(basis.latents, allocation.kept, allocation.scales, strict=True)
    return [part[:, places] / scales[:, None] for part, places, scales in parts]
