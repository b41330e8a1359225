"""Second moments of what crosses a cut and of the decision's gradient there, streamed: no feature map is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.devices import sum_device

# Products of some vectors are taken in float32, as the network's own are; their sums in float64.
_SUM = torch.float64
# So many vectors are multiplied at once: to add the product of a few takes longer than to make it.
_AT_ONCE = 1024
_LONG = 512
"""Products of vectors with more entries are summed in float32 by a processor, as they are solved for in float32."""
_STATE = ("sum", "products", "gradients", "origin")


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
        long_on_processor = width > _LONG and sums.type == "cpu"
        products = torch.float32 if long_on_processor else _SUM
        self._products = torch.zeros(width, width, dtype=products, device=sums)
        self._gradients = torch.zeros(width, width, dtype=products, device=sums)
        self._origin = torch.zeros(self.layout.channels, device=device)
        self._whole = self._whole.to(device)

    def _move(self, device: torch.device) -> None:
        """Bring restored sums to where further batches are."""
        sums = sum_device(device)
        self._sum, self._products, self._gradients = (
            tensor.to(sums) for tensor in (self._sum, self._products, self._gradients)
        )
        self._origin, self._whole = self._origin.to(device), self._whole.to(device)
        self._waiting = [(vectors.to(device), slopes.to(device)) for vectors, slopes in self._waiting]

    def add(self, activation: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a batch: activation and gradient of the shape that crosses, all batches on one device."""
        if not self.samples:
            self._place(activation.device)
        elif self._origin.device != activation.device:
            self._move(activation.device)
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

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that was added as arrays by name, for `restore`; later sums are then the same bit for bit."""
        waiting = {
            name: torch.cat([torch.zeros(0, self.layout.width), *(pair[place].cpu() for pair in self._waiting)]).numpy()
            for place, name in enumerate(("vectors", "slopes"))
        }
        return {
            **{name: getattr(self, f"_{name}").cpu().numpy() for name in _STATE},
            **waiting,
            "samples": np.array(self.samples),
            "generator": self._generator.get_state().numpy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` returned; it is moved to a device with the first batch that is added."""
        for name in _STATE:
            setattr(self, f"_{name}", torch.from_numpy(state[name]))
        waiting = torch.from_numpy(state["vectors"]), torch.from_numpy(state["slopes"])
        self._waiting = [waiting] if len(waiting[0]) else []
        self.samples = int(state["samples"])
        self._generator.set_state(torch.from_numpy(state["generator"]))

    def _multiply(self) -> None:
        if self._waiting:
            vectors, slopes = map(torch.cat, zip(*self._waiting, strict=True))
            self._waiting.clear()
            self._products += self._summed(_own_product(vectors))
            self._gradients += self._summed(_own_product(slopes))

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
        # E[(a - m)(a - m)ᵀ] about the channels' means, which need not be those of every place in a patch. In place, as
        # these matrices take longer to write than to compute.
        about = self._sum / self.samples
        covariance = self._mean(self._products).addr_(about, mean, alpha=-1).addr_(mean, about - mean, alpha=-1)
        deviation = covariance.diagonal().reshape(self.layout.channels, -1).mean(1).clamp_min(0).sqrt()
        # A channel that never varies carries nothing; any scale will do for it.
        deviation[deviation == 0] = 1
        scale = self._repeated(deviation)
        return Statistics(
            mean=origin + per_channel,
            scale=deviation,
            covariance=covariance.div_(scale[:, None]).div_(scale),
            importance=self._mean(self._gradients).mul_(scale[:, None]).mul_(scale),
            samples=self.samples,
        )

    def _mean(self, products: torch.Tensor) -> torch.Tensor:
        """Return the mean of products in float64, in memory of its own."""
        return products.to(_SUM, copy=True).div_(self.samples)

    def _repeated(self, per_channel: torch.Tensor) -> torch.Tensor:
        return per_channel.repeat_interleave(self.layout.width // self.layout.channels)


def _own_product(vectors: torch.Tensor) -> torch.Tensor:
    """Return XᵀX; of long vectors on a processor, what is symmetric is multiplied once."""
    if vectors.shape[1] <= _LONG or vectors.device.type != "cpu":
        return vectors.T @ vectors
    # numpy sees that the two are the same, and calls BLAS's syrk, which torch does not offer.
    rows = vectors.numpy()
    return torch.from_numpy(rows.T @ rows)
