"""What the latents of all positions share."""

import pytest
import torch

from isplit.design.bottleneck.linear import lay_out
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.allocation import Allocation, fixed_rank
from isplit.design.closed_form.basis import Basis, JointBasis
from isplit.design.closed_form.joint import joint_ranks, solve_joint
from isplit.design.closed_form.solve import Solution
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.records import Budget
from tests.design.conftest import make_cut

MAX_JOINT_WIDTH = ClosedFormTuning().max_joint_width


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def back(latents: list[torch.Tensor], kept: int) -> torch.Tensor:
    """Return what latents come back as from the first so many joint ones."""
    solution = solve_joint(latents)
    vectors = solution.vectors[:, :kept]
    sent = solution.encode(lay_out(latents))[:, :kept, 0]
    return (sent @ vectors.T + solution.mean).reshape(lay_out(latents).shape)


def test_what_positions_share_is_sent_once() -> None:
    """A latent that is the same at three positions, about means of their own, comes back from one number an image."""
    value = noise(4000, 1, 1, seed=0)
    latents = value * torch.tensor([1.0, 2.0, -2.0]) + torch.tensor([5.0, 0.0, -7.0])
    sent = solve_joint([latents]).encode(latents)

    assert (4000, 3, 1) == sent.shape
    expected = 3 * (value - value.mean()).flatten().abs()
    torch.testing.assert_close(sent[:, 0, 0].abs(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(back([latents], 1), latents, rtol=1e-3, atol=1e-2)


def test_all_of_them_lose_nothing() -> None:
    """The vectors are orthonormal, from few images too: all joint latents give the latents back."""
    latents = noise(7, 3, 4, seed=1) * torch.tensor([[5.0], [1.0], [0.01]])
    vectors = solve_joint([latents]).vectors

    torch.testing.assert_close(vectors.T @ vectors, torch.eye(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(back([latents], 12), latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("front", [0, 6])
def test_few_images_make_no_likeness(front: int) -> None:
    """From eight images of independent numbers, the strong latent's places come before the weak one's.

    Latents of a class token in front, each of another size, are as many numbers of their own, and change nothing.
    """

    def drawn(images: int, seed: int) -> list[torch.Tensor]:
        grid = noise(images, 2, 20, seed=seed) * torch.tensor([[10.0], [1.0]])
        sizes = torch.logspace(-3, -2, front)[:, None]
        return [noise(images, front, 1, seed=seed + 1) * sizes, grid] if front else [grid]

    solution = solve_joint(drawn(8, 2))
    variances = solution.encode(lay_out(drawn(500, 3))).square().mean((0, 2))

    assert 40 + front == len(variances)
    assert variances[:20].min() > 10 * variances[20:].max()
    # Plain PCA of eight images would have put seven directions far above all others, which new images do not confirm.
    assert variances[:20].max() < 2 * variances[:20].min()


def test_latents_that_are_always_the_same() -> None:
    """What never varies costs nothing and comes back; so does what fills the last row up."""
    grid, front = noise(50, 2, 3, seed=4), noise(50, 4, 1, seed=5)
    grid[:, 1] = 4.0

    assert 3 + 4 == solve_joint([front, grid]).vectors.shape[1]
    torch.testing.assert_close(back([front, grid], 7), lay_out([front, grid]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ranks", "positions", "expected"),
    [
        ([7], [16], [7]),
        ([MAX_JOINT_WIDTH // 64 * 2], [64], [MAX_JOINT_WIDTH // 64]),
        ([322], [4], [256]),
        # A row of 196 for the class token's latents leaves four for the grid's.
        ([100, 10], [1, 196], [49, 4]),
        ([3, 5], [1, 196], [2, 4]),
        ([5, 0], [1, 9], [0, 0]),
        ([0, 4], [1, 9], [0, 4]),
        ([50], [1], [0]),
        ([3], [10 * MAX_JOINT_WIDTH], [0]),
    ],
)
def test_ranks(ranks: list[int], positions: list[int], expected: list[int]) -> None:
    """All, or of every map the same share, as many as fit; none where nothing could be shared."""
    assert expected == joint_ranks(ranks, positions, max_width=MAX_JOINT_WIDTH)


def basis_of(latents: list[torch.Tensor]) -> Basis:
    """A basis whose maps change nothing, with these latents."""
    layouts = [PatchLayout((part.shape[2], part.shape[1]), -1) for part in latents]
    solutions = [
        Solution(
            layout,
            torch.zeros(layout.width),
            torch.ones(layout.width),
            torch.eye(layout.width),
            torch.eye(layout.width),
            part.double().square().mean((0, 2)),
        )
        for layout, part in zip(layouts, latents, strict=True)
    ]
    return Basis(
        cut=make_cut(shape=(sum(part.shape[2] for part in latents), latents[-1].shape[1])),
        prefix=latents[0].shape[2] if len(latents) > 1 else 0,
        samples_per_dimension=9.0,
        solutions=solutions,
        latents=latents,
    )


def with_joint(latents: list[torch.Tensor], ranks: list[int]) -> JointBasis:
    leading = [part[:, :rank] for part, rank in zip(latents, ranks, strict=True)]
    joint = JointBasis.of(basis_of(latents), statistics=leading, others=leading)
    assert joint is not None
    return joint


@torch.no_grad()
@pytest.mark.parametrize("front", [0, 3])
def test_bottleneck_of_all_joint_latents(front: int) -> None:
    """Through both steps and back, tokens in front included; its shape is that of the joint latents."""
    grid = noise(300, 4, 9, seed=6)
    latents = [noise(300, 4, front, seed=7), grid] if front else [grid]
    tokens = torch.cat([part.transpose(1, 2) for part in latents], dim=1)
    basis = with_joint(latents, [4] * len(latents))
    width = 4 * (9 + front)
    bottleneck = basis.bottleneck(fixed_rank(basis.latents, [width]), [torch.ones(width)])

    assert (width, 1) == bottleneck.latent_shape == tuple(basis.latents[0].shape[1:])
    assert pytest.approx(300 / width) == basis.samples_per_dimension
    torch.testing.assert_close(bottleneck.encode(tokens), basis.latents[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(bottleneck.decode(bottleneck.encode(tokens)), tokens, rtol=1e-3, atol=1e-3)


def test_taken_where_it_is_expected_to_lose_less() -> None:
    """Positions alike: the joint map. Independent ones, or a strong latent that it leaves out: each has its own."""
    budget = Budget(payload_bytes=40)
    alike = noise(400, 2, 1, seed=8).repeat(1, 1, 8)
    apart = noise(400, 2, 8, seed=9)
    strong = torch.cat([alike, 30 * noise(400, 1, 8, seed=10)], dim=1)
    taken = []
    for latents, ranks in ((alike, [2]), (apart, [2]), (strong, [2])):
        joint = with_joint([latents], ranks)
        basis = Basis(
            cut=joint.cut,
            prefix=0,
            samples_per_dimension=9.0,
            solutions=joint.solutions,
            latents=[latents],
            joint=joint,
        )
        assert basis is basis.best(Budget(element_ratio=4), worth=0.95)
        taken.append(basis.best(budget, worth=0.95) is joint)

    assert [True, False, False] == taken


def test_no_room() -> None:
    """A joint map that would be over less than a quarter of what a budget can use is not solved for."""
    assert [10] == basis_of([noise(50, 40, 100, seed=11)]).joint_ranks(ClosedFormTuning())
    assert [0] == basis_of([noise(50, 44, 100, seed=12)]).joint_ranks(ClosedFormTuning())


def test_nothing_varies() -> None:
    """A cut that is the same for all images has no joint map, and that is no error."""
    latents = [torch.full((300, 2, 4), 0.5)]

    assert JointBasis.of(basis_of(latents), statistics=latents, others=latents) is None


def test_latents_that_a_budget_cannot_use() -> None:
    """Those of a larger budget beside it are left out, so that nothing depends on them."""
    wide = basis_of([noise(300, 9, 16, seed=13) * torch.logspace(2, -6, 9)[:, None]])
    ranks = [wide.of_budget(Budget(payload_bytes=count)).latents[0].shape[1] for count in (30, 90, 4000)]

    assert sorted(ranks) == ranks
    assert 1 <= ranks[0] < ranks[1] < ranks[2] <= 9


@torch.no_grad()
def test_joint_latents_are_divided_by_their_scales() -> None:
    """Two of the joint latents, a half and a quarter as large on the wire, come back as large as they were."""
    latents = [noise(300, 2, 3, seed=14)]
    basis = with_joint(latents, [2])
    scales = torch.tensor([2.0, 4.0])
    allocation = Allocation(kept=(torch.tensor([0, 3]),), scales=(scales,), step=1.0, levels=256, payload_bytes=0.0)

    bottleneck = basis.bottleneck(allocation, [torch.ones(2)])

    tokens = latents[0].transpose(1, 2)
    joint = basis.latents[0][:, [0, 3]]
    torch.testing.assert_close(bottleneck.encode(tokens), joint / scales[:, None], rtol=1e-3, atol=1e-3)
    # An orthonormal map back; the latents were laid out channel by channel.
    expected = joint[:, :, 0] @ basis.solution.vectors[:, [0, 3]].T + basis.solution.mean.flatten()
    decoded = bottleneck.decode(bottleneck.encode(tokens)).transpose(1, 2)
    torch.testing.assert_close(lay_out([decoded]).flatten(1), expected, rtol=1e-3, atol=1e-3)
