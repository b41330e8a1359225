"""Second moments of what crosses a cut and of the decision's gradient there, streamed: no feature map is kept."""

from dataclasses import dataclass

import torch

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.devices import sum_device

# Products of some vectors are taken in float32, as the network's own are; their sums in float64.
_SUM = torch.float64
# So many vectors are multiplied at once: to add the product of a few takes longer than to make it.
_AT_ONCE = 1024


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
        self._whole = layout.whole()
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._place(torch.device("cpu"))

    def _place(self, device: torch.device) -> None:
        """Begin sums of what comes on a device."""
        width, sums = self.layout.width, sum_device(device)
        self._sum = torch.zeros(width, dtype=_SUM, device=sums)
        self._products = torch.zeros(width, width, dtype=_SUM, device=sums)
        self._gradients = torch.zeros(width, width, dtype=_SUM, device=sums)
        self._origin = torch.zeros(self.layout.channels, device=device)
        self._whole = self._whole.to(device)

    def add(self, activation: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a batch: activation and gradient of the shape that crosses, all batches on one device."""
        if not self.samples:
            self._place(activation.device)
        vectors, slopes = (self._vectors(tensor) for tensor in (activation, gradient))
        most = self._per_image * len(activation)
        if len(vectors) > most:
            chosen = torch.randperm(len(vectors), generator=self._generator)[:most].to(vectors.device)
            vectors, slopes = vectors[chosen], slopes[chosen]
        if not self.samples:
            self._origin = vectors.mean(0).reshape(self.layout.channels, -1).mean(1)
        # About a point near the mean: far from it float32 would lose a small deviation in a large square.
        vectors = vectors - self._repeated(self._origin)
        has_float64 = self._sum.device == vectors.device
        self._sum += vectors.sum(0, dtype=_SUM) if has_float64 else self._summed(vectors.sum(0))
        self.samples += len(vectors)
        # A copy: these may be a view of what the backward pass is not done with.
        self._waiting.append((vectors, slopes.clone()))
        if sum(len(vectors) for vectors, _ in self._waiting) >= _AT_ONCE:
            self._multiply()

    def _multiply(self) -> None:
        if self._waiting:
            vectors, slopes = map(torch.cat, zip(*self._waiting, strict=True))
            self._waiting.clear()
            self._products += self._summed(vectors.T @ vectors)
            self._gradients += self._summed(slopes.T @ slopes)

    def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._sum.device)

    def _vectors(self, tensor: torch.Tensor) -> torch.Tensor:
        split = self.layout.split(tensor.detach().float())
        if not self._whole.all():
            split = split[:, self._whole]
        return split.flatten(0, 1)

    def statistics(self) -> Statistics:
        """Return the moments of all that was added, on the device of the sums."""
        self._multiply()
        origin = self._summed(self._origin)
        per_channel = self._sum.reshape(self.layout.channels, -1).mean(1) / self.samples
        mean = self._repeated(per_channel)
        # E[(a - m)(a - m)ᵀ] about the channels' means, which need not be those of every place in a patch.
        crossed = torch.outer(self._sum / self.samples, mean)
        covariance = self._products / self.samples - crossed - crossed.T + torch.outer(mean, mean)
        deviation = covariance.diagonal().reshape(self.layout.channels, -1).mean(1).clamp_min(0).sqrt()
        # A channel that never varies carries nothing; any scale will do for it.
        deviation[deviation == 0] = 1
        scale = self._repeated(deviation)
        return Statistics(
            mean=origin + per_channel,
            scale=deviation,
            covariance=covariance / torch.outer(scale, scale),
            importance=self._gradients / self.samples * torch.outer(scale, scale),
            samples=self.samples,
        )

    def _repeated(self, per_channel: torch.Tensor) -> torch.Tensor:
        return per_channel.repeat_interleave(self.layout.width // self.layout.channels)
