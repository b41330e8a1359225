"""Second moments of what crosses a cut and of the decision's gradient there, streamed: no feature map is kept."""

from dataclasses import dataclass

import torch

from isplit.design.bottleneck.patches import PatchLayout

# Products of one batch are taken in float32, as the network's own are; sums over batches in float64.
_SUM = torch.float64


@dataclass(frozen=True)
class Statistics:
    """Moments of vectors of length d, per channel standardised.

    `mean` and `scale` (d) take a vector a to (a - mean) / scale; `scale` is the channel's standard deviation.
    `covariance` (d×d) is that of standardised vectors, `importance` (d×d) the second moment E[g gᵀ] of the gradient
    with respect to them. `samples` counts the vectors seen.
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
        max_samples: Vectors taken per batch at most, chosen at random: early layers have thousands of positions an
            image, and more of them tell nothing new.

    """

    def __init__(self, layout: PatchLayout, *, max_samples: int = 4096, seed: int = 0) -> None:
        self.layout = layout
        self.samples = 0
        self._max_samples = max_samples
        self._generator = torch.Generator().manual_seed(seed)
        width = layout.width
        self._whole = layout.whole()
        self._sum = torch.zeros(width, dtype=_SUM)
        self._products = torch.zeros(width, width, dtype=_SUM)
        self._gradients = torch.zeros(width, width, dtype=_SUM)

    def add(self, activation: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a batch: activation and gradient of the shape that crosses."""
        vectors, slopes = (self._vectors(tensor) for tensor in (activation, gradient))
        if len(vectors) > self._max_samples:
            chosen = torch.randperm(len(vectors), generator=self._generator)[: self._max_samples]
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
        mean = self._sum / self.samples
        covariance = self._products / self.samples - torch.outer(mean, mean)
        per_channel = covariance.diagonal().reshape(self.layout.channels, -1).mean(1).clamp_min(0).sqrt()
        # A channel that never varies carries nothing; any scale will do for it.
        per_channel[per_channel == 0] = 1
        scale = per_channel.repeat_interleave(self.layout.width // self.layout.channels)
        return Statistics(
            mean=mean,
            scale=scale,
            covariance=covariance / torch.outer(scale, scale),
            importance=self._gradients / self.samples * torch.outer(scale, scale),
            samples=self.samples,
        )
