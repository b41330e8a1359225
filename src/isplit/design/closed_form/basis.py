"""A cut's latents before a budget chooses among them: of each position, or of all positions together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from isplit.design.bottleneck.linear import LinearBottleneck, lay_out
from isplit.design.closed_form.allocation import Allocation, expected_loss, useful_ranks
from isplit.design.closed_form.joint import JointSolution, joint_ranks, solve_joint
from isplit.design.closed_form.solve import Solution
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.devices import CPU
from isplit.records import Budget, Cut


@dataclass(frozen=True, eq=False, kw_only=True)
class Basis:
    """The latents of a cut with patches of one size that a budget chooses among.

    `solutions` are those of each map. `latents` (N×K×P each) are the first K of that map's latents for images that the
    solutions are not from. `dropped` is the weighted energy, per image, that is in none of these latents. `joint` is
    the same with a map over all positions; None where there is none.
    """

    cut: Cut
    prefix: int
    samples_per_dimension: float
    solutions: Sequence[Solution]
    latents: list[torch.Tensor]
    dropped: float = 0.0
    joint: "JointBasis | None" = None

    def best(self, budget: Budget, *, worth: float) -> "Basis":
        """Return the joint basis where it is expected to lose less than `worth` of this one's loss, else this one."""
        if self.joint is None or budget.payload_bytes is None:
            return self
        single, joint = (basis.expected_loss(budget) for basis in (self, self.joint))
        return self.joint if joint < worth * single else self

    def expected_loss(self, budget: Budget) -> float:
        """Return the weighted squared error per image that a byte budget is expected to leave in these latents."""
        return expected_loss(self.latents, budget) + self.dropped

    def of_budget(self, budget: Budget) -> "Basis":
        """Return the basis with no more latents than a budget of bytes could use, so that others do not matter."""
        useful = useful_ranks(self.solutions, budget)
        latents = [part[:, :rank] for part, rank in zip(self.latents, useful, strict=True)]
        rest = [part[:, rank:] for part, rank in zip(self.latents, useful, strict=True)]
        return replace(self, latents=latents, dropped=self.dropped + _energy(rest))

    def joint_ranks(self, tuning: ClosedFormTuning) -> list[int]:
        """Return how many latents of each map a joint map is over; all 0 where there is to be none."""
        wanted = [part.shape[1] for part in self.latents]
        ranks = joint_ranks(wanted, [part.shape[2] for part in self.latents], max_width=tuning.max_joint_width)
        return ranks if sum(ranks) >= tuning.joint_room * sum(wanted) else [0] * len(ranks)

    def bottleneck(self, allocation: Allocation, gains: Sequence[torch.Tensor]) -> LinearBottleneck:
        """Build the bottleneck of the latents that are kept; those of each map are decoded times their gains."""
        maps = [solution.keep(places) for solution, places in zip(self.solutions, allocation.kept, strict=True)]
        for linear_map, scales, gain in zip(maps, allocation.scales, gains, strict=True):
            linear_map.encoder.data /= scales[:, None]
            linear_map.decoder.data *= (scales * gain)[:, None]
        return LinearBottleneck(maps, prefix=self.prefix)


@dataclass(frozen=True, eq=False, kw_only=True)
class JointBasis(Basis):
    """A basis whose `latents` are joint ones, N×K×1.

    `ranks` latents of each map go into them; the others are among what is `dropped`.
    """

    ranks: list[int]
    solution: JointSolution

    @classmethod
    def of(
        cls,
        basis: Basis,
        *,
        statistics: Sequence[torch.Tensor],
        others: Sequence[torch.Tensor],
        device: torch.device = CPU,
    ) -> Self | None:
        """Solve for the map over all positions; None where nothing varies.

        Args:
            basis: Of the positions.
            statistics: For each map, N×K×P, the latents that are joined, of the images that the basis is from.
            others: The same of other images, which show what the joint latents cost.
            device: Where it is computed.

        """
        ranks = [part.shape[1] for part in statistics]
        solution = solve_joint(statistics, device=device)
        if not solution.vectors.shape[1]:
            return None
        rest = [part[:, rank:] for part, rank in zip(basis.latents, ranks, strict=True)]
        return cls(
            cut=basis.cut,
            prefix=basis.prefix,
            samples_per_dimension=min(basis.samples_per_dimension, len(statistics[0]) / solution.vectors.shape[1]),
            solutions=basis.solutions,
            latents=[solution.encode(lay_out(others))],
            ranks=ranks,
            solution=solution,
            dropped=basis.dropped + _energy(rest),
        )

    def bottleneck(self, allocation: Allocation, gains: Sequence[torch.Tensor]) -> LinearBottleneck:
        """Build the bottleneck of the joint latents that are kept."""
        maps = [solution.keep(rank) for solution, rank in zip(self.solutions, self.ranks, strict=True)]
        (kept,), (scales,), (gain,) = allocation.kept, allocation.scales, gains
        bottleneck = LinearBottleneck(maps, prefix=self.prefix, joint=len(kept))
        assert bottleneck.joint is not None
        bottleneck.joint.mean.copy_(self.solution.mean)
        bottleneck.joint.encoder.data = self.solution.vectors[:, kept].T / scales[:, None]
        bottleneck.joint.decoder.data = self.solution.vectors[:, kept].T * (scales * gain)[:, None]
        return bottleneck


def _energy(latents: Sequence[torch.Tensor]) -> float:
    """Return the mean square of latents N×K×P, summed over those of an image."""
    return sum(float(part.square().sum()) / max(1, len(part)) for part in latents)
