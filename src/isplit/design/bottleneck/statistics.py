"""Second moments of what crosses a cut and of the decision's gradient there, streamed: no feature map is kept."""

from dataclasses import dataclass

import torch

from isplit.design.bottleneck.patches import PatchLayout

# Products of one batch are taken in float32, as the network's own are; sums over batches in float64.
_SUM = torch.float64


@dataclass(frozen=True)
class Statistics:
    """Moments of vectors of length d, per channel standardised.

    `mean` and `scale` (C) are each channel's mean and standard deviation. `covariance` (d×d) is the second moment of
    vectors standardised by them, `importance` (d×d) the second moment E[g gᵀ] of the gradient with respect to those.
    `samples` counts the vectors seen.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    covariance: torch.Tensor
    importance: torch.Tensor
    samples: int


class MomentSums:
    """Sums over batches from which `Statistics` follow.

    Args:
        layout: How the crossing tensor becomes vectors.
        per_image: Vectors taken of each image at most, chosen at random.

    """

    def __init__(self, layout: PatchLayout, *, per_image: int = 2**31, seed: int = 0) -> None:
        self.layout = layout
        self.samples = 0
        self._per_image = per_image
        self._generator = torch.Generator().manual_seed(seed)
        width = layout.width
        self._whole = layout.whole()
        self._sum = torch.zeros(width, dtype=_SUM)
        self._products = torch.zeros(width, width, dtype=_SUM)
        self._gradients = torch.zeros(width, width, dtype=_SUM)

    def add(self, activation: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a batch: activation and gradient of the shape that crosses."""
        vectors, slopes = (self._vectors(tensor) for tensor in (activation, gradient))
        most = self._per_image * len(activation)
        if len(vectors) > most:
            chosen = torch.randperm(len(vectors), generator=self._generator)[:most]
            vectors, slopes = vectors[chosen], slopes[chosen]
        self._sum += vectors.sum(0, dtype=_SUM)
        self._products += vectors.T @ vectors
        self._gradients += slopes.T @ slopes
        self.samples += len(vectors)

    def _vectors(self, tensor: torch.Tensor) -> torch.Tensor:
        split = self.layout.split(tensor.detach().float())
        if not self._whole.all():
            split = split[:, self._whole]
        return split.flatten(0, 1)

    def statistics(self) -> Statistics:
        """Return the moments of all that was added."""
        per_channel = self._sum.reshape(self.layout.channels, -1).mean(1) / self.samples
        repeats = self.layout.width // self.layout.channels
        mean = per_channel.repeat_interleave(repeats)
        # E[(a - m)(a - m)ᵀ] about the channels' means, which need not be those of every place in a patch.
        crossed = torch.outer(self._sum / self.samples, mean)
        covariance = self._products / self.samples - crossed - crossed.T + torch.outer(mean, mean)
        deviation = covariance.diagonal().reshape(self.layout.channels, -1).mean(1).clamp_min(0).sqrt()
        # A channel that never varies carries nothing; any scale will do for it.
        deviation[deviation == 0] = 1
        scale = deviation.repeat_interleave(repeats)
        return Statistics(
            mean=per_channel,
            scale=deviation,
            covariance=covariance / torch.outer(scale, scale),
            importance=self._gradients / self.samples * torch.outer(scale, scale),
            samples=self.samples,
        )
