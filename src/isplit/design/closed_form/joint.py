"""The closed form's second step: what the latents of all positions of an image share.

The first step (solve.py) whitens by importance, so an error of any latent at any position moves the decision alike.
What is left to gain is that neighbouring patches are like each other, and that a place has a mean of its own. Plain
PCA of all latents of an image takes both out. There is one vector an image, so images are few beside its length: the
covariance is shrunk towards that of latents which have nothing to do with each other, by as much as Ledoit and Wolf
(2004) find best (their identity is that of latents scaled to unit variance).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

from isplit.design.bottleneck.linear import laid_out_shape, lay_out
from isplit.design.closed_form.shrinkage import ledoit_wolf
from isplit.design.devices import CPU, sum_device


@dataclass(frozen=True, eq=False)
class JointSolution:
    """The full set of joint latents; a budget keeps some of them.

    Column i of `vectors` (W×M, orthonormal) makes joint latent i of the W latents of all positions less their `mean`
    (W), and is what it stands for; those that vary most come first. M is W less the places where nothing varies.
    """

    mean: torch.Tensor
    vectors: torch.Tensor

    def encode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents N×K×P to all joint ones, N×M×1."""
        return ((latents.flatten(1) - self.mean) @ self.vectors).unsqueeze(2)


def solve_joint(latents: Sequence[torch.Tensor], *, device: torch.device = CPU) -> JointSolution:
    """Solve for all joint latents, from the latents N×K×P of each map for some images.

    It is computed on the device, or on the CPU where that has no float64; the solution is on the CPU.
    """
    latents = [part.to(sum_device(device)) for part in latents]
    joined = lay_out(latents).flatten(1)
    mean = joined.mean(0)
    # One scale for a latent at all positions: that of each place alone would be known less well.
    scales = [
        (part - part.mean(0)).square().mean((0, 2)).sqrt()[None, :, None].expand(1, *part.shape[1:]) for part in latents
    ]
    scale = lay_out(scales).flatten().double()
    varies = scale > 1e-9 * scale.max()
    vectors = mean.new_zeros(len(mean), int(varies.sum()))
    if not varies.any():
        return JointSolution(mean.cpu(), vectors.cpu())
    scale = scale[varies]
    centred = (joined - mean)[:, varies].double() / scale
    covariance, _ = ledoit_wolf(centred)
    product = covariance * torch.outer(scale, scale)
    _, eigenvectors = torch.linalg.eigh(product.float())
    vectors[varies] = eigenvectors.flip(1)
    return JointSolution(mean.cpu(), vectors.cpu())


def joint_ranks(ranks: Sequence[int], positions: Sequence[int], *, max_width: int) -> list[int]:
    """Return how many latents of each map, out of `ranks`, a joint map can be over; all 0 at a single position.

    Every map gives up the same share where all of them, laid out, would be more than `max_width` numbers.
    """
    if sum(count for rank, count in zip(ranks, positions, strict=True) if rank) <= 1:
        return [0] * len(ranks)
    most = max(ranks)
    for parts in range(most, 0, -1):
        shares = [rank * parts // most for rank in ranks]
        if prod(laid_out_shape(shares, positions)) <= max_width:
            return shares
    return [0] * len(ranks)
