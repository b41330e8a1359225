"""Estimate decoders again from images that their closed forms were not solved from.

Where the vectors of a cut are longer than their samples are many, the moments describe their own images too well: the
decoder S⁻¹ᐟ² Q_k amplifies rounding errors in directions that were never seen. Ridge regression of what crosses on the
dequantised latents of other images has no such directions, and takes the rounding into account. Encoder, quantiser and
tables stay as they are, so it costs no bytes and nothing on the device.
"""

from collections.abc import Mapping, Sequence
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
_AT_ONCE = 256
"""Vectors of a fold that are multiplied at once."""
RIDGES = (0.001, 0.01, 0.1, 1.0)
"""Ridges that are tried, as shares of the mean square of the latents."""
_WORTH = 0.7
"""The new decoder has to lower the cross-validated squared error to this share, since the closed form's weights errors
by importance. At MobileNetV2's features.5 on tiny-imagenet-20, a share of 0.20 went with 22.5 points more, and 0.77
with 0.5 ± 0.8 points less."""

_LOOKS = ((1 / 6, 1.2), (1 / 3, 0.95), (1 / 2, 0.85), (2 / 3, 0.77), (1.0, float("inf")))
"""After these shares of the images, decoders are given up where regression leaves more than such a share of their
squared error. With 224 images for statistics, it left these shares of it at cuts of VGG16 after a sixth, a third, half,
two thirds and all of the images: pool3 1.34, 1.11, 0.97, 0.90, 0.84; conv4_3 1.14, 1.04, 0.97, 0.94, 0.90; conv5_2
1.27, 1.05, 0.98, 0.90, 0.83; conv5_3 0.83, 0.81, 0.80, 0.77 from a third on. What is above a limit would not come down
to `_WORTH`."""
_JUDGED_ENTRIES = 1024


@dataclass(eq=False)
class RegressionSums:
    """Sums over the vectors of one fold.

    Attributes:
        latents: Of latents by latents, K×K float64.
        crossed: Of latents by vectors, K×d; float32 is as exact as the vectors themselves.
        squares: Of the squares of each entry, d float64.

    """

    latents: torch.Tensor
    crossed: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def empty(cls, rank: int, width: int) -> Self:
        """Return the sums over no vectors: K latents, d entries."""
        return cls(torch.zeros(rank, rank).double(), torch.zeros(rank, width), torch.zeros(width).double())

    @classmethod
    def of_all(cls, parts: Sequence[Self]) -> Self:
        """Return the sums over the vectors of several folds."""
        return cls(
            torch.stack([part.latents for part in parts]).sum(0),
            torch.stack([part.crossed for part in parts]).sum(0),
            torch.stack([part.squares for part in parts]).sum(0),
        )

    def of_entries(self, chosen: torch.Tensor) -> Self:
        """Return the sums as if vectors had only some of their entries."""
        return type(self)(self.latents, self.crossed[:, chosen], self.squares[chosen])

    def error(self, decoder: torch.Tensor) -> float:
        """Return the squared error that a decoder (K×d) leaves on these vectors."""
        decoder = decoder.to(self.crossed.dtype)
        return float(self.squares.sum()) - float(
            (decoder * (2 * self.crossed - self.latents.to(decoder.dtype) @ decoder)).sum()
        )

    def regressed(self, ridge: float) -> torch.Tensor:
        """Return the decoder (K×d) that ridge regression finds from these vectors."""
        floor = ridge * _mean_square(self.latents) * torch.eye(len(self.latents), dtype=torch.float64)
        return torch.linalg.solve(self.latents + floor, self.crossed.double())


