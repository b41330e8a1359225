"""Closed-form splits of many cuts for many budgets, from a few passes over images and without training.

moments of positions ─> patches ─> moments of patches ─> solve ─> latents ─> rank, step and tables for each budget
(fit part, some images)            (fit part)              │      (fit part, other images)
                                                           └────> latents of all positions ─> solve
                                                                  (fit part, budgets of bytes only)
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.codec.codec import smallest_payload_bytes
from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap, lay_out
from isplit.design.closed_form.allocation import (
    Allocation,
    allocate_bytes,
    fixed_rank,
    ratio_ranks,
    rounding_gain,
    useful_ranks,
)
from isplit.design.closed_form.basis import Basis, JointBasis
from isplit.design.closed_form.moments import CutMoments, collect_latents, collect_moments
from isplit.design.closed_form.solve import Solution
from isplit.design.inputs.batches import Batch, iter_batches
from isplit.design.progress import Progress, silent
from isplit.design.running import chosen_precision
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import StudyView
from isplit.records import Budget, Cut

Maps = Sequence[tuple[CutMoments, Sequence[LinearMap]]]

# Floats of latents of one basis from which ranks, steps and tables are found.
_MAX_LATENTS = 2**22
# Enough to tell which directions of the channels hardly matter.
_PILOT_IMAGES = 100
# Images that the moments are not from, for latents and tables; where so many are left, or as many as the moments have.
# From fewer of either, a joint map would learn the images: what it sends of others would be longer than it expects.
_OTHER_IMAGES = 200


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


def closed_forms(
    view: StudyView,
    budgets: Sequence[Budget],
    cuts: Sequence[Cut],
    settings: PredictSettings,
    *,
    progress: Progress = silent,
) -> list[ClosedForm]:
    """Build the closed-form split of every cut for every budget: cuts in their order, and budgets in theirs."""
    bases = closed_form_bases(view, budgets, cuts, settings, progress=progress)
    used = min(settings.statistics_images, len(view.images("fit")))
    built: list[ClosedForm] = []
    for number, of_cut in enumerate(bases):
        for budget in budgets:
            basis = of_cut[budget].best(budget)
            split = build_split(view, basis, budget)
            built.append(ClosedForm(split, budget, settings.weighted, used, basis.samples_per_dimension))
        progress("rank and step", number + 1, len(bases))
    return built


def closed_form_bases(
    view: StudyView,
    budgets: Sequence[Budget],
    cuts: Sequence[Cut],
    settings: PredictSettings,
    *,
    progress: Progress = silent,
) -> list[dict[Budget, Basis]]:
    """Solve every cut for every budget, and take as many latents as it could use; budgets may share a basis."""
    every = view.images("fit")
    first, others = every[: settings.statistics_images], every[settings.statistics_images :]
    held_out = len(others) >= min(len(first), _OTHER_IMAGES)
    others = (others if held_out else every)[: settings.statistics_images]
    labels = torch.from_numpy(view.classes.label_map)
    precision = chosen_precision(settings.precision)
    size = view.preprocessing.image_size

    def batches_of(images: NDArray[np.int64]) -> closing[Generator[Batch]]:
        return closing(iter_batches(view.data, images, view.preprocessing, batch_size=settings.batch_size))

    def collect(moments: Sequence[CutMoments], images: NDArray[np.int64], what: str) -> None:
        with batches_of(images) as batches:
            collect_moments(
                view.graph,
                moments,
                batches,
                objective=lambda logits, raw: view.classes.decision(logits, labels[raw], "correct"),
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

    def latents_of(images: NDArray[np.int64], maps: Maps) -> list[list[torch.Tensor]]:
        with batches_of(images) as batches:
            return collect_latents(view.graph, maps, batches, max_values=_MAX_LATENTS, precision=precision)

    latents = latents_of(others, [(moments, candidates) for moments, *_, candidates in solved])
    bases = {
        moments: Basis(
            cut=moments.cut,
            prefix=moments.prefix,
            samples_per_dimension=samples_per_dimension,
            solutions=solutions,
            latents=own,
        )
        for (moments, samples_per_dimension, solutions, _), own in zip(solved, latents, strict=True)
    }
    found = [
        {
            budget: bases[moments].of_budget(budget) if budget.payload_bytes else bases[moments]
            for budget, moments in of_cut.items()
        }
        for of_cut in chosen
    ]
    if held_out and len(first) >= _OTHER_IMAGES:
        _add_joint_maps(found, chosen, latents_of, statistics=first, others=others, progress=progress)
    return found


def _add_joint_maps(
    found: Sequence[dict[Budget, Basis]],
    chosen: Sequence[dict[Budget, CutMoments]],
    latents_of: Callable[[NDArray[np.int64], Maps], list[list[torch.Tensor]]],
    *,
    statistics: NDArray[np.int64],
    others: NDArray[np.int64],
    progress: Progress,
) -> None:
    """Give the bases of budgets in bytes a map over all positions, solved from the images of the statistics."""
    joint = [
        (of_cut, budget, moments, ranks)
        for of_cut, moments_of_cut in zip(found, chosen, strict=True)
        for budget, moments in moments_of_cut.items()
        if budget.payload_bytes and any(ranks := of_cut[budget].joint_ranks())
    ]
    # Budgets with the same patches share one pass, over as many latents as the largest of them joins.
    most: dict[CutMoments, tuple[Basis, list[int]]] = {}
    for of_cut, budget, moments, ranks in joint:
        before = most[moments][1] if moments in most else ranks
        most[moments] = of_cut[budget], [max(pair) for pair in zip(before, ranks, strict=True)]

    def joined(images: NDArray[np.int64], wanted: Sequence[CutMoments]) -> dict[CutMoments, list[torch.Tensor]]:
        if not wanted:
            return {}
        maps = [
            (one, [solution.keep(rank) for solution, rank in zip(basis.solutions, ranks, strict=True)])
            for one in wanted
            for basis, ranks in [most[one]]
        ]
        return dict(zip(wanted, latents_of(images, maps), strict=True))

    own = joined(statistics, list(most))
    # Where the candidates were so many that some images had no room, the few that are joined have.
    held = joined(others, [one for one, (basis, _) in most.items() if len(basis.latents[0]) < len(others)])
    for number, (of_cut, budget, moments, ranks) in enumerate(joint):
        basis = of_cut[budget]
        parts = own[moments], held.get(moments, basis.latents)
        first, second = ([part[:, :rank] for part, rank in zip(of, ranks, strict=True)] for of in parts)
        of_cut[budget] = replace(basis, joint=JointBasis.of(basis, statistics=first, others=second))
        progress("closed forms of all positions", number + 1, len(joint))


def _candidates(solutions: Sequence[Solution], cut: Cut, budgets: Sequence[Budget]) -> list[LinearMap]:
    """Return maps of as many latents as the largest budget could possibly use."""
    ranks = [0] * len(solutions)
    for budget in budgets:
        wanted = ratio_ranks(solutions, cut, budget) if budget.element_ratio else useful_ranks(solutions, budget)
        ranks = [max(pair) for pair in zip(ranks, wanted, strict=True)]
    return [solution.keep(rank) for solution, rank in zip(solutions, ranks, strict=True)]


def build_split(view: StudyView, basis: Basis, budget: Budget) -> BuiltSplit:
    """Choose rank and step, and make the tables from the latents' own histograms."""
    if budget.element_ratio:
        ranks = ratio_ranks(basis.solutions, basis.cut, budget)
        return built_with_tables(view, basis, fixed_rank(basis.latents, ranks))
    assert budget.payload_bytes is not None
    wanted = float(budget.payload_bytes)
    # The estimate from the histogram is within a byte or two; real payloads decide.
    while True:
        allocation = allocate_bytes(basis.latents, wanted)
        built = built_with_tables(view, basis, allocation)
        real = mean_payload_bytes(built, basis, allocation)
        if real <= budget.payload_bytes or wanted <= smallest_payload_bytes():
            return built
        wanted = max(float(smallest_payload_bytes()), wanted - (real - budget.payload_bytes) - 0.25)


