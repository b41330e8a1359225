"""Run the passes of a model over one batch of images that an importance method asks for."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from isplit.design.class_subsets import ClassSubset
from isplit.design.graph import split
from isplit.design.graph.features import FeaturePass
from isplit.design.graph.gradients import GradientPass
from isplit.design.running import autocast, evaluating
from isplit.records import Cut, Precision, Target

Reduce = Callable[[torch.Tensor, torch.Tensor, Cut], torch.Tensor]
"""Maps a cut's activation, its gradient (both N×…) and the cut to one value per image (N)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePasses:
    """A batch of images, on which an importance method may run as many passes of the model as it needs.

    Attributes:
        gradient_pass: Runs forwards and backwards once for all cuts.
        images: The model's input, N×C×H×W, normalised.
        labels: The class number (N) of each image within `classes`.
        classes: The classes that compete for the decision.
        target: The logit that is the decision: "correct" or "predicted".
        precision: The precision of the model's passes.

    """

    gradient_pass: GradientPass
    images: torch.Tensor
    labels: torch.Tensor
    classes: ClassSubset
    target: Target
    precision: Precision

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The cuts to score, in the order of computation."""
        return self.gradient_pass.cuts

    def gradients(self, reduce: Reduce, *, images: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Run one forward and one backward pass, and return what `reduce` makes of each cut, in their order.

        Args:
            reduce: Called with a cut's activation, the gradient of the decision there, and the cut. Both tensors are
                let go afterwards; copy what must stay.
            images: Other images than the batch's own, of the same shape (a point on the way from a baseline, say).

        """
        _, values = self.gradient_pass(
            self.images if images is None else images,
            lambda logits: self.classes.decision(logits, self.labels, self.target),
            reduce,
            precision=self.precision,
        )
        return values

    def activations(self, *, images: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Run one forward pass, and return a float32 copy of the crossing tensor of each cut, in their order."""
        tensors: dict[str, torch.Tensor] = {}
        run = FeaturePass(self.gradient_pass.graph, self.cuts)
        run(
            self.images if images is None else images,
            lambda cut, tensor: tensors.update({cut.name: tensor.clone()}),
            precision=self.precision,
        )
        return [tensors[cut.name] for cut in self.cuts]

    def decisions_after(self, cut: Cut, tensor: torch.Tensor) -> torch.Tensor:
        """Return the decision's logit (N, float32) when `tensor` crosses a cut instead of the model's own tensor.

        Args:
            cut: One of `cuts`.
            tensor: In the shape of that cut's activation, N×….

        """
        tail = split(self.gradient_pass.graph, cut.name).tail
        with evaluating(tail), torch.no_grad(), autocast(self.precision, device=tensor.device):
            logits = tail(tensor)
        return self.classes.decisions(logits.float(), self.labels, self.target)
