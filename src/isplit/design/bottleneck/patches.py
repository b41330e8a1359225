"""A crossing tensor as vectors: one per position, or one per square patch of positions, and back."""

from dataclasses import dataclass
from math import prod

import torch
from torch.nn import functional

from isplit.records import Cut


@dataclass(frozen=True)
class PatchLayout:
    """How a tensor N×C×H×W, N×H×W×C or N×T×D becomes vectors N×P×d, d = channels × patch².

    Args:
        shape: The tensor's shape without the batch.
        channel_axis: 1 or -1, the batch counted.
        patch: Side of the square patches; 1 for anything that is no map.

    A map whose sides the patch does not divide is padded at the bottom and the right by replication; what is padded is
    cut away again on the way back. Vectors run over channels first, then rows and columns of the patch.
    """

    shape: tuple[int, ...]
    channel_axis: int
    patch: int = 1

    @classmethod
    def of(cls, cut: Cut, patch: int = 1) -> "PatchLayout":
        """Lay out the tensor that crosses a cut; a plain vector N×C counts as one position."""
        assert cut.channel_axis is not None
        if len(cut.shape) == 1:
            return cls((1, *cut.shape), -1)
        return cls(cut.shape, cut.channel_axis, patch)

    @property
    def channels(self) -> int:
        """Channels of the tensor."""
        return self.shape[0] if self.channel_axis == 1 else self.shape[-1]

    @property
    def extents(self) -> tuple[int, ...]:
        """Sides of the map, or the number of tokens."""
        return self.shape[1:] if self.channel_axis == 1 else self.shape[:-1]

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each side."""
        return tuple(-(-extent // self.patch) for extent in self.extents)

    @property
    def vectors(self) -> int:
        """P: vectors per image."""
        return prod(self.grid)

    @property
    def width(self) -> int:
        """Length d of a vector."""
        return self.channels * self.patch ** len(self.extents) if self.patch > 1 else self.channels

    def split(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return N×P×d."""
        # Not len(): torch.export would take this batch's size for every batch's.
        last = tensor if self.channel_axis == -1 else tensor.movedim(1, -1)
        if self.patch == 1:
            return last.reshape(tensor.shape[0], -1, self.channels)
        rows, columns = self.grid
        first = tensor if self.channel_axis == 1 else tensor.movedim(-1, 1)
        padding = (0, columns * self.patch - self.extents[1], 0, rows * self.patch - self.extents[0])
        if any(padding):
            first = functional.pad(first, padding, mode="replicate")
        tiled = first.reshape(tensor.shape[0], self.channels, rows, self.patch, columns, self.patch)
        return tiled.permute(0, 2, 4, 1, 3, 5).reshape(tensor.shape[0], rows * columns, self.width)

    def join(self, vectors: torch.Tensor) -> torch.Tensor:
        """Undo `split`; the result has the memory format of a plain tensor of the shape."""
        count = vectors.shape[0]
        if self.patch == 1:
            last = vectors.reshape(count, *self.extents, self.channels)
            return last if self.channel_axis == -1 else last.movedim(-1, 1)
        rows, columns = self.grid
        tiled = vectors.reshape(count, rows, columns, self.channels, self.patch, self.patch)
        joined = tiled.permute(0, 3, 1, 4, 2, 5).reshape(count, self.channels, rows * self.patch, columns * self.patch)
        first = joined[:, :, : self.extents[0], : self.extents[1]]
        return first if self.channel_axis == 1 else first.movedim(1, -1)

    def whole(self) -> torch.Tensor:
        """Return which of the P vectors hold no padding: statistics leave the others out."""
        if self.patch == 1:
            return torch.ones(self.vectors, dtype=torch.bool)
        inside = [
            torch.arange(1, count + 1) * self.patch <= extent
            for count, extent in zip(self.grid, self.extents, strict=True)
        ]
        return (inside[0][:, None] & inside[1][None, :]).flatten()
