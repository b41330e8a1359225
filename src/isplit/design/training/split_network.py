"""Build the part of the network that learns: the bottleneck, and copies of the model's tail and perhaps its head."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn

from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.coding import LatentQuantiser
from isplit.design.bottleneck.sides import encoder_side
from isplit.design.graph import ModelGraph, split
from isplit.design.graph.layout import lay_out
from isplit.design.running import in_float32
from isplit.design.settings import FitSettings
from isplit.records import Cut


class SplitNetwork(nn.Module):
    """Chain the head (if it learns), the bottleneck and the tail.

    The model's own layers stay in evaluation mode. Their BatchNorms keep the whole model's statistics: those of a batch
    of 64 are noisy, and the first decoded batches differ so much from real features that they would spoil them. Dropout
    stays off, because a few epochs from a trained network do not overfit, and its noise would hide whether the tail
    follows the decoder. Only the bottleneck's own BatchNorms (in the undercomplete design) learn from batches.

    Args:
        graph: The model's graph, which is not changed.
        cut: The cut where the bottleneck is inserted.
        bottleneck: The bottleneck, which is trained in place.
        settings: The settings of the training, which say which sides learn.

    """

    def __init__(self, graph: ModelGraph, cut: Cut, bottleneck: Bottleneck, settings: FitSettings) -> None:
        super().__init__()
        sides = split(graph, cut.name)
        self.cut = cut
        self._channels_last = graph.channels_last
        self.bottleneck = bottleneck
        self.tail: nn.Module = deepcopy(sides.tail).eval()
        self.head: nn.Module | None = deepcopy(sides.head).eval() if settings.train_head else None
        self._settings = settings
        self._encoder = encoder_side(bottleneck, cut.shape)

    def forward(
        self, inputs: torch.Tensor, quantiser: LatentQuantiser | None, *, answer: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits (N×K) and the latents before rounding.

        With `answer=False`, the error of the decoded features takes the place of the logits.

        Args:
            inputs: Features, or images if the head learns.
            quantiser: Rounds the latents, with a straight-through gradient. None does not round them.
            answer: Whether the tail runs.

        """
        crossing = inputs if self.head is None else self.head(inputs)
        with in_float32(crossing.device):
            latents = self.bottleneck.encode(crossing.float())
            received = latents if quantiser is None else quantiser.straight_through(latents)
            decoded = self.bottleneck.decode(received)
        decoded = decoded.reshape(crossing.shape)
        if not answer:
            return decoded - crossing, latents
        return self.tail(lay_out(decoded, self.cut, channels_last=self._channels_last)), latents

    def open(self, *, features_only: bool) -> None:
        """Let those sides learn that the settings name; in the first stage, let only encoder and decoder learn."""
        wanted = {"encoder", "decoder"} if features_only else set(self._settings.trained)
        for side, parameter in self._sides():
            parameter.requires_grad_(side in wanted)
        self.bottleneck.train()
        if "encoder" not in wanted:
            for name, module in self.bottleneck.named_modules():
                if name in self._encoder.modules:
                    module.eval()

    def eval_bottleneck(self) -> None:
        """Put the bottleneck into evaluation mode."""
        self.bottleneck.eval()

    def _sides(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield every parameter with its side: head, encoder, decoder or tail."""
        for name, parameter in self.named_parameters():
            side, _, rest = name.partition(".")
            if side == "bottleneck":
                side = "encoder" if rest in self._encoder.parameters else "decoder"
            yield side, parameter

    def parameter_groups(self) -> list[dict[str, object]]:
        """Return the optimiser's parameter groups, each with its highest learning rate."""
        bottleneck = self.bottleneck
        rate = self._settings.bottleneck_rate
        share = bottleneck.learning_rate if rate is None else rate
        groups: list[dict[str, object]] = []
        of_model: list[nn.Parameter] = []
        for side, parameter in self._sides():
            if not parameter.requires_grad or parameter.numel() == 0:
                continue
            if side in ("head", "tail"):
                of_model.append(parameter)
                continue
            size = float(parameter.detach().square().mean().sqrt()) if bottleneck.relative_learning_rate else 1.0
            groups.append({"params": [parameter], "lr": share * (size or 1.0)})
        if of_model:
            groups.append({"params": of_model, "lr": self._settings.model_rate})
        return groups
