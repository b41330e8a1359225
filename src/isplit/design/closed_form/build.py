"""Closed-form splits of many cuts for many budgets, from a few passes over images and without training.

moments of positions ─> patches ─> moments of patches ─> solve ─> latents ─> rank, step and tables for each budget
(fit part, some images)            (fit part)              │      (fit part, other images)
                                                           └────> latents of all positions ─> solve
                                                                  (fit part, budgets of bytes only)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.codec.codec import smallest_payload_bytes
from isplit.codec.coders import CoderName
from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.linear import LinearMap, lay_out
from isplit.design.closed_form.allocation import (
    Allocation,
    Allocator,
    fixed_rank,
    ratio_ranks,
    rounding_gain,
    useful_ranks,
)
from isplit.design.closed_form.basis import Basis, JointBasis
from isplit.design.closed_form.moments import CutVectors, SolvedCut, choose_vectors
from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.closed_form.solve import Solution
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import StudyView
from isplit.progress import Progress, silent
from isplit.records import BottleneckSpec, Budget, Cut

BudgetVectors = dict[Budget, CutVectors]
"""For one cut: the vectors that each budget has room for."""
BudgetBases = dict[Budget, Basis]
"""For one cut: the latents that each budget chooses among."""

_FOLDS = 10
"""Tables that payloads are measured with are made from all but one of so many parts of the images."""
_MOST_RATES = 8
_NEAR = 0.004
"""The share of a budget that may be left unused."""
_SAME_RATE = 0.25
"""Rates that are fewer bytes apart than this are the same."""


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A closed-form split with what its record needs to know about where it came from."""

    split: BuiltSplit
    spec: BottleneckSpec
    budget: Budget
    statistics_images: int
    samples_per_dimension: float


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
    images = min(settings.statistics_images, len(view.images("fit")))
    built: list[ClosedForm] = []
    for number, of_cut in enumerate(bases):
        for budget in budgets:
            basis = of_cut[budget].best(budget, worth=settings.tuning.joint_worth)
            split = build_split(view, basis, budget, coder=settings.coder)
            spec = BottleneckSpec(design="linear" if settings.weighted else "pca", **split.bottleneck.structure())
            built.append(ClosedForm(split, spec, budget, images, basis.samples_per_dimension))
        progress("rank and step", number + 1, len(bases))
    return built


def closed_form_bases(
    view: StudyView,
    budgets: Sequence[Budget],
    cuts: Sequence[Cut],
    settings: PredictSettings,
    *,
    progress: Progress = silent,
) -> list[BudgetBases]:
    """Solve every cut for every budget, and take as many latents as it could use; budgets may share a basis."""
    passes = StatisticsPasses(view, settings, progress)
    chosen = _choose_patches(passes, cuts, budgets)
    solved = _solve_patches(passes, chosen)
    bases = _position_bases(passes, chosen, solved)
    return _with_joint_maps(passes, bases, chosen) if passes.images.joint_maps else bases


def _choose_patches(passes: StatisticsPasses, cuts: Sequence[Cut], budgets: Sequence[Budget]) -> list[BudgetVectors]:
    """Solve for single positions from a few images, and choose patches and channels for each budget by that."""
    size, settings = passes.view.preprocessing.image_size, passes.settings
    moments = passes.moments(
        [CutVectors.of(cut, image_size=size) for cut in cuts], passes.images.pilot, "statistics of channels"
    )
    return [
        choose_vectors(
            of_cut.solve(weighted=settings.weighted),
            budgets,
            image_size=size,
            images=len(passes.images.moments),
            tuning=settings.tuning,
        )
        for of_cut in moments
    ]


def _solve_patches(passes: StatisticsPasses, chosen: Sequence[BudgetVectors]) -> dict[CutVectors, SolvedCut]:
    """Solve for the chosen patches of every cut; the sums of each are freed as soon as it is solved."""
    wanted = [vectors for of_cut in chosen for vectors in dict.fromkeys(of_cut.values())]
    sums = dict(zip(wanted, passes.moments(wanted, passes.images.moments, "statistics of patches"), strict=True))
    solved: dict[CutVectors, SolvedCut] = {}
    for number, of_cut in enumerate(chosen):
        for vectors in dict.fromkeys(of_cut.values()):
            budgets = [budget for budget, chosen_vectors in of_cut.items() if chosen_vectors is vectors]
            solved[vectors] = sums.pop(vectors).solve(weighted=passes.settings.weighted, budgets=budgets)
        passes.progress("closed forms", number + 1, len(chosen))
    return solved


