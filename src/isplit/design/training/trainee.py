"""The part of the network that learns: bottleneck, tail, and perhaps the head, as copies of the model's."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn

from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.linear import LinearMap
from isplit.design.graph import ModelGraph, split
from isplit.design.graph.layout import lay_out
from isplit.design.running import in_float32
from isplit.design.settings import FitSettings
from isplit.records import Cut

# A small network on noisy digits (whole 74 %, 718 images) went from 58.9 to 69.1 % in an epoch at a hundredth of each
# matrix per step, to 64.8 at a thousandth and to 68.2 at three hundredths (60 bytes, tail at 3e-5).
LINEAR_RATE = 1e-2
CONVOLUTION_RATE = 1e-3


class Trainee(nn.Module):
    """Head (if it learns), bottleneck and tail in a row.

    The model's own layers stay in evaluation mode. Their BatchNorms go on with the whole model's statistics: those of
    a batch of 64 would be noise beside them, and the first decoded batches, far from what the layers know, would spoil
    them. Dropout stays off: few epochs from a trained network do not overfit it, and noise would hide whether the tail
    follows the decoder. Only the bottleneck's own BatchNorms (undercomplete) learn from batches.

    Args:
        graph: The model's; nothing of it is changed.
        cut: Where the bottleneck goes.
        bottleneck: Trained in place.
        settings: Which sides are open.

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

    def forward(self, inputs: torch.Tensor, *, answer: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits N×K, or with `answer=False` the error of the decoded features; and the latents before rounding.

        Args:
            inputs: Features, or images if the head learns.
            answer: Whether the tail runs.

        """
        crossing = inputs if self.head is None else self.head(inputs)
        with in_float32(crossing.device.type):
            latents = self.bottleneck.encode(crossing.float())
            decoded = self.bottleneck.decode(self.bottleneck.rounded(latents))
        decoded = decoded.reshape(crossing.shape)
        if not answer:
            return decoded - crossing, latents
        return self.tail(lay_out(decoded, self.cut, channels_last=self._channels_last)), latents

    def open(self, *, features_only: bool) -> None:
        """Let the sides learn that are open in the second stage, or encoder and decoder only in the first."""
        wanted = {"encoder", "decoder"} if features_only else set(self._settings.trained)
        for side, _, parameter in self.sides():
            parameter.requires_grad_(side in wanted)
        self.bottleneck.train()
        if "encoder" not in wanted:
            for name, module in self.bottleneck.named_modules():
                if _is_encoder(name):
                    module.eval()

    def judge(self) -> None:
        """Put the bottleneck into evaluation mode."""
        self.bottleneck.eval()

    def sides(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        """Yield every parameter with its side (head, encoder, decoder, tail) and its name."""
        for name, parameter in self.named_parameters():
            part, _, rest = name.partition(".")
            side = part if part != "bottleneck" else "encoder" if _is_encoder(rest) else "decoder"
            yield side, name, parameter

    def groups(self) -> list[dict[str, object]]:
        """Return the optimiser's parameter groups, each with its highest learning rate.

        The closed form's encoder and decoder have the units of the gradient and of its inverse, many powers of ten
        apart: there a rate is a share of the tensor's own size.
        """
        rate = self._settings.bottleneck_rate
        linear = any(isinstance(module, LinearMap) for module in self.bottleneck.modules())
        groups: list[dict[str, object]] = []
        model: list[nn.Parameter] = []
        for side, _, parameter in self.sides():
            if not parameter.requires_grad or parameter.numel() == 0:
                continue
            if side in ("head", "tail"):
                model.append(parameter)
                continue
            size = float(parameter.detach().square().mean().sqrt()) if linear else 1.0
            share = rate if rate is not None else LINEAR_RATE if linear else CONVOLUTION_RATE
            groups.append({"params": [parameter], "lr": share * (size or 1.0)})
        if model:
            groups.append({"params": model, "lr": self._settings.model_rate})
        return groups


def _is_encoder(name: str) -> bool:
    """Whether a bottleneck's parameter or module of that name is on the device."""
    return name.startswith("down") or "encoder" in name
