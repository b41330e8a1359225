"""Define the modules that are exported, one for each file, with everything inside that the runtime need not know.

head   image  uint8 N×H×W×C ─> normalise ─> head ─> encode ─> quantise ─> latent uint8 N×latent_shape tail   latent ─>
dequantise ─> decode ─> tail ─> the group's logits N×K whole  image ─> normalise ─> model ─> the group's logits N×K
"""

import torch
from torch import nn

from isplit.design.class_subsets import ClassSubset
from isplit.design.splits import BuiltSplit
from isplit.records import Preprocessing

ENCODER = "encoder"
"""The name of the part of a head that computes the latent from the crossing tensor."""


class _Pixels(nn.Module):
    """Maps pixels N×H×W×C uint8 to the model's input, with the operations of `batches.normalise`."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).reshape(-1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return ((image.permute(0, 3, 1, 2).to(torch.float32) / 255) - self.mean) / self.std


def normalised_pixels(preprocessing: Preprocessing) -> nn.Module:
    """Return a module that maps pixels N×H×W×C uint8 to the model's input N×C×H×W float32."""
    return _Pixels(preprocessing)


class _Encode(nn.Module):
    def __init__(self, built: BuiltSplit) -> None:
        super().__init__()
        self.bottleneck = built.bottleneck
        self._quantiser = built.quantiser

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._quantiser.symbols(self.bottleneck.encode(tensor))


class HeadModel(nn.Module):
    """Maps images to quantised latents; `head` maps normalised images to the crossing tensor."""

    def __init__(self, head: nn.Module, built: BuiltSplit, *, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.pixels = _Pixels(preprocessing)
        self.head = head
        self.encoder = _Encode(built)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images N×H×W×C uint8 to latents N×latent_shape uint8."""
        return self.encoder(self.head(self.pixels(image)))


class TailModel(nn.Module):
    """Maps quantised latents to logits; `tail` maps the crossing tensor to all logits of the model."""

    def __init__(self, tail: nn.Module, built: BuiltSplit, *, group: ClassSubset, outputs: int) -> None:
        super().__init__()
        self.bottleneck = built.bottleneck
        self.tail = tail
        self._quantiser = built.quantiser
        self._classes = _Classes(group, outputs)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Map latents N×latent_shape uint8 to logits N×K float32."""
        return self._classes(self.tail(self.bottleneck.decode(self._quantiser.values(latent))))


class SegmentModel(nn.Module):
    """A part of the model between two cuts, from images where it is the first and to the group's logits where the last.

    Args:
        part: Maps what crosses the first cut (normalised images for the first part) to what crosses the second.
        preprocessing: Of the images, for the first part; None for others.
        group: Of the logits, for the last part; None for others.
        outputs: How many logits the model has.

    """

    def __init__(
        self, part: nn.Module, *, preprocessing: Preprocessing | None, group: ClassSubset | None, outputs: int
    ) -> None:
        super().__init__()
        self.pixels = None if preprocessing is None else _Pixels(preprocessing)
        self.part = part
        self.classes = None if group is None else _Classes(group, outputs)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map a batch of what comes in to what goes out."""
        result = self.part(values if self.pixels is None else self.pixels(values))
        return result if self.classes is None else self.classes(result)


class WholeModel(nn.Module):
    """Maps images to logits with the model without a split."""

    def __init__(self, model: nn.Module, *, preprocessing: Preprocessing, group: ClassSubset, outputs: int) -> None:
        super().__init__()
        self.pixels = _Pixels(preprocessing)
        self.head = model
        self._classes = _Classes(group, outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images N×H×W×C uint8 to logits N×K float32."""
        return self._classes(self.head(self.pixels(image)))


class _Classes(nn.Module):
    """All logits of the model to those of a group, left out where they are the same."""

    def __init__(self, group: ClassSubset, outputs: int) -> None:
        super().__init__()
        self._group = group
        self._same = group.outputs == [[output] for output in range(outputs)]

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.float() if self._same else self._group(logits.float())
