"""What the latents of all positions share."""

import pytest
import torch

from isplit.design.bottleneck.joint import MAX_JOINT_WIDTH, joint_ranks, solve_joint
from isplit.design.bottleneck.linear import JointMap


def made(latents: torch.Tensor, kept: list[int]) -> JointMap:
    """Return the map of some joint latents."""
    solution = solve_joint(latents)
    joint = JointMap(solution.shape, rank=len(kept))
    solution.fill(joint, torch.tensor(kept))
    return joint


@torch.no_grad()
def test_what_positions_share_is_sent_once() -> None:
    """A latent that is the same at three positions, about means of their own, comes back from one number an image."""
    value = torch.randn(4000, 1, 1, generator=torch.Generator().manual_seed(0))
    latents = value * torch.tensor([1.0, 2.0, -2.0]) + torch.tensor([5.0, 0.0, -7.0])
    joint = made(latents, [0])
    sent = joint.encode(latents)

    assert (4000, 1, 1) == sent.shape
    torch.testing.assert_close(sent.flatten().abs(), 3 * (value - value.mean()).flatten().abs(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(joint.decode(sent), latents, rtol=1e-3, atol=1e-2)


@torch.no_grad()
def test_all_of_them_lose_nothing() -> None:
    """The vectors are orthonormal, from few images too: all joint latents give the latents back."""
    latents = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([[5.0], [1.0], [0.01]])
    joint = made(latents, list(range(12)))

    torch.testing.assert_close(joint.encoder @ joint.encoder.T, torch.eye(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(joint.decode(joint.encode(latents)), latents, rtol=1e-4, atol=1e-4)
    assert torch.equal(solve_joint(latents).encode(latents), joint.encode(latents))


@torch.no_grad()
def test_few_images_make_no_likeness() -> None:
    """From eight images of 40 independent numbers, the strong latent's places come before the weak one's."""
    latents = torch.randn(8, 2, 20, generator=torch.Generator().manual_seed(2)) * torch.tensor([[10.0], [1.0]])
    fresh = torch.randn(500, 2, 20, generator=torch.Generator().manual_seed(3)) * torch.tensor([[10.0], [1.0]])
    variances = solve_joint(latents).encode(fresh).square().mean((0, 2))

    assert variances[:20].min() > 10 * variances[20:].max()
    # Plain PCA of eight images would have put seven directions far above all others, which new images do not confirm.
    assert variances[:20].max() < 2 * variances[:20].min()


@torch.no_grad()
def test_latents_that_are_always_zero() -> None:
    """What fills the last row up, or never varies, costs nothing and comes back."""
    latents = torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(4))
    latents[:, 1] = 4.0
    joint = made(latents, [0, 1, 2])

    torch.testing.assert_close(joint.decode(joint.encode(latents)), latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ranks", "positions", "expected"),
    [
        ([7], [16], [7]),
        ([MAX_JOINT_WIDTH // 64 * 2], [64], [MAX_JOINT_WIDTH // 64]),
        ([100, 10], [1, 196], [49, 4]),
        ([5, 0], [1, 9], [5, 0]),
        ([3], [10 * MAX_JOINT_WIDTH], [0]),
    ],
)
def test_ranks(ranks: list[int], positions: list[int], expected: list[int]) -> None:
    """All, or of every map the same share: 1024 / (100 + 1960) of 100 and of 10."""
    assert expected == joint_ranks(ranks, positions)
