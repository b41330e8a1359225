"""Closed-form splits of many cuts for many budgets, from a few passes over images and without training.

The latents that a budget chooses among come from bases.py. Here the rank, the step and the coder's tables are chosen
for each budget, from latents of images that the bases were not solved from. Where patches of two sizes may suit a
budget, both become splits, and choice.py takes one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch

from isplit.codec.codec import smallest_payload_bytes
from isplit.codec.coders import CoderName
from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.linear import lay_out
from isplit.design.closed_form.allocation import (
    Allocation,
    Allocator,
    fixed_rank,
    ratio_ranks,
    rounding_gain,
)
from isplit.design.closed_form.bases import bases_from
from isplit.design.closed_form.basis import Basis
from isplit.design.closed_form.choice import choose_by_answers
from isplit.design.closed_form.decoders import FEWEST_SAMPLES, estimate_decoders
from isplit.design.closed_form.kept_forms import split_arrays, split_from
from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.kept_work import NOTHING_KEPT, KeptWork
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.design.study import StudyView
from isplit.progress import Progress, silent
from isplit.records import BottleneckSpec, Budget, Cut

_FOLDS = 10
"""Tables that payloads are measured with are made from all but one of so many parts of the images."""
_MOST_RATES = 8
_MOST_RATES_WITHOUT_FIT = 24
"""So many rates are tried where none of the first ones meets the budget."""
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
    kept: KeptWork = NOTHING_KEPT,
    progress: Progress = silent,
) -> list[ClosedForm]:
    """Build the closed-form split of every cut for every budget: cuts in their order, and budgets in theirs.

    Splits that a stopped run has finished, cuts that it has solved, and sums that it has taken are found in `kept`.
    """
    kept = kept.with_inputs(
        statistics=repr(replace(settings, images=None, remote_images=None)),
        fit=view.images("fit"),
        budgets=[budget.tag for budget in budgets],
    )
    built = _Candidates(view, settings, kept)
    groups = {(cut.name, budget): built.kept_before(cut, budget) for cut, budget in product(cuts, budgets)}
    left = [cut for cut in cuts if not all(groups[cut.name, budget] for budget in budgets)]
    passes = StatisticsPasses(view, settings, progress, kept)
    bases = bases_from(passes, budgets, left) if left else []
    for number, (cut, of_cut) in enumerate(zip(left, bases, strict=True)):
        for budget in budgets:
            groups[cut.name, budget] = built.build(of_cut[budget], budget)
        progress("rank and step", number + 1, len(bases))
    places = choose_by_answers(passes, [[closed.split for closed in group] for group in groups.values()])
    chosen = [group[place] for group, place in zip(groups.values(), places, strict=True)]
    # What is kept has the decoders of the moments, so that a run that was stopped ends with the same splits.
    estimate_decoders(passes, [closed.split for closed in chosen if closed.samples_per_dimension < FEWEST_SAMPLES])
    return chosen


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Closed forms that may suit a cut and a budget, which are kept until the run is finished."""

    view: StudyView
    settings: PredictSettings
    kept: KeptWork

    def kept_before(self, cut: Cut, budget: Budget) -> list[ClosedForm]:
        """Return those that a stopped run has built; none where one of them is missing."""
        group: list[ClosedForm] = []
        count = 1
        while len(group) < count:
            arrays = self.kept.load("split", cut=cut.name, budget=budget.tag, place=len(group))
            if arrays is None:
                return []
            split, spec = split_from(arrays, cut, budget)
            group.append(self._closed_form(split, spec, budget, float(arrays["samples"])))
            count = int(arrays["count"])
        return group

    def build(self, bases: Sequence[Basis], budget: Budget) -> list[ClosedForm]:
        """Build one from each basis, and keep them."""
        group: list[ClosedForm] = []
        for place, basis in enumerate(bases):
            split = build_split(self.view, basis, budget, coder=self.settings.coder)
            spec = BottleneckSpec(design="linear" if self.settings.weighted else "pca", **split.bottleneck.structure())
            samples = basis.samples_per_dimension
            group.append(self._closed_form(split, spec, budget, samples))
            arrays = {"samples": np.array(samples), "count": np.array(len(bases)), **split_arrays(split, spec)}
            self.kept.save(arrays, "split", cut=basis.cut.name, budget=budget.tag, place=place)
        return group

    def _closed_form(self, split: BuiltSplit, spec: BottleneckSpec, budget: Budget, samples: float) -> ClosedForm:
        images = min(self.settings.statistics_images, len(self.view.images("fit")))
        return ClosedForm(split, spec, budget, images, samples)


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

    The rate is what an allocation is estimated to take. It is moved by what the payloads are off the budget, twice as
    far each time that this was not far enough, and bisected where a move leaves the bracket. Without the growing moves,
    rates could come closer to the budget from above without ever meeting it.
    """
    smallest, allocator = float(smallest_payload_bytes()), Allocator(basis.latents)
    low, high = smallest, 2.0 * budget_bytes
    aim = budget_bytes * (1 - _NEAR / 2)
    best: Allocation | None = None
    rate, reach, was_above = float(budget_bytes), 1.0, None
    for tried in range(_MOST_RATES_WITHOUT_FIT):
        allocation = allocator.allocate(rate)
        mean = cross_validated_payload_bytes(view, basis, allocation)
        is_above = mean > budget_bytes
        if is_above:
            high = rate
        else:
            best, low = allocation, rate
        if rate <= smallest or high - low <= _SAME_RATE or 0 <= budget_bytes - mean <= _NEAR * budget_bytes:
            break
        if best is not None and tried + 1 >= _MOST_RATES:
            break
        reach = 2 * reach if is_above == was_above else 1.0
        was_above = is_above
        rate += reach * (aim - mean)
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