def _position_bases(
    passes: StatisticsPasses, chosen: Sequence[BudgetVectors], solved: dict[CutVectors, SolvedCut]
) -> list[BudgetBases]:
    """Collect the latents that the largest budget could use, and give each budget those that it could use itself."""
    budgets_of: dict[CutVectors, list[Budget]] = {vectors: [] for vectors in solved}
    for of_cut in chosen:
        for budget, vectors in of_cut.items():
            budgets_of[vectors].append(budget)
    maps = [
        (vectors, _candidates(solution.solutions, vectors.cut, budgets_of[vectors]))
        for vectors, solution in solved.items()
    ]
    bases = {
        vectors: Basis(
            cut=vectors.cut,
            prefix=vectors.prefix,
            samples_per_dimension=solution.samples_per_dimension,
            solutions=solution.solutions,
            latents=latents,
        )
        for (vectors, solution), latents in zip(
            solved.items(), passes.latents(maps, passes.images.held_out), strict=True
        )
    }
    return [
        {
            budget: bases[vectors].of_budget(budget) if budget.payload_bytes else bases[vectors]
            for budget, vectors in of_cut.items()
        }
        for of_cut in chosen
    ]


def _candidates(solutions: Sequence[Solution], cut: Cut, budgets: Sequence[Budget]) -> list[LinearMap]:
    """Return maps of as many latents as the largest budget could possibly use."""
    ranks = [0] * len(solutions)
    for budget in budgets:
        wanted = ratio_ranks(solutions, cut, budget) if budget.element_ratio else useful_ranks(solutions, budget)
        ranks = [max(pair) for pair in zip(ranks, wanted, strict=True)]
    return [solution.keep(rank) for solution, rank in zip(solutions, ranks, strict=True)]


@dataclass(frozen=True, eq=False)
class _JoinedLatents:
    """For some vectors: the latents that a joint map is over, of the moments' images and of the images held out."""

    moments: dict[CutVectors, list[torch.Tensor]]
    held_out: dict[CutVectors, list[torch.Tensor]]


def _with_joint_maps(
    passes: StatisticsPasses, bases: Sequence[BudgetBases], chosen: Sequence[BudgetVectors]
) -> list[BudgetBases]:
    """Give the bases of budgets in bytes a map over all positions, solved from the images of the moments."""
    ranks = {
        (number, budget): ranks
        for number, of_cut in enumerate(bases)
        for budget, basis in of_cut.items()
        if budget.payload_bytes and any(ranks := basis.joint_ranks(passes.settings.tuning))
    }
    joined = _joined_latents(passes, bases, chosen, ranks)
    extended = [dict(of_cut) for of_cut in bases]
    for done, ((number, budget), of_maps) in enumerate(ranks.items()):
        basis, vectors = bases[number][budget], chosen[number][budget]
        statistics, others = (
            [part[:, :rank] for part, rank in zip(latents, of_maps, strict=True)]
            for latents in (joined.moments[vectors], joined.held_out.get(vectors, basis.latents))
        )
        joint = JointBasis.of(basis, statistics=statistics, others=others)
        extended[number][budget] = replace(basis, joint=joint)
        passes.progress("closed forms of all positions", done + 1, len(ranks))
    return extended


def _joined_latents(
    passes: StatisticsPasses,
    bases: Sequence[BudgetBases],
    chosen: Sequence[BudgetVectors],
    ranks: dict[tuple[int, Budget], list[int]],
) -> _JoinedLatents:
    """Collect latents for the joint maps; budgets with the same patches share a pass, of the most that one joins."""
    most: dict[CutVectors, tuple[Basis, list[int]]] = {}
    for (number, budget), of_maps in ranks.items():
        vectors = chosen[number][budget]
        before = most[vectors][1] if vectors in most else of_maps
        most[vectors] = bases[number][budget], [max(pair) for pair in zip(before, of_maps, strict=True)]
    maps = {
        vectors: [solution.keep(rank) for solution, rank in zip(basis.solutions, of_maps, strict=True)]
        for vectors, (basis, of_maps) in most.items()
    }
    images = passes.images
    # Where the candidates were so many that some images had no room, the few that are joined have.
    short = [vectors for vectors, (basis, _) in most.items() if len(basis.latents[0]) < len(images.held_out)]

    def collected(wanted: Sequence[CutVectors], indices: NDArray[np.int64]) -> dict[CutVectors, list[torch.Tensor]]:
        if not wanted:
            return {}
        latents = passes.latents([(vectors, maps[vectors]) for vectors in wanted], indices)
        return dict(zip(wanted, latents, strict=True))

    return _JoinedLatents(moments=collected(list(most), images.moments), held_out=collected(short, images.held_out))


