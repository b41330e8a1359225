"""Moments at all cuts from one pass over the images, and the latents that a budget is spent on from a second."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, Self

import torch
from numpy.typing import NDArray

from isplit.design.bottleneck.linear import LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.allocation import lost_share, needed_latents
from isplit.design.closed_form.eigenpairs import Needed
from isplit.design.closed_form.moment_sums import MomentSums, Statistics
from isplit.design.closed_form.patch_size import possible_patches
from isplit.design.closed_form.solve import Reducer, Solution, solve
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.graph import ModelGraph
from isplit.design.graph.features import Visit
from isplit.design.graph.gradients import GradientPass
from isplit.design.graph.tokens import prefix_tokens
from isplit.design.inputs.batches import Batch
from isplit.records import Budget, Cut, Precision

_SAMPLES_PER_DIMENSION = 4

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits N×K and labels N to the scalar that is differentiated."""
GradientVisit = Callable[[torch.Tensor, torch.Tensor, Cut], None]
"""Takes what crosses a cut, N×…, the gradient there, and the cut."""


@dataclass(frozen=True, eq=False)
class CutVectors:
    """How what crosses a cut is taken as vectors: of all positions, or of the tokens in front and of the grid's.

    Attributes:
        cut: A cut with one crossing tensor.
        prefix: Tokens in front of the grid.
        layouts: One layout, or that of the tokens in front and that of the grid.
        reducer: Takes the channels that matter first, where some are given up for larger patches.

    """

    cut: Cut
    prefix: int
    layouts: tuple[PatchLayout, ...]
    reducer: Reducer | None = None

    @classmethod
    def of(cls, cut: Cut, *, image_size: tuple[int, int], patch: int = 1, reducer: Reducer | None = None) -> Self:
        """Return the vectors of a cut.

        Args:
            cut: A cut with one crossing tensor.
            image_size: (height, width) of the model's input, which tells the grid's tokens from those in front.
            patch: Side of the patches.
            reducer: Of the channels, with the same patch.

        """
        prefix = prefix_tokens(cut, image_size)
        if not prefix:
            return cls(cut, 0, (reducer.reduced if reducer else PatchLayout.of(cut, patch),), reducer)
        tokens, width = cut.shape
        shapes = [(prefix, width), (tokens - prefix, width)]
        return cls(cut, prefix, tuple(PatchLayout(shape, -1) for shape in shapes), reducer)

    def parts(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return what each of the layouts takes of the crossing tensor."""
        return [tensor[:, : self.prefix], tensor[:, self.prefix :]] if self.prefix else [tensor]


@dataclass(frozen=True, eq=False)
class SolvedCut:
    """The closed form of a cut's vectors: one solution for each layout.

    `samples_per_dimension` are the vectors that were seen over the vectors' length, the smallest of the layouts'.
    """

    vectors: CutVectors
    solutions: tuple[Solution, ...]
    samples_per_dimension: float


class CutMoments:
    """Sums over images from which the moments of a cut's vectors follow.

    Args:
        vectors: How what crosses is taken as vectors.
        images: The number of images that will be added.

    """

    def __init__(self, vectors: CutVectors, *, images: int) -> None:
        self.vectors = vectors
        # More samples than this tell nothing new: early layers have thousands of positions an image.
        share = _SAMPLES_PER_DIMENSION / images
        self._sums = [MomentSums(layout, per_image=ceil(share * layout.width)) for layout in vectors.layouts]

    def add(self, activation: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a batch of what crosses and of the gradient there."""
        reducer, parts = self.vectors.reducer, self.vectors.parts
        if reducer is not None:
            activation, gradient = reducer.activations(activation), reducer.gradients(gradient)
        for sums, values, slopes in zip(self._sums, parts(activation), parts(gradient), strict=True):
            sums.add(values, slopes)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the sums as arrays by name, for `restore`."""
        return {
            f"{number}.{name}": part for number, sums in enumerate(self._sums) for name, part in sums.state().items()
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from the sums that `state` returned."""
        for number, sums in enumerate(self._sums):
            prefix = f"{number}."
            sums.restore({name.removeprefix(prefix): part for name, part in state.items() if name.startswith(prefix)})

    def statistics(self) -> list[Statistics]:
        """Return the moments for each layout."""
        return [sums.statistics() for sums in self._sums]

    def solve(self, *, weighted: bool = True, budgets: Sequence[Budget] = ()) -> SolvedCut:
        """Return the closed form for each layout; `weighted=False` gives plain PCA.

        With `budgets`, solutions have only the latents that could matter to one of these.
        """
        reducer, cut = self.vectors.reducer, self.vectors.cut

        def needed(layout: PatchLayout) -> Needed | None:
            if not budgets:
                return None
            return partial(needed_latents, layout=layout, cut=cut, budgets=budgets)

        solutions = [
            solve(layout, statistics, weighted=weighted, needed=needed(layout))
            for layout, statistics in zip(self.vectors.layouts, self.statistics(), strict=True)
        ]
        if reducer is not None:
            solutions = [replace(solution, reducer=reducer) for solution in solutions]
        samples = min(sums.samples / sums.layout.width for sums in self._sums)
        return SolvedCut(self.vectors, tuple(solutions), samples)


def possible_vectors(
    pilot: SolvedCut,
    budgets: Sequence[Budget],
    *,
    image_size: tuple[int, int],
    images: int,
    tuning: ClosedFormTuning,
) -> dict[Budget, tuple[CutVectors, ...]]:
    """Return for each budget the vectors that may suit it, those of the largest patches first.

    Channels are given up to make room for larger patches, as long as what that loses is little beside what the budget
    loses anyway. Where channels are given up, or samples are few, the next smaller patches may suit a budget of bytes
    as well, and the caller has to compare them. Budgets may share vectors.

    Args:
        pilot: The solution for single positions, from a few images.
        budgets: What may cross.
        image_size: (height, width) of the model's input.
        images: The number of images that the moments will be from.
        tuning: What a larger patch is worth.

    """
    cut = pilot.vectors.cut
    if pilot.vectors.prefix:
        return dict.fromkeys(budgets, (CutVectors.of(cut, image_size=image_size),))
    (solution,) = pilot.solutions
    eigenvalues = solution.eigenvalues.tolist()
    choices: dict[Budget, list[tuple[int, int]]] = {}
    for budget in budgets:
        loss = lost_share(solution, cut, budget)
        choices[budget] = possible_patches(
            cut,
            images=images,
            eigenvalues=eigenvalues,
            loss=loss,
            compared=budget.payload_bytes is not None,
            tuning=tuning,
        )
    vectors: dict[tuple[int, int], CutVectors] = {}
    for patch, channels in dict.fromkeys(choice for of_budget in choices.values() for choice in of_budget):
        layout = PatchLayout.of(cut, patch)
        reducer = None
        if channels < layout.channels:
            kept = solution.encoder[:, :channels], solution.decoder[:channels]
            left_out = float(solution.eigenvalues[channels:].sum())
            reducer = Reducer(layout, solution.mean, solution.scale, *kept, left_out)
        vectors[patch, channels] = CutVectors.of(cut, image_size=image_size, patch=patch, reducer=reducer)
    return {budget: tuple(vectors[choice] for choice in of_budget) for budget, of_budget in choices.items()}


def adding(moments: Sequence[CutMoments]) -> GradientVisit:
    """Return a visitor that adds what it is shown to all moments; several may be of one cut."""
    by_cut: dict[str, list[CutMoments]] = {}
    for of_vectors in moments:
        by_cut.setdefault(of_vectors.vectors.cut.name, []).append(of_vectors)

    def visit(activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> None:
        for of_vectors in by_cut[cut.name]:
            of_vectors.add(activation, gradient)

    return visit


def show_gradients(
    graph: ModelGraph,
    cuts: Sequence[Cut],
    batches: Iterable[Batch],
    visit: GradientVisit,
    *,
    objective: Objective,
    precision: Precision = "fp32",
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Show a visitor what crosses cuts and the gradient there, in one forward and one backward pass over the images.

    Args:
        graph: The captured model.
        cuts: The cuts.
        batches: The images.
        visit: Called for each batch and cut.
        objective: What is differentiated.
        precision: That of the model.
        progress: Called after each batch with the number of images that are done.

    """
    gradients, done = GradientPass(graph, cuts), 0
    for batch in batches:
        decide = partial(_decide, objective, batch.labels)
        gradients(batch.images, decide, visit, precision=precision)
        done += len(batch.labels)
        progress(done)


def _decide(objective: Objective, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return objective(logits, labels)


def collect_latents(
    maps: Sequence[tuple[CutVectors, Sequence[LinearMap]]],
    show: Callable[[Sequence[Cut], Visit, Callable[[], bool]], None],
    *,
    max_values: int,
) -> list[list[torch.Tensor]]:
    """Return the latents N×rank×P of each map of each cut's vectors, of as many images as `max_values` floats allow.

    Where vectors have a reducer, their maps are of its reduced tensor (see `Solution.reduced`): the two encoders one
    after the other take a fraction of the operations of the one map that stands for both. The maps are moved to the
    model's device; the latents are on the CPU.

    Args:
        maps: Vectors of cuts, and the maps of each.
        show: Shows a visitor what crosses cuts, batch by batch, until a function says that it is enough.
        max_values: How many floats the latents of one cut's vectors may be.

    """
    kept: list[list[list[torch.Tensor]]] = [[[] for _ in of_cut] for _, of_cut in maps]
    limits = [
        max(1, max_values // max(1, sum(linear_map.rank * linear_map.layout.vectors for linear_map in of_cut)))
        for _, of_cut in maps
    ]
    by_cut: dict[str, list[int]] = {}
    for number, (vectors, _) in enumerate(maps):
        by_cut.setdefault(vectors.cut.name, []).append(number)
    seen = dict.fromkeys(by_cut, 0)

    def visit(cut: Cut, tensor: torch.Tensor) -> None:
        for number in by_cut[cut.name]:
            room = limits[number] - seen[cut.name]
            if room > 0:
                vectors, of_cut = maps[number]
                crossing = tensor[:room]
                if vectors.reducer is not None:
                    crossing = vectors.reducer.activations(crossing)
                parts = vectors.parts(crossing)
                for linear_map, part, latents in zip(of_cut, parts, kept[number], strict=True):
                    latents.append(linear_map.to(part.device).encode(part).cpu())
        seen[cut.name] += len(tensor)

    def has_enough() -> bool:
        return all(seen[name] >= max(limits[number] for number in numbers) for name, numbers in by_cut.items())

    show([maps[numbers[0]][0].cut for numbers in by_cut.values()], visit, has_enough)
    return [[torch.cat(latents) for latents in of_cut] for of_cut in kept]
