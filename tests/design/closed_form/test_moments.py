"""Moments and latents of all cuts: of a transformer whose last block uses its class token only."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.linear import LinearBottleneck, lay_out
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.allocation import allocate_bytes, useful_ranks
from isplit.design.closed_form.moments import (
    CutMoments,
    CutVectors,
    adding,
    collect_latents,
    possible_vectors,
    show_gradients,
)
from isplit.design.closed_form.solve import Reducer
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.graph import ModelGraph, split
from isplit.design.graph.features import FeaturePass, Visit
from isplit.design.inputs.batches import Batch
from isplit.records import Budget, Cut
from tests.design.conftest import make_cut

WIDTH, SIDE = 12, 4


def collect(graph: ModelGraph, moments: Sequence[CutMoments], coming: Iterable[Batch], **how) -> None:
    """Add the images to all moments."""
    cuts = list({of_cut.vectors.cut.name: of_cut.vectors.cut for of_cut in moments}.values())
    show_gradients(graph, cuts, coming, adding(moments), **how)


class Block(nn.Module):
    """Every token hears of the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.act = nn.Linear(2 * WIDTH, WIDTH), nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        everyone = x.mean(1, keepdim=True).expand_as(x)
        return x + self.act(self.mix(torch.cat([x, everyone], -1)))