def build_split(view: StudyView, basis: Basis, budget: Budget, *, coder: CoderName = "rans") -> BuiltSplit:
    """Choose rank and step, and make the tables from the latents' own histograms."""
    if budget.element_ratio:
        ranks = ratio_ranks(basis.solutions, basis.cut, budget)
        return built_with_tables(view, basis, fixed_rank(basis.latents, ranks), coder=coder)
    assert budget.payload_bytes is not None
    if coder != "rans":
        return _fill_budget(view, basis, budget.payload_bytes, coder=coder)
    return _largest_within(view, basis, budget.payload_bytes)


def _largest_within(view: StudyView, basis: Basis, budget_bytes: int) -> BuiltSplit:
    """Choose the largest rate whose cross-validated mean payload meets the budget.

    The rate is what an allocation is estimated to take. It is moved by what the payloads are off the budget, and
    bisected once rates on both sides of the budget are known.
    """
    smallest, allocator = float(smallest_payload_bytes()), Allocator(basis.latents)
    low, high = smallest, 2.0 * budget_bytes
    best: Allocation | None = None
    rate = float(budget_bytes)
    for _ in range(_MOST_RATES):
        allocation = allocator.allocate(rate)
        mean = cross_validated_payload_bytes(view, basis, allocation)
        if mean <= budget_bytes:
            best, low = allocation, rate
        else:
            high = rate
        if rate <= smallest or high - low <= _SAME_RATE or 0 <= budget_bytes - mean <= _NEAR * budget_bytes:
            break
        rate += budget_bytes - mean
        if not low < rate < high:
            rate = (low + high) / 2
    return built_with_tables(view, basis, best or allocator.allocate(smallest))


def _fill_budget(view: StudyView, basis: Basis, budget_bytes: int, *, coder: CoderName) -> BuiltSplit:
    """Bisect the bytes that rans would take, which rank and step follow from, until real payloads fill the budget."""
    allocator = Allocator(basis.latents)
    low, high = float(smallest_payload_bytes()), 2.0 * budget_bytes
    best = built_with_tables(view, basis, allocator.allocate(low), coder=coder)
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        allocation = allocator.allocate(middle)
        built = built_with_tables(view, basis, allocation, coder=coder)
        if mean_payload_bytes(built, basis, allocation) <= budget_bytes:
            best, low = built, middle
        else:
            high = middle
    return best


def built_with_tables(
    view: StudyView,
    basis: Basis,
    allocation: Allocation,
    *,
    quantiser: Quantiser | None = None,
    coder: CoderName = "rans",
) -> BuiltSplit:
    """Make the split of an allocation, its tables from the basis's latents; with another quantiser if one is given."""
    kept = _kept(basis, allocation)
    gains = [torch.ones(part.shape[1]) if quantiser else rounding_gain(part, allocation.step) for part in kept]
    bottleneck = basis.bottleneck(allocation, gains).requires_grad_(False).eval()
    scales = quantiser or Quantiser.common(allocation.step, levels=allocation.levels)
    latent_quantiser = LatentQuantiser(scales, bottleneck.channel_axis)
    codec = CodecOwner(view.fingerprint, basis.cut.name).make_codec(
        latent_quantiser, latent_quantiser.symbols(lay_out(kept)), coder=coder
    )
    return BuiltSplit(basis.cut, bottleneck, codec)


def mean_payload_bytes(built: BuiltSplit, basis: Basis, allocation: Allocation) -> float:
    """Return the mean length of real payloads of the basis's latents, header included."""
    symbols = built.quantiser.symbols(lay_out(_kept(basis, allocation)))
    return float(built.codec.payload_bytes(symbols.numpy()).mean())


def cross_validated_payload_bytes(view: StudyView, basis: Basis, allocation: Allocation) -> float:
    """Return the mean length of payloads of the basis's latents, each coded with tables of other images.

    Tables fit the images that they are made from better than any others: with few images by several per cent.
    """
    symbols = _quantiser(allocation).symbols(lay_out(_kept(basis, allocation)))
    owner, fold_of = CodecOwner(view.fingerprint, basis.cut.name), torch.arange(len(symbols)) % _FOLDS
    return float(owner.held_out_bytes(_quantiser(allocation), symbols, fold_of).mean())


def _quantiser(allocation: Allocation) -> LatentQuantiser:
    """Return the quantiser of an allocation: one step for all latents."""
    return LatentQuantiser(Quantiser.common(allocation.step, levels=allocation.levels))


def _kept(basis: Basis, allocation: Allocation) -> list[torch.Tensor]:
    """Return the latents that are sent, each divided by its scale."""
    parts = zip(basis.latents, allocation.kept, allocation.scales, strict=True)
    return [part[:, places] / scales[:, None] for part, places, scales in parts]
