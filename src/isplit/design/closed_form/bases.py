"""Solve cuts for the latents that budgets choose among, with each size of patches that may suit a budget.

moments of positions ─> patches that may suit ─> moments of patches ─> solve ─> latents ─┬─> the expected loss decides
(fit part, some images)                          (fit part)                  (other images) │   which has a joint map
                                                                                         └─> latents of all positions
                                                                                             ─> solve (budgets of bytes)

Where patches of two sizes are left, choice.py decides between the splits that are built from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.bottleneck.linear import LinearMap
from isplit.design.closed_form.allocation import ratio_ranks, useful_ranks
from isplit.design.closed_form.basis import Basis, JointBasis
from isplit.design.closed_form.decoders import FEWEST_SAMPLES
from isplit.design.closed_form.kept_forms import solved_arrays, solved_from
from isplit.design.closed_form.moments import CutVectors, SolvedCut, possible_vectors
from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.closed_form.solve import Solution
from isplit.design.devices import device_of
from isplit.design.kept_work import NOTHING_KEPT, KeptWork
from isplit.design.settings import PredictSettings
from isplit.design.study import StudyView
from isplit.progress import Progress, silent
from isplit.records import Budget, Cut

BudgetBases = dict[Budget, list[Basis]]
"""For one cut: the latents that each budget chooses among, once for each size of patches that may suit it."""
Trial = tuple[Budget, CutVectors]
"""A budget, and vectors that may suit it."""
TrialBases = dict[Trial, Basis]
"""For one cut: the latents of every trial."""


def closed_form_bases(
    view: StudyView,
    budgets: Sequence[Budget],
    cuts: Sequence[Cut],
    settings: PredictSettings,
    *,
    kept: KeptWork = NOTHING_KEPT,
    progress: Progress = silent,
) -> list[BudgetBases]:
    """Solve every cut for every budget, and take as many latents as the budget could use.

    Where patches of several sizes may suit a budget of bytes, all of them are solved for. Each has a map over all
    positions where that is expected to lose less on the images held out.

    Returns:
        For each cut, the bases that may suit each budget, the one with the smallest expected loss first; budgets may
        share them. It is one basis unless the budget is of bytes.

    """
    return bases_from(StatisticsPasses(view, settings, progress, kept), budgets, cuts)


def bases_from(passes: StatisticsPasses, budgets: Sequence[Budget], cuts: Sequence[Cut]) -> list[BudgetBases]:
    """Solve cuts as `closed_form_bases` does, with the caller's passes.

    They keep what crosses of the images held out, where decoders may be estimated again from it.
    """
    trials, solved = _solved(passes, cuts, budgets)
    bases = _position_bases(passes, trials, solved)
    if passes.images.joint_maps:
        bases = _with_joint_maps(passes, bases)
    return [_by_budget(of_cut, worth=passes.settings.tuning.joint_worth) for of_cut in bases]


def _solved(
    passes: StatisticsPasses, cuts: Sequence[Cut], budgets: Sequence[Budget]
) -> tuple[list[list[Trial]], dict[CutVectors, SolvedCut]]:
    """Find patches and solve for them at every cut, but for cuts that a stopped run has solved."""
    size = passes.view.preprocessing.image_size
    trials: dict[str, list[Trial]] = {}
    solved: dict[CutVectors, SolvedCut] = {}
    for cut in cuts:
        if (arrays := passes.kept.load("solution", cut=cut.name)) is not None:
            trials[cut.name], of_cut = solved_from(arrays, cut, budgets, image_size=size)
            solved |= of_cut
    left = [cut for cut in cuts if cut.name not in trials]
    if left:
        possible = _possible_patches(passes, left, budgets)
        solved |= _solve_patches(passes, possible, budgets)
        trials |= {cut.name: of_cut for cut, of_cut in zip(left, possible, strict=True)}
    return [trials[cut.name] for cut in cuts], solved


def _by_budget(bases: TrialBases, *, worth: float) -> BudgetBases:
    """Return the bases of each budget, the one that is expected to lose least first."""
    by_budget: BudgetBases = {}
    for (budget, _), basis in bases.items():
        by_budget.setdefault(budget, []).append(basis.best(budget, worth=worth))
    return {
        budget: sorted(of_budget, key=lambda basis: basis.expected_loss(budget)) if len(of_budget) > 1 else of_budget
        for budget, of_budget in by_budget.items()
    }


def _possible_patches(passes: StatisticsPasses, cuts: Sequence[Cut], budgets: Sequence[Budget]) -> list[list[Trial]]:
    """Solve for single positions from a few images, and find the patches and channels that may suit each budget."""
    size, settings = passes.view.preprocessing.image_size, passes.settings
    moments = passes.moments(
        [CutVectors.of(cut, image_size=size) for cut in cuts],
        passes.images.pilot,
        "statistics of channels",
        keep_gradients=True,
    )
    trials: list[list[Trial]] = []
    for of_cut in moments:
        possible = possible_vectors(
            of_cut.solve(weighted=settings.weighted),
            budgets,
            image_size=size,
            images=len(passes.images.moments),
            tuning=settings.tuning,
        )
        trials.append([(budget, vectors) for budget in budgets for vectors in possible[budget]])
    return trials


def _solve_patches(
    passes: StatisticsPasses, trials: Sequence[Sequence[Trial]], budgets: Sequence[Budget]
) -> dict[CutVectors, SolvedCut]:
    """Solve for the patches of all trials; the sums of each are freed as soon as it is solved."""
    wanted = [list(dict.fromkeys(vectors for _, vectors in of_cut)) for of_cut in trials]
    every = [vectors for of_cut in wanted for vectors in of_cut]
    keep = passes.images.joint_maps and any(budget.payload_bytes for budget in budgets)
    moments = passes.moments(every, passes.images.moments, "statistics of patches", keep=keep)
    sums = dict(zip(every, moments, strict=True))
    moments.clear()  # so that the dictionary alone holds them
    solved: dict[CutVectors, SolvedCut] = {}
    for number, of_cut in enumerate(wanted):
        for vectors in of_cut:
            suited = [budget for budget, of_trial in trials[number] if of_trial is vectors]
            solved[vectors] = sums.pop(vectors).solve(weighted=passes.settings.weighted, budgets=suited)
        arrays = solved_arrays(budgets, trials[number], solved)
        passes.kept.save(arrays, "solution", cut=of_cut[0].cut.name)
        passes.progress("closed forms", number + 1, len(wanted))
    return solved


def _position_bases(
    passes: StatisticsPasses, trials: Sequence[Sequence[Trial]], solved: dict[CutVectors, SolvedCut]
) -> list[TrialBases]:
    """Collect the latents that the largest budget could use, and give each budget those that it could use itself."""
    budgets_of: dict[CutVectors, list[Budget]] = {vectors: [] for vectors in solved}
    for of_cut in trials:
        for budget, vectors in of_cut:
            budgets_of[vectors].append(budget)
    maps = [
        (vectors, _candidates(of_vectors.solutions, vectors.cut, budgets_of[vectors]))
        for vectors, of_vectors in solved.items()
    ]
    # Decoders may be estimated again where samples are few, from these images and others.
    few = [of_vectors for of_vectors in solved.values() if of_vectors.samples_per_dimension < FEWEST_SAMPLES]
    regressed = [] if passes.images.are_shared else [of_vectors.vectors.cut for of_vectors in few]
    bases = {
        vectors: Basis(
            cut=vectors.cut,
            prefix=vectors.prefix,
            samples_per_dimension=of_vectors.samples_per_dimension,
            solutions=of_vectors.solutions,
            latents=latents,
            dropped=sum(
                solution.left_out(part.shape[1]) for solution, part in zip(of_vectors.solutions, latents, strict=True)
            ),
        )
        for (vectors, of_vectors), latents in zip(
            solved.items(), passes.latents(maps, passes.images.held_out, keep=regressed), strict=True
        )
    }
    return [
        {
            (budget, vectors): bases[vectors].of_budget(budget) if budget.payload_bytes else bases[vectors]
            for budget, vectors in of_cut
        }
        for of_cut in trials
    ]


def _candidates(solutions: Sequence[Solution], cut: Cut, budgets: Sequence[Budget]) -> list[LinearMap]:
    """Return maps of as many latents as the largest budget could possibly use; of the reduced tensor, if any."""
    ranks = [0] * len(solutions)
    for budget in budgets:
        wanted = ratio_ranks(solutions, cut, budget) if budget.element_ratio else useful_ranks(solutions, budget)
        ranks = [max(pair) for pair in zip(ranks, wanted, strict=True)]
    return [solution.reduced().keep(rank) for solution, rank in zip(solutions, ranks, strict=True)]


@dataclass(frozen=True, eq=False)
class _JoinedLatents:
    """For some vectors: the latents that a joint map is over, of the moments' images and of the images held out."""

    moments: dict[CutVectors, list[torch.Tensor]]
    held_out: dict[CutVectors, list[torch.Tensor]]


