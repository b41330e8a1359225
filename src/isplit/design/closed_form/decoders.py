"""Estimate decoders again from images that their closed forms were not solved from.

Where the vectors of a cut are longer than their samples are many, the moments describe their own images too well: the
decoder S⁻¹ᐟ² Q_k amplifies rounding errors in directions that were never seen. Ridge regression of what crosses on the
dequantised latents of other images has no such directions, and takes the rounding into account. Encoder, quantiser and
tables stay as they are, so it costs no bytes and nothing on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap
from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.splits import BuiltSplit
from isplit.records import Cut

FEWEST_SAMPLES = 1.0
"""Decoders whose moments have at least so many samples per dimension are not estimated again."""
_FOLDS = 5
_RIDGES = (0.001, 0.01, 0.1, 1.0)
"""Ridges that are tried, as shares of the mean square of the latents."""
_WORTH = 0.7
"""The new decoder has to lower the cross-validated squared error to this share, since the closed form's weights errors
by importance. At MobileNetV2's features.5 on tiny-imagenet-20, a share of 0.20 went with 22.5 points more, and 0.77
with 0.5 ± 0.8 points less."""


_SCREEN = 0.9
"""Where neither of two ridges lowers the error of one fold to this share, the others are not tried: all of them on all
folds take ten times as long."""
_SCREEN_RIDGES = (0.01, 1.0)


@dataclass(eq=False)
class _Sums:
    """Sums over the vectors of one fold: of latents by latents (K×K), of latents by vectors (K×d), and of squares."""

    latents: torch.Tensor
    crossed: torch.Tensor
    squares: float = 0.0

    def error(self, decoder: torch.Tensor) -> float:
        """Return the squared error that a decoder (K×d) leaves on these vectors."""
        return self.squares - float((decoder * (2 * self.crossed - self.latents @ decoder)).sum())


def estimate_decoders(passes: StatisticsPasses, splits: Sequence[BuiltSplit]) -> None:
    """Give splits the decoder of the regression where that is far more exact; their bottlenecks are changed in place.

    Args:
        passes: Over the study's images. Nothing is done where all images are among those of the moments.
        splits: Closed-form splits. Those that have more than one linear map stay as they are.

    """
    if passes.images.are_shared:
        return
    regressions = [
        _Regression.of(built, built.bottleneck)
        for built in splits
        if isinstance(built.bottleneck, LinearBottleneck) and not (built.bottleneck.prefix or built.bottleneck.joint)
    ]
    by_cut: dict[str, list[_Regression]] = {}
    for regression in regressions:
        by_cut.setdefault(regression.built.cut.name, []).append(regression)

    def visit(cut: Cut, tensor: torch.Tensor) -> None:
        for regression in by_cut[cut.name]:
            regression.add(tensor)

    if regressions:
        passes.features([of_cut[0].built.cut for of_cut in by_cut.values()], passes.images.decoders, visit)
    for regression in regressions:
        decoder = regression.best_decoder()
        if decoder is not None:
            regression.linear_map.decoder.data.copy_(decoder)


@dataclass(eq=False)
class _Regression:
    """The regression of what crosses on the dequantised latents of one split.

    Attributes:
        built: The split.
        linear_map: Its only map.
        folds: Sums over the images of each fold.
        images: The images seen so far; an image's number decides its fold.

    """

    built: BuiltSplit
    linear_map: LinearMap
    folds: list[_Sums]
    images: int = 0

    @classmethod
    def of(cls, built: BuiltSplit, bottleneck: LinearBottleneck) -> Self:
        """Begin with empty sums."""
        (linear_map,) = bottleneck.linear_maps
        rank, width = linear_map.decoder.shape
        zeros = [(torch.zeros(rank, rank).double(), torch.zeros(rank, width).double()) for _ in range(_FOLDS)]
        return cls(built, linear_map, [_Sums(latents, crossed) for latents, crossed in zeros])

    @torch.no_grad()
    def add(self, tensor: torch.Tensor) -> None:
        """Add a batch of what crosses, N×…."""
        built, linear_map, layout = self.built, self.linear_map, self.linear_map.layout
        crossing, whole = tensor.float().cpu(), layout.whole()
        repeats = layout.width // layout.channels
        mean, scale = (values.repeat_interleave(repeats) for values in (linear_map.mean, linear_map.scale))
        vectors = ((layout.split(crossing) - mean) / scale)[:, whole]
        received = built.quantiser.values(built.symbols(crossing)).transpose(1, 2)[:, whole]
        fold_of = (torch.arange(len(crossing)) + self.images) % _FOLDS
        for number, sums in enumerate(self.folds):
            latents, targets = (part[fold_of == number].flatten(0, 1).double() for part in (received, vectors))
            sums.latents += latents.T @ latents
            sums.crossed += latents.T @ targets
            sums.squares += float(targets.square().sum())
        self.images += len(crossing)

    def best_decoder(self) -> torch.Tensor | None:
        """Return the decoder (K×d) of the best ridge; None where it is not worth it."""
        before = self.linear_map.decoder.detach().double()
        first = self.folds[0]
        if not min(self._error(first, ridge) for ridge in _SCREEN_RIDGES) <= _SCREEN * first.error(before):
            return None
        errors = {ridge: sum(self._error(fold, ridge) for fold in self.folds) for ridge in _RIDGES}
        best = min(_RIDGES, key=lambda ridge: errors[ridge])
        if not errors[best] <= _WORTH * sum(fold.error(before) for fold in self.folds):
            return None
        return _regressed(self.folds, best).float()

    def _error(self, fold: _Sums, ridge: float) -> float:
        """Return the squared error on one fold of the regression on the others."""
        return fold.error(_regressed([other for other in self.folds if other is not fold], ridge))


def _regressed(folds: Sequence[_Sums], ridge: float) -> torch.Tensor:
    """Return the decoder (K×d) that ridge regression finds from these folds."""
    latents = torch.stack([fold.latents for fold in folds]).sum(0)
    floor = ridge * latents.diagonal().mean().clamp_min(1e-30)
    crossed = torch.stack([fold.crossed for fold in folds]).sum(0)
    return torch.linalg.solve(latents + floor * torch.eye(len(latents), dtype=torch.float64), crossed)