def built_with_tables(
    view: StudyView, basis: Basis, allocation: Allocation, quantiser: Quantiser | None = None
) -> BuiltSplit:
    """Make the split of an allocation, its tables from the basis's latents; with another quantiser if one is given."""
    kept = _kept(basis, allocation)
    gains = [torch.ones(part.shape[1]) if quantiser else rounding_gain(part, allocation.step) for part in kept]
    bottleneck = basis.bottleneck(allocation, gains)
    bottleneck.quantiser = quantiser or Quantiser.common(allocation.step, levels=allocation.levels)
    bottleneck.requires_grad_(False).eval()
    symbols = bottleneck.symbols(lay_out(kept))
    codec = bottleneck.codec(
        model=view.fingerprint,
        cut=basis.cut.name,
        counts=bottleneck.count_symbols(symbols),
        images=len(symbols),
    )
    return BuiltSplit(basis.cut, bottleneck, codec)


def mean_payload_bytes(built: BuiltSplit, basis: Basis, allocation: Allocation) -> float:
    """Return the mean length of real payloads of the basis's latents, header included."""
    symbols = built.bottleneck.symbols(lay_out(_kept(basis, allocation)))
    return float(built.codec.payload_bytes(symbols.numpy()).mean())


def _kept(basis: Basis, allocation: Allocation) -> list[torch.Tensor]:
    """Return the latents that are sent, each divided by its scale."""
    parts = zip(basis.latents, allocation.kept, allocation.scales, strict=True)
    return [part[:, places] / scales[:, None] for part, places, scales in parts]