def _with_joint_maps(passes: StatisticsPasses, bases: Sequence[TrialBases]) -> list[TrialBases]:
    """Give the bases of budgets in bytes a map over all positions, solved from the images of the moments."""
    ranks = {
        (number, trial): ranks
        for number, of_cut in enumerate(bases)
        for trial, basis in of_cut.items()
        if trial[0].payload_bytes and any(ranks := basis.joint_ranks(passes.settings.tuning))
    }
    joined = _joined_latents(passes, bases, ranks)
    extended = [dict(of_cut) for of_cut in bases]
    for done, ((number, trial), of_maps) in enumerate(ranks.items()):
        basis, (_, vectors) = bases[number][trial], trial
        statistics, others = (
            [part[:, :rank] for part, rank in zip(latents, of_maps, strict=True)]
            for latents in (joined.moments[vectors], joined.held_out.get(vectors, basis.latents))
        )
        device = device_of(passes.view.graph.module)
        joint = JointBasis.of(basis, statistics=statistics, others=others, device=device)
        extended[number][trial] = replace(basis, joint=joint)
        passes.progress("closed forms of all positions", done + 1, len(ranks))
    return extended


def _joined_latents(
    passes: StatisticsPasses, bases: Sequence[TrialBases], ranks: dict[tuple[int, Trial], list[int]]
) -> _JoinedLatents:
    """Collect latents for the joint maps; budgets with the same patches share a pass, of the most that one joins."""
    most: dict[CutVectors, tuple[Basis, list[int]]] = {}
    for (number, trial), of_maps in ranks.items():
        _, vectors = trial
        before = most[vectors][1] if vectors in most else of_maps
        most[vectors] = bases[number][trial], [max(pair) for pair in zip(before, of_maps, strict=True)]
    maps = {
        vectors: [solution.reduced().keep(rank) for solution, rank in zip(basis.solutions, of_maps, strict=True)]
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

    of_moments = collected(list(most), images.moments)
    passes.features.forget(images.moments)
    return _JoinedLatents(moments=of_moments, held_out=collected(short, images.held_out))