def estimate_decoders(passes: StatisticsPasses, splits: Sequence[BuiltSplit]) -> None:
    """Give splits the decoder of the regression where that is far more exact; their bottlenecks are changed in place.

    Where the first images show that it is not, the others are not looked at.

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

    images, seen = passes.images.decoders, 0
    for share, hopeless in _LOOKS:
        if not by_cut:
            return
        end = max(seen, round(share * len(images)))
        passes.show(
            [of_cut[0].built.cut for of_cut in by_cut.values()],
            images[seen:end],
            visit,
            progress=lambda done, before=seen: passes.progress("decoders", before + done, len(images)),
        )
        seen = end
        if seen < len(images):  # after all images, the best decoder judges by all entries
            by_cut = _hopeful(by_cut, hopeless)
    for of_cut in by_cut.values():
        for regression in of_cut:
            decoder = regression.best_decoder()
            if decoder is not None:
                regression.linear_map.decoder.data.copy_(decoder)


def _hopeful(by_cut: Mapping[str, Sequence["_Regression"]], hopeless: float) -> dict[str, list["_Regression"]]:
    """Return the regressions of each cut that may still be worth it, for cuts that have any."""
    left = {
        name: [regression for regression in of_cut if regression.error_share() <= hopeless]
        for name, of_cut in by_cut.items()
    }
    return {name: of_cut for name, of_cut in left.items() if of_cut}


@dataclass(eq=False)
class _Regression:
    """The regression of what crosses on the dequantised latents of one split.

    Attributes:
        built: The split.
        linear_map: Its only map.
        folds: Sums over the images of each fold.
        waiting: For each fold, vectors that are not in its sums yet: to add the products of a few vectors at a time
            would take longer than to make them.
        images: The images seen so far; an image's number decides its fold.
        vectors: The vectors that are in the sums.

    """

    built: BuiltSplit
    linear_map: LinearMap
    folds: list[RegressionSums]
    waiting: list[list[torch.Tensor]]
    images: int = 0
    vectors: int = 0

    @classmethod
    def of(cls, built: BuiltSplit, bottleneck: LinearBottleneck) -> Self:
        """Begin with empty sums."""
        (linear_map,) = bottleneck.linear_maps
        rank, width = linear_map.decoder.shape
        folds = [RegressionSums.empty(rank, width) for _ in range(_FOLDS)]
        return cls(built, linear_map, folds, [[] for _ in folds])

    @torch.no_grad()
    def add(self, tensor: torch.Tensor) -> None:
        """Add a batch of what crosses, N×…."""
        layout = self.linear_map.layout
        repeats = layout.width // layout.channels
        mean, scale = (part.repeat_interleave(repeats) for part in (self.linear_map.mean, self.linear_map.scale))
        vectors = ((layout.split(tensor.float().cpu()) - mean) / scale)[:, layout.whole()]
        for number, waiting in enumerate(self.waiting):
            waiting.append(vectors[(number - self.images) % _FOLDS :: _FOLDS].flatten(0, 1))
            if sum(map(len, waiting)) >= _AT_ONCE:
                self._multiply(number)
        self.images += len(tensor)

    def _multiply(self, number: int) -> None:
        """Add the vectors of a fold that are waiting to its sums."""
        vectors, sums, built = torch.cat(self.waiting[number]), self.folds[number], self.built
        self.waiting[number].clear()
        latents = (vectors @ self.linear_map.encoder.detach().T).unsqueeze(2)
        received = built.quantiser.values(built.quantiser.symbols(latents)).squeeze(2)
        sums.latents += received.T @ received
        sums.crossed += received.T @ vectors
        sums.squares += vectors.square().sum(0)
        self.vectors += len(vectors)

    def error_share(self) -> float:
        """Return about what share of the decoder's squared error the best ridge leaves on the vectors seen so far.

        It is judged by some entries of the vectors; 0 where latents are more than vectors, which tells nothing yet.
        """
        self._multiply_rest()
        rank, width = self.linear_map.decoder.shape
        if self.vectors < rank:
            return 0.0
        chosen = torch.randperm(width, generator=torch.Generator().manual_seed(0))[:_JUDGED_ENTRIES]
        folds = [fold.of_entries(chosen) for fold in self.folds]
        error = RegressionSums.of_all(folds).error(self.linear_map.decoder.detach()[:, chosen])
        return min(cross_validated_errors(folds).values()) / max(error, 1e-30)

    def best_decoder(self) -> torch.Tensor | None:
        """Return the decoder (K×d) of the best ridge; None where it is not worth it.

        It is not tried where latents are more than vectors: in three such splits of the demo's network, the best ridge
        left 1.3 to 7.1 times the decoder's squared error, and the eigenvectors took half of the closed forms' time.
        """
        self._multiply_rest()
        if self.vectors < len(self.linear_map.decoder):
            return None
        every = RegressionSums.of_all(self.folds)
        errors = cross_validated_errors(self.folds)
        best = min(errors, key=lambda ridge: errors[ridge])
        if not errors[best] <= _WORTH * every.error(self.linear_map.decoder.detach()):
            return None
        return every.regressed(best).float()

    def _multiply_rest(self) -> None:
        for number, waiting in enumerate(self.waiting):
            if waiting:
                self._multiply(number)


def cross_validated_errors(folds: Sequence[RegressionSums]) -> dict[float, float]:
    """Return for each ridge the squared error on all folds, each decoded by the regression on the others.

    No decoder is formed, since vectors may have tens of thousands of entries. With A = V diag(a) Vᵀ the others' sum of
    latents by latents, C their sum of latents by vectors, and L and F the fold's own, the decoder is
    D = V diag(1 / (a + ridge)) Vᵀ C, and the error |x|² - 2 tr(D Fᵀ) + tr(L D Dᵀ) needs C only in C Cᵀ and C Fᵀ (K×K).
    """
    errors = dict.fromkeys(RIDGES, 0.0)
    every = RegressionSums.of_all(folds)
    with_every = [(every.crossed @ fold.crossed.T).double() for fold in folds]
    total = torch.stack(with_every).sum(0)
    for fold, shared in zip(folds, with_every, strict=True):
        of_fold = (fold.crossed @ fold.crossed.T).double()
        others = every.latents - fold.latents
        values, vectors = torch.linalg.eigh(others)
        gram, crossed, latents = (
            vectors.T @ matrix @ vectors
            for matrix in (total - shared - shared.T + of_fold, shared - of_fold, fold.latents)
        )
        for ridge in RIDGES:
            inverse = 1 / (values + ridge * _mean_square(others))
            explained = 2 * inverse @ crossed.diagonal() - inverse @ (latents * gram) @ inverse
            errors[ridge] += float(fold.squares.sum()) - float(explained)
    return errors


def _mean_square(latents: torch.Tensor) -> torch.Tensor:
    return latents.diagonal().mean().clamp_min(1e-30)
