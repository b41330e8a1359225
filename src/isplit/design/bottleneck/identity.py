"""No encoder at all: the tensor is quantised per channel and entropy-coded.

Linear quantisation and a run-length or entropy coder, without retraining, are known to go a long way
("Quantization and run-length coding are enough", GLOBECOM 2023); every other design has to beat it.
"""

import torch

from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.patches import PatchLayout


class IdentityBottleneck(Bottleneck):
    """What crosses, laid out as channels × positions."""

    def __init__(self, layout: PatchLayout) -> None:
        super().__init__((layout.channels, layout.vectors))
        self.layout = layout

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses to N×C×P."""
        return self.layout.split(tensor.float()).transpose(1, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map N×C×P back to what crosses."""
        return self.layout.join(latents.transpose(1, 2))
