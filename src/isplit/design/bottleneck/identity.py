"""No encoder at all: the tensor is quantised per channel and entropy-coded.

Linear quantisation and a run-length or entropy coder, without retraining, are known to go a long way
("Quantization and run-length coding are enough", GLOBECOM 2023); every other design has to beat it.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch

from isplit.design.bottleneck.base import Bottleneck, Place, Work
from isplit.design.bottleneck.patches import PatchLayout
from isplit.errors import InputError
from isplit.records import BottleneckSpec, Budget


class IdentityBottleneck(Bottleneck):
    """What crosses, laid out as channels × positions."""

    work = Work()

    def __init__(self, layout: PatchLayout) -> None:
        super().__init__((layout.channels, layout.vectors))
        self.layout = layout

    @classmethod
    def check_budget(cls, budget: Budget) -> None:
        """Refuse a ratio: every element is sent."""
        if budget.element_ratio not in (None, 1):
            msg = "the identity design sends every element: give a number of bytes, or an element ratio of 1"
            raise InputError(msg)

    @classmethod
    def start(cls, place: Place) -> Self:
        """Return the bottleneck for a place; it has no values."""
        return cls(place.layout)

    @classmethod
    def rebuild(cls, spec: BottleneckSpec, budget: Budget) -> Self:
        """Return the bottleneck of that spec."""
        return cls(PatchLayout(spec.shape, spec.channel_axis))

    def structure(self) -> Mapping[str, Any]:
        """Return the shape and channel axis of the layout."""
        return {"shape": self.layout.shape, "channel_axis": self.layout.channel_axis}

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses to N×C×P."""
        return self.layout.split(tensor.float()).transpose(1, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map N×C×P back to what crosses."""
        return self.layout.join(latents.transpose(1, 2))
