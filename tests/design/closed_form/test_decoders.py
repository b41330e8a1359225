"""Decoders that are estimated again from other images than those of the moments."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form import decoders
from isplit.design.closed_form.decoders import RIDGES, RegressionSums, cross_validated_errors, estimate_decoders
from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.splits import BuiltSplit
from tests.design.conftest import make_cut

SHAPE = (2, 4, 6)


class Passes:
    """Passes over 400 random images of rank 3, in batches of 16, beside what their features are."""

    def __init__(self, *, are_shared: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        mixing = torch.randn(3, 48, generator=generator)
        self.tensor = 5 + (torch.randn(400, 3, generator=generator) @ mixing).reshape(400, *SHAPE)
        self.images = SimpleNamespace(are_shared=are_shared, decoders=np.arange(400))
        self.shown = 0

    def show(self, cuts, images, visit, *, progress) -> None:
        """Show the batches."""
        for batch in self.tensor[torch.from_numpy(images)].split(16):
            self.shown += len(batch)
            visit(cuts[0], batch)


def split_with(decoder_noise: float) -> BuiltSplit:
    """A split whose encoder takes three of the values of a patch, and whose decoder is noise of some size."""
    layout = PatchLayout(SHAPE, 1, 4)  # the right half of the second patch is padding
    linear_map = LinearMap(layout, rank=3)
    linear_map.mean.fill_(5.0)
    linear_map.scale.fill_(2.0)
    generator = torch.Generator().manual_seed(1)
    linear_map.encoder.data[:, :3] = torch.eye(3)
    linear_map.decoder.data = decoder_noise * torch.randn(3, layout.width, generator=generator)
    bottleneck = LinearBottleneck([linear_map]).requires_grad_(False)
    quantiser = LatentQuantiser(Quantiser.common(0.05, levels=256))
    codec = CodecOwner("model", "cut").make_codec(quantiser, torch.zeros(1, 3, 2, dtype=torch.uint8))
    return BuiltSplit(make_cut(SHAPE), bottleneck, codec)


def error(built: BuiltSplit, tensor: torch.Tensor) -> float:
    """Return the mean squared error of the first patch, which has no padding."""
    with torch.no_grad():
        return float((built.decode(built.symbols(tensor)) - tensor)[..., :4].square().mean())


def test_a_decoder_that_amplifies_noise_is_replaced() -> None:
    """Three values tell all of a patch of rank 3: the regression finds the decoder, and the encoder stays."""
    passes, built = Passes(), split_with(3.0)
    encoder = cast("LinearBottleneck", built.bottleneck).linear_maps[0].encoder.clone()
    before = error(built, passes.tensor)

    estimate_decoders(cast("StatisticsPasses", passes), [built])

    assert error(built, passes.tensor) < 0.02 < before
    assert 400 == passes.shown
    torch.testing.assert_close(encoder, cast("LinearBottleneck", built.bottleneck).linear_maps[0].encoder)


def test_a_decoder_that_is_nearly_as_good_stays() -> None:
    """A gain that the regression could make is too small to be sure of: nothing changes."""
    passes, built = Passes(), split_with(3.0)
    estimate_decoders(cast("StatisticsPasses", passes), [built])
    (linear_map,) = cast("LinearBottleneck", built.bottleneck).linear_maps
    linear_map.decoder.data *= 1.001
    expected = linear_map.decoder.clone()
    passes.shown = 0

    estimate_decoders(cast("StatisticsPasses", passes), [built])

    assert torch.equal(expected, linear_map.decoder)
    # About as good after a sixth of the images: too good to give the regression up there, not after a third.
    assert 133 == passes.shown


def test_what_regression_cannot_better_is_given_up_after_a_sixth_of_the_images() -> None:
    """Half of the entries are sent and the others are noise: a regression of few vectors would learn the noise."""
    passes = Passes()
    passes.tensor = torch.randn(400, *SHAPE, generator=torch.Generator().manual_seed(4))
    linear_map = LinearMap(PatchLayout(SHAPE, 1, 4), rank=16)
    linear_map.encoder.data = torch.eye(16, 32)
    linear_map.decoder.data = torch.eye(16, 32)
    built = replace(split_with(0.0), bottleneck=LinearBottleneck([linear_map]).requires_grad_(False))

    estimate_decoders(cast("StatisticsPasses", passes), [built])

    assert torch.equal(torch.eye(16, 32), linear_map.decoder)
    assert 67 == passes.shown


def test_decoders_are_judged_once_after_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times on the way, to give up what is hopeless, and once at the end, to choose the ridge."""
    judged: list[float] = []

    def counted(folds: Sequence[RegressionSums]) -> dict[float, float]:
        judged.append(sum(float(fold.squares.sum()) for fold in folds))
        return cross_validated_errors(folds)

    monkeypatch.setattr(decoders, "cross_validated_errors", counted)
    estimate_decoders(cast("StatisticsPasses", Passes()), [split_with(3.0)])

    assert 5 == len(judged)
    assert sorted(set(judged)) == judged  # each time on more images


def test_more_latents_than_vectors_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven images have 14 patches, and the split has 16 latents: no ridge is tried, and the decoder stays."""
    passes = Passes()
    passes.images.decoders = np.arange(7)
    linear_map = LinearMap(PatchLayout(SHAPE, 1, 4), rank=16)
    linear_map.decoder.data = 3 * torch.ones(16, 32)
    built = replace(split_with(0.0), bottleneck=LinearBottleneck([linear_map]).requires_grad_(False))
    monkeypatch.delattr(decoders, "cross_validated_errors")

    estimate_decoders(cast("StatisticsPasses", passes), [built])

    assert 7 == passes.shown
    assert torch.equal(3 * torch.ones(16, 32), linear_map.decoder)


def test_without_other_images_nothing_changes() -> None:
    """Images that the moments are from would show the same directions again."""
    built = split_with(3.0)
    (linear_map,) = cast("LinearBottleneck", built.bottleneck).linear_maps
    expected = linear_map.decoder.clone()

    estimate_decoders(cast("StatisticsPasses", Passes(are_shared=True)), [built])

    assert torch.equal(expected, linear_map.decoder)


def test_errors_without_decoders_are_those_of_the_decoders() -> None:
    """Each fold is decoded by the regression on the others: for every ridge, the same error as with that decoder."""
    generator = torch.Generator().manual_seed(2)
    folds = []
    for _ in range(3):
        latents = torch.randn(20, 4, generator=generator).double()
        vectors = latents @ torch.randn(4, 7, generator=generator).double() + torch.randn(20, 7, generator=generator)
        folds.append(RegressionSums(latents.T @ latents, latents.T @ vectors, vectors.square().sum(0)))

    expected = {
        ridge: sum(
            fold.error(RegressionSums.of_all([other for other in folds if other is not fold]).regressed(ridge))
            for fold in folds
        )
        for ridge in RIDGES
    }

    assert pytest.approx(expected) == cross_validated_errors(folds)
