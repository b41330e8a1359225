"""Moments at all cuts from one pass over the images, and the latents that a budget is spent on from a second."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil

import torch

from isplit.design.bottleneck.linear import LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.allocation import lost_share
from isplit.design.closed_form.moment_sums import MomentSums, Statistics
from isplit.design.closed_form.patch_size import choose_patch
from isplit.design.closed_form.solve import Reducer, Solution, solve
from isplit.design.graph import ModelGraph
from isplit.design.graph.features import FeaturePass
from isplit.design.graph.gradients import GradientPass
from isplit.design.graph.tokens import prefix_tokens
from isplit.design.inputs.batches import Batch
from isplit.records import Budget, Cut, Precision

_SAMPLES_PER_DIMENSION = 4

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits N×K and labels N to the scalar that is differentiated."""


class CutMoments:
    """Moments of one cut's vectors: of all positions, or of the tokens in front and of the grid's.

    Args:
        cut: With one crossing tensor.
        image_size: (height, width) of the model's input: tells the grid's tokens from those in front.
        images: How many will be added.
        patch: Side of the patches.
        reducer: Of the channels, with the same patch.

    """

    def __init__(
        self, cut: Cut, *, image_size: tuple[int, int], images: int, patch: int = 1, reducer: Reducer | None = None
    ) -> None:
        self.cut = cut
        self.prefix = prefix_tokens(cut, image_size)
        self.reducer = reducer
        if self.prefix:
            tokens, width = cut.shape
            shapes = [(self.prefix, width), (tokens - self.prefix, width)]
            self.layouts = [PatchLayout(shape, -1) for shape in shapes]
        else:
            self.layouts = [reducer.reduced if reducer else PatchLayout.of(cut, patch)]
        # More samples than this tell nothing new: early layers have thousands of positions an image.
        share = _SAMPLES_PER_DIMENSION / images
        self._sums = [MomentSums(layout, per_image=ceil(share * layout.width)) for layout in self.layouts]

    def add(self, activation: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a batch of what crosses and of the gradient there."""
        if self.reducer is not None:
            activation, gradient = self.reducer.activations(activation), self.reducer.gradients(gradient)
        for sums, values, slopes in zip(self._sums, self.parts(activation), self.parts(gradient), strict=True):
            sums.add(values, slopes)

    def parts(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return what each of the layouts takes of the crossing tensor."""
        return [tensor[:, : self.prefix], tensor[:, self.prefix :]] if self.prefix else [tensor]

    def forget(self) -> None:
        """Free the sums: what was solved and `parts` are all that is needed of these moments from here on."""
        self._sums.clear()

    def statistics(self) -> list[Statistics]:
        """Return the moments for each layout."""
        return [sums.statistics() for sums in self._sums]

    @property
    def samples_per_dimension(self) -> float:
        """Vectors seen over the vectors' length; the smallest of the layouts'."""
        return min(sums.samples / sums.layout.width for sums in self._sums)

    def solve(self, *, weighted: bool = True) -> list[Solution]:
        """Return the closed form for each layout."""
        found = zip(self.layouts, self.statistics(), strict=True)
        solutions = [solve(layout, statistics, weighted=weighted) for layout, statistics in found]
        return [replace(one, reducer=self.reducer) for one in solutions] if self.reducer else solutions

    def enlarged(
        self, budgets: Sequence[Budget], *, image_size: tuple[int, int], images: int, weighted: bool = True
    ) -> "dict[Budget, CutMoments]":
        """Return for each budget empty moments with the largest patches that it has room for; some share theirs.

        Channels are reduced to make room, as long as what that loses is little beside what the budget loses anyway.
        These moments are those of single positions, from a few images.
        """
        if self.prefix:
            return dict.fromkeys(budgets, CutMoments(self.cut, image_size=image_size, images=images))
        (solution,) = self.solve(weighted=weighted)
        eigenvalues = solution.eigenvalues.tolist()
        choices = {
            budget: choose_patch(
                self.cut, images=images, eigenvalues=eigenvalues, loss=lost_share(solution, self.cut, budget)
            )
            for budget in budgets
        }
        made: dict[tuple[int, int], CutMoments] = {}
        for patch, channels in dict.fromkeys(choices.values()):
            layout = PatchLayout.of(self.cut, patch)
            reducer = None
            if channels < layout.channels:
                kept = solution.encoder[:, :channels], solution.decoder[:channels]
                reducer = Reducer(layout, solution.mean, solution.scale, *kept)
            made[patch, channels] = CutMoments(
                self.cut, image_size=image_size, images=images, patch=patch, reducer=reducer
            )
        return {budget: made[choice] for budget, choice in choices.items()}


def collect_moments(
    graph: ModelGraph,
    moments: Sequence[CutMoments],
    batches: Iterable[Batch],
    *,
    objective: Objective,
    precision: Precision = "fp32",
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Add to all moments, of one cut or of several, in one forward and one backward pass over the images."""
    by_cut: dict[str, list[CutMoments]] = {}
    for one in moments:
        by_cut.setdefault(one.cut.name, []).append(one)
    gradients = GradientPass(graph, [of_cut[0].cut for of_cut in by_cut.values()])

    def reduce(activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> torch.Tensor:
        for one in by_cut[cut.name]:
            one.add(activation, gradient)
        return gradient.new_zeros(())

    done = 0
    for batch in batches:
        decide = partial(_decide, objective, batch.labels)
        gradients(batch.images, decide, reduce, precision=precision)
        done += len(batch.labels)
        progress(done)


def _decide(objective: Objective, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return objective(logits, labels)


def collect_latents(
    graph: ModelGraph,
    maps: Sequence[tuple[CutMoments, Sequence[LinearMap]]],
    batches: Iterable[Batch],
    *,
    max_values: int,
    precision: Precision = "fp32",
) -> list[list[torch.Tensor]]:
    """Return for each of the moments its maps' latents N×rank×P, of as many images as `max_values` floats allow."""
    found: list[list[list[torch.Tensor]]] = [[[] for _ in own] for _, own in maps]
    limits = [max(1, max_values // max(1, sum(one.rank * one.layout.vectors for one in own))) for _, own in maps]
    by_cut: dict[str, list[int]] = {}
    for number, (moments, _) in enumerate(maps):
        by_cut.setdefault(moments.cut.name, []).append(number)
    run = FeaturePass(graph, [maps[numbers[0]][0].cut for numbers in by_cut.values()])
    seen = 0

    def visit(cut: Cut, tensor: torch.Tensor) -> None:
        for number in by_cut[cut.name]:
            room = limits[number] - seen
            if room > 0:
                moments, own = maps[number]
                for one, part, kept in zip(own, moments.parts(tensor[:room]), found[number], strict=True):
                    kept.append(one.encode(part))

    for batch in batches:
        run(batch.images, visit, precision=precision)
        seen += len(batch.labels)
        if seen >= max(limits):
            break
    return [[torch.cat(kept) for kept in own] for own in found]
