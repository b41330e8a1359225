"""Where the channels of a crossing tensor are: the operations around it decide."""

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph


def axis_of(cut: str, *layers: nn.Module) -> int | None:
    """Return the channel axis at a layer, by its number, of layers in a row on images 3×4×4."""
    record = ModelGraph(nn.Sequential(*layers), (3, 4, 4)).record(all_cuts=True)
    return next(item.channel_axis for item in record.cuts if item.name == cut)


class Swap(nn.Module):
    """N×a×b to N×b×a."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


@pytest.mark.parametrize(
    ("expected", "cut", "layers"),
    [
        # N×3×16: with no operation that decides, three dimensions would be tokens, channels last
        (1, "1", (nn.Flatten(2), nn.ReLU(), nn.Conv1d(3, 2, 1), nn.Flatten(1), nn.Linear(32, 3))),
        (1, "1", (nn.Flatten(2), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(1), nn.Linear(6, 3))),
        (-1, "1", (nn.Flatten(2), nn.ReLU(), nn.Linear(16, 2), nn.Flatten(1), nn.Linear(6, 3))),
        (-1, "1", (nn.Flatten(2), nn.ReLU(), nn.Flatten(1), nn.Linear(48, 3))),
        # N×3×4×4: flattening changes the shape, so that the linear layer behind it decides nothing
        (1, "0", (nn.ReLU(), nn.Flatten(1), nn.Linear(48, 3))),
        (-1, "0", (nn.ReLU(), nn.Linear(4, 2), nn.Flatten(1), nn.Linear(24, 3))),
        (-1, "2", (nn.ReLU(), nn.LayerNorm(4), nn.Sigmoid(), nn.Flatten(1), nn.Linear(48, 3))),
        (1, "1", (nn.Flatten(1), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))),
    ],
)
def test_axis(expected, cut, layers):
    """The users of a tensor come first, then what made it, through operations that keep the shape; then its shape."""
    assert expected == axis_of(cut, *layers)
