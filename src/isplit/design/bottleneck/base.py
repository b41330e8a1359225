"""The contract that every bottleneck design meets: to encode what crosses a cut, to decode it, and to start.

x  ──encode──> latent  ──quantise──> uint8 ──code──> payload
x' <──decode── latent' <─────────── uint8 <──────── payload

A design knows nothing of quantisers and coders: those belong to a split (see `BuiltSplit`), and are made from the
latents that the design gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self

import torch
from torch import nn

from isplit.codec.frame import HEADER_BYTES
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.settings import Start
from isplit.records import BottleneckSpec, Budget


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Everything that a design is told about the place where it is to work.

    Attributes:
        shape: The shape of what crosses for one image, such as (C, H, W) or (tokens, width).
        channel_axis: The axis of the channels with the batch counted: 1 for maps N×C×H×W, -1 where they come last.
        budget: What may cross.
        mean: Each channel's mean over some images (C).
        scale: Each channel's standard deviation (C), 1 where a channel is constant.

    """

    shape: tuple[int, ...]
    channel_axis: int
    budget: Budget
    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of_spec(cls, spec: BottleneckSpec, budget: Budget) -> Self:
        """Return the place that a spec was made for; mean and scale are placeholders, as weights are loaded anyway."""
        layout = (
            PatchLayout(spec.shape, spec.channel_axis) if len(spec.shape) > 1 else PatchLayout((1, *spec.shape), -1)
        )
        return cls(
            shape=spec.shape,
            channel_axis=spec.channel_axis,
            budget=budget,
            mean=torch.zeros(layout.channels),
            scale=torch.ones(layout.channels),
        )

    @property
    def layout(self) -> PatchLayout:
        """How what crosses is laid out as one vector for each position."""
        if len(self.shape) == 1:
            return PatchLayout((1, *self.shape), -1)
        return PatchLayout(self.shape, self.channel_axis)

    @property
    def elements(self) -> int:
        """The number of latent values that the budget pays for at eight bits each; at least 1."""
        if self.budget.element_ratio is not None:
            return max(1, int(prod(self.shape) / self.budget.element_ratio))
        assert self.budget.payload_bytes is not None
        return max(1, self.budget.payload_bytes - HEADER_BYTES)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What encoder and decoder compute for one image, and the numbers that they need.

    Attributes:
        encoder_macs: Multiply-accumulate operations of the encoder.
        decoder_macs: Those of the decoder.
        encoder_parameters: Numbers that the encoder needs, buffers included.
        decoder_parameters: Those of the decoder.

    """

    encoder_macs: int = 0
    decoder_macs: int = 0
    encoder_parameters: int = 0
    decoder_parameters: int = 0


class Bottleneck(nn.Module):
    """Encoder (device) and decoder (server) of one cut.

    A design implements `encode`, `decode` and `start`. All else has defaults that suit a small network: latents are
    quantised with a scale for each channel, Adam learns at a rate of 0.001, and the work is counted by running both
    sides once.

    Args:
        latent_shape: The shape of one image's latent.
        channel_axis: The axis of `latent_shape` along which quantiser steps and entropy tables run.

    Attributes:
        common_step: Whether all latents share one quantiser step, chosen to fill a budget of bytes, and bytes have a
            price while the design is trained; otherwise each channel has a scale of its own and as many bits as fit.
        starts: From what the design can start, the default first.
        learning_rate: The default of Adam's rate.
        relative_learning_rate: Whether that rate is a share of each tensor's own size (the root of its mean square).
        work: What both sides compute, where the design knows it; None has it counted (see `measure_work`).

    """

    common_step: ClassVar[bool] = False
    starts: ClassVar[tuple[Start, ...]] = ("random",)
    learning_rate: ClassVar[float] = 1e-3
    relative_learning_rate: ClassVar[bool] = False
    work: Work | None = None

    def __init__(self, latent_shape: Sequence[int], *, channel_axis: int = 0) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.channel_axis = channel_axis

    @classmethod
    def start(cls, place: Place) -> Self:
        """Return a bottleneck for a place, with the values that training starts from.

        torch's random generator is seeded when this is called. The architecture must follow from the shape and the
        budget alone: a saved split is rebuilt by `start` with the same shape and budget, and its weights are loaded.
        """
        raise NotImplementedError

    @classmethod
    def check_budget(cls, budget: Budget) -> None:
        """Refuse a budget that the design cannot meet at any cut.

        Raises:
            InputError: it cannot.

        """

    @classmethod
    def rebuild(cls, spec: BottleneckSpec, budget: Budget) -> Self:
        """Return a bottleneck of that spec whose weights mean nothing yet."""
        return cls.start(Place.of_spec(spec, budget))

    def structure(self) -> Mapping[str, Any]:
        """Return the fields of `BottleneckSpec` that `rebuild` needs besides the place's shape and channel axis."""
        return {}

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses, N×…, to latents N×latent_shape."""
        raise NotImplementedError

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents back to what crosses."""
        raise NotImplementedError

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Encode and decode without quantising in between."""
        return self.decode(self.encode(tensor))
