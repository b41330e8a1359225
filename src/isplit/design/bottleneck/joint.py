"""The closed form's second step: what the latents of all positions of an image share.

The first step (linear.py) whitens by importance, so an error of any latent at any position moves the decision alike.
What is left to gain is that neighbouring patches are like each other, and that a place has a mean of its own. Plain
PCA of all latents of an image takes both out. There is one vector an image, so images are few beside its length: the
covariance is shrunk towards that of latents which have nothing to do with each other, by as much as Ledoit and Wolf
(2004) find best (their identity is that of latents scaled to unit variance).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.covariance import ledoit_wolf

from isplit.design.bottleneck.linear import JointMap

# Longer vectors take longer to solve for, and there are no images to tell more of them apart.
MAX_JOINT_WIDTH = 1024


@dataclass(frozen=True, eq=False)
class JointSolution:
    """All joint latents, of which a budget keeps some.

    Of `shape` (K, P). Column i of `vectors` (K·P, K·P) makes joint latent i of the K·P latents less their `mean`, and
    is what it stands for; those that vary most come first.
    """

    shape: tuple[int, int]
    mean: torch.Tensor
    vectors: torch.Tensor

    def encode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents N×K×P to all joint ones, N×K·P×1."""
        return ((latents.flatten(1) - self.mean) @ self.vectors).unsqueeze(2)

    def fill(self, joint: JointMap, kept: torch.Tensor) -> None:
        """Give a map the joint latents at some places."""
        with torch.no_grad():
            joint.mean.copy_(self.mean)
            joint.encoder.copy_(self.vectors[:, kept].T)
            joint.decoder.copy_(joint.encoder)


def solve_joint(latents: torch.Tensor) -> JointSolution:
    """Solve for all joint latents, from the latents N×K×P of some images."""
    images, count, positions = latents.shape
    mean = latents.mean(0)
    centred = (latents - mean).double()
    # One scale for a latent at all positions: that of each place alone would be known less well.
    scale = centred.square().mean((0, 2)).sqrt().clamp_min(1e-30).repeat_interleave(positions)
    covariance, _ = ledoit_wolf((centred.reshape(images, -1) / scale).numpy(), assume_centered=True)
    product = torch.from_numpy(covariance) * torch.outer(scale, scale)
    _, vectors = torch.linalg.eigh(product.float())
    return JointSolution((count, positions), mean.flatten(), vectors.flip(1))


def joint_ranks(ranks: Sequence[int], positions: Sequence[int]) -> list[int]:
    """Return how many latents of each map, out of `ranks`, a joint map can be over.

    Every map gives up the same share of its latents where there are more than `MAX_JOINT_WIDTH` numbers an image.
    """
    width = sum(rank * count for rank, count in zip(ranks, positions, strict=True))
    share = min(1.0, MAX_JOINT_WIDTH / max(1, width))
    return [int(rank * share) for rank in ranks]