class ClassTokenNet(nn.Module):
    """16 patches of an 8×8 image and a class token, of which alone the answer is made."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.block1, self.block2 = Block(), Block()
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        return self.head(self.norm(self.block2(self.block1(tokens)))[:, 0])


@pytest.fixture
def graph() -> ModelGraph:
    return ModelGraph(ClassTokenNet().eval(), (3, 8, 8))


@pytest.fixture
def token_cuts(graph: ModelGraph) -> list[Cut]:
    """The cuts at which all 17 tokens cross, in their order."""
    cuts = [cut for cut in graph.record().cuts if cut.shape == (17, WIDTH)]
    assert len(cuts) >= 3
    return cuts


def batches(count: int = 40, size: int = 8) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    labels = torch.arange(count) % 3
    return [
        Batch(images=images[i : i + size], labels=labels[i : i + size], indices=np.arange(i, i + size))
        for i in range(0, count, size)
    ]


def shown(graph: ModelGraph, coming: list[Batch]) -> Callable[[Sequence[Cut], Visit, Callable[[], bool]], None]:
    """Return what shows a visitor the cuts of a graph, batch by batch, until it has enough."""

    def show(cuts: Sequence[Cut], visit: Visit, has_enough: Callable[[], bool]) -> None:
        run = FeaturePass(graph, cuts)
        for batch in coming:
            run.show(batch.images, visit)
            if has_enough():
                return

    return show


def own_logit(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, labels[:, None]).sum()


def moments_of(cut: Cut) -> CutMoments:
    return CutMoments(CutVectors.of(cut, image_size=(8, 8)), images=40)


@pytest.fixture
def moments(graph: ModelGraph, token_cuts: list[Cut]) -> dict[str, CutMoments]:
    empty = {cut.name: moments_of(cut) for cut in token_cuts}
    collect(graph, list(empty.values()), batches(), objective=own_logit)
    return empty


def test_class_token_has_moments_of_its_own(
    graph: ModelGraph, token_cuts: list[Cut], moments: dict[str, CutMoments]
) -> None:
    """One vector an image for the class token; of the grid's as many as are 4 for each of its 12 numbers."""
    crossed: dict[str, list[torch.Tensor]] = {cut.name: [] for cut in token_cuts}
    run = FeaturePass(graph, token_cuts)
    for batch in batches():
        run(batch.images, lambda cut, tensor: crossed[cut.name].append(tensor.clone()))
    for cut in token_cuts:
        tokens = torch.cat(crossed[cut.name])
        front, grid = moments[cut.name].statistics()
        assert (1, 40, 2 * 40) == (moments[cut.name].vectors.prefix, front.samples, grid.samples)
        torch.testing.assert_close(front.mean.float(), tokens[:, 0].mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(grid.mean.float(), tokens[:, 1:].mean((0, 1)), rtol=0, atol=0.3)


def test_a_place_without_gradient_gets_rank_nothing(token_cuts: list[Cut], moments: dict[str, CutMoments]) -> None:
    """Behind the last block only the class token counts: all of a budget is its own; before, both have a share."""
    first, last = (moments[cut.name].solve().solutions for cut in (token_cuts[0], token_cuts[-1]))

    assert not last[1].eigenvalues.any()
    assert [True, 0] == [
        useful_ranks(last, Budget(payload_bytes=40))[0] > 0,
        useful_ranks(last, Budget(payload_bytes=40))[1],
    ]
    assert all(rank > 0 for rank in useful_ranks(first, Budget(payload_bytes=200)))


def test_the_answer_needs_nothing_but_the_class_token(
    graph: ModelGraph, token_cuts: list[Cut], moments: dict[str, CutMoments]
) -> None:
    """With rank 0 for the grid the tail still answers as the whole does."""
    cut = token_cuts[-1]
    front, grid = moments[cut.name].solve().solutions
    bottleneck = LinearBottleneck([front.keep(WIDTH), grid.keep(0)], prefix=1)
    images = batches()[0].images
    with torch.no_grad():
        sides = split(graph, cut.name)
        answer = sides.tail(bottleneck(sides.head(images)))
        torch.testing.assert_close(answer, graph.module(images), rtol=1e-2, atol=1e-3)
    assert (1, 16) == bottleneck.latent_shape  # twelve numbers, in one row of sixteen


def test_latents_are_those_of_the_maps(
    graph: ModelGraph, token_cuts: list[Cut], moments: dict[str, CutMoments]
) -> None:
    """Latents of as many images as there is room for, each map's of its own tokens."""
    cut = token_cuts[0]
    maps = [solution.keep(rank) for solution, rank in zip(moments[cut.name].solve().solutions, (5, 2), strict=True)]
    room = (5 + 2 * 16) * 10
    (latents,) = collect_latents([(moments[cut.name].vectors, maps)], shown(graph, batches()), max_values=room)

    assert [(10, 5, 1), (10, 2, 16)] == [tuple(part.shape) for part in latents]
    with torch.no_grad():
        images = torch.cat([batch.images for batch in batches()])[:10]
        expected = LinearBottleneck(maps, prefix=1).encode(split(graph, cut.name).head(images))
    torch.testing.assert_close(lay_out(latents), expected, rtol=1e-3, atol=1e-4)


def test_latents_behind_a_reducer() -> None:
    """Reducing the channels first gives the latents of the one map that stands for both encoders."""
    graph = ModelGraph(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(200, 4)), (3, 5, 5))
    cut = graph.record().cuts[0]
    pilot = CutVectors.of(cut, image_size=(5, 5))
    images = torch.randn(12, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    coming = [Batch(images=images, labels=torch.arange(12) % 4, indices=np.arange(12))]
    of_positions, channels = CutMoments(pilot, images=12), 3
    collect(graph, [of_positions], coming, objective=own_logit)
    (solution,) = of_positions.solve().solutions
    reducer = Reducer(
        PatchLayout.of(cut, 2),
        solution.mean,
        solution.scale,
        solution.encoder[:, :channels],
        solution.decoder[:channels],
    )
    of_patches = CutMoments(CutVectors.of(cut, image_size=(5, 5), patch=2, reducer=reducer), images=12)
    collect(graph, [of_patches], coming, objective=own_logit)
    (reduced,) = of_patches.solve().solutions

    ((latents,),) = collect_latents(
        [(of_patches.vectors, [reduced.reduced().keep(5)])], shown(graph, coming), max_values=10**6
    )

    with torch.no_grad():
        expected = reduced.keep(5).encode(split(graph, cut.name).head(images))
    assert (12, 5, 9) == tuple(latents.shape)
    torch.testing.assert_close(latents, expected, rtol=1e-3, atol=1e-4)


def test_budget_of_tokens_keeps_to_real_bytes(
    graph: ModelGraph, token_cuts: list[Cut], moments: dict[str, CutMoments]
) -> None:
    """Class token and grid in one payload, within the budget."""
    cut = token_cuts[0]
    solutions = moments[cut.name].solve().solutions
    maps = [solution.keep(WIDTH) for solution in solutions]
    (latents,) = collect_latents([(moments[cut.name].vectors, maps)], shown(graph, batches()), max_values=10**6)
    allocation = allocate_bytes(latents, 60)
    kept = [solution.keep(places) for solution, places in zip(solutions, allocation.kept, strict=True)]
    bottleneck = LinearBottleneck(kept, prefix=1)
    quantiser = LatentQuantiser(Quantiser.common(allocation.step, levels=allocation.levels))
    with torch.no_grad():
        chosen = [part[:, places] for part, places in zip(latents, allocation.kept, strict=True)]
        symbols = quantiser.symbols(lay_out(chosen))
    assert bottleneck.latent_shape == tuple(symbols.shape[1:])
    codec = CodecOwner("f" * 64, cut.name).make_codec(quantiser, symbols)

    assert 50 < codec.payload_bytes(symbols.numpy()).mean() <= 62


def test_importance_is_that_of_the_gradient(graph: ModelGraph, token_cuts: list[Cut]) -> None:
    """E[g gᵀ] of the class token, by autograd on the tail of one image after the other."""
    cut = token_cuts[-1]
    moments = moments_of(cut)
    collect(graph, [moments], batches(), objective=own_logit)
    statistics = moments.statistics()[0]
    sides = split(graph, cut.name)
    slopes = []
    for batch in batches():
        for image, label in zip(batch.images, batch.labels, strict=True):
            with torch.no_grad():
                crossing = sides.head(image[None]).clone()
            crossing.requires_grad_()
            sides.tail(crossing)[0, label].backward()
            assert crossing.grad is not None
            slopes.append(crossing.grad[0, 0] * statistics.scale)
    expected = torch.stack(slopes).double().T @ torch.stack(slopes).double() / 40

    torch.testing.assert_close(statistics.importance, expected, rtol=1e-3, atol=1e-6)


def test_several_moments_of_one_cut(graph: ModelGraph, token_cuts: list[Cut]) -> None:
    """Moments of one cut are all added to, and latents come back in the order of the maps, each of its own images."""
    cut, other = token_cuts[0], token_cuts[-1]
    twice = [moments_of(cut) for _ in range(2)]
    collect(graph, twice, batches(), objective=own_logit)
    solutions = [sums.solve().solutions for sums in twice]
    torch.testing.assert_close(solutions[0][0].eigenvalues, solutions[1][0].eigenvalues)

    elsewhere = moments_of(other)
    collect(graph, [elsewhere], batches(), objective=own_logit)
    jobs = [
        (twice[0].vectors, [solution.keep(2) for solution in solutions[0]]),
        (elsewhere.vectors, [solution.keep(1) for solution in elsewhere.solve().solutions]),
        (twice[1].vectors, [solution.keep(1) for solution in solutions[1]]),
    ]
    first, second, third = collect_latents(jobs, shown(graph, batches()), max_values=170)

    assert [(5, 2, 1), (5, 2, 16)] == [tuple(part.shape) for part in first]
    assert [(10, 1, 1), (10, 1, 16)] == [tuple(part.shape) for part in second]
    torch.testing.assert_close(first[1][:, :1], third[1][:5])


def test_a_budget_chooses_its_patches() -> None:
    """Where few bytes lose much, channels may be given up for the largest patches or kept; many bytes keep them all."""
    energy = torch.cat([torch.full((32,), 1.0), torch.full((32,), 0.05)]).sqrt()
    positions = CutMoments(CutVectors.of(make_cut((64, 16, 16)), image_size=(16, 16)), images=4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        noise = torch.randn(8, 64, 16, 16, generator=generator)
        # One importance and one mean for all channels; the differences are in their energy.
        positions.add(noise, torch.randn(8, 64, 16, 16, generator=generator) * energy[:, None, None])
    few, more, many = (Budget(payload_bytes=count) for count in (100, 120, 20_000))

    possible = possible_vectors(
        positions.solve(),
        [few, more, many, Budget(element_ratio=64)],
        image_size=(16, 16),
        images=640,
        tuning=ClosedFormTuning(),
    )

    sides = [[vectors.layouts[0].patch for vectors in of_budget] for of_budget in possible.values()]
    assert [[8, 4], [8, 4], [4], [8]] == sides
    assert [[32, 64], [64]] == [[vectors.layouts[0].channels for vectors in possible[budget]] for budget in (few, many)]
    assert all(vectors is other for vectors, other in zip(possible[few], possible[more], strict=True))
    assert possible[few][1] is possible[many][0]


def test_progress_counts_images(graph: ModelGraph, token_cuts: list[Cut]) -> None:
    """After each batch of eight the images that were seen so far are told."""
    told: list[int] = []

    collect(graph, [moments_of(token_cuts[0])], batches(20), objective=own_logit, progress=told.append)

    assert [8, 16, 20] == told
