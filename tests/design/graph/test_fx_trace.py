"""torch.fx keeps a model's modules, opens recurrent networks by layers, and names what cannot keep its name."""

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph


class Sequence(nn.Module):
    """The rows of an image 3×4×4 as a sequence of four vectors of 12, through a recurrent network."""

    def __init__(self, layers: int, *, initial: bool = False) -> None:
        super().__init__()
        self.rows, self.last = nn.LSTM(12, 6, num_layers=layers, batch_first=True), nn.Linear(6, 2)
        self.initial = initial

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.permute(0, 2, 1, 3).flatten(2)
        state = torch.zeros(self.rows.num_layers, rows.shape[0], 6)
        sequence, _ = self.rows(rows, (state, state)) if self.initial else self.rows(rows)
        return self.last(sequence[:, -1])


@pytest.mark.parametrize(
    ("layers", "initial", "expected"),
    [
        (1, False, ["rows"]),
        (2, False, ["rows.layer0", "rows.layer1"]),
        (3, False, ["rows.layer0", "rows.layer1", "rows.layer2"]),
        (2, True, ["rows"]),
    ],
)
def test_a_recurrent_network_is_cut_between_its_layers(layers, initial, expected):
    """Every layer's sequence is named by its number; one layer, or layers with initial states, stay one module."""
    model = Sequence(layers, initial=initial).eval()
    graph = ModelGraph(model, (3, 4, 4))
    images = torch.randn(3, 3, 4, 4)

    assert expected == [cut.name for cut in graph.record(all_cuts=True).cuts if "rows" in cut.name]
    assert "torch.fx" == graph.record().captured_by
    torch.testing.assert_close(graph.module(images), model(images))


def test_a_buffer_of_a_layer_may_be_read_beside_the_layer():
    """A model that uses the running mean of a norm that it also calls; and one in a part that it opens."""

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm, self.last = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2)
            self.part = nn.Module()
            self.part.register_buffer("shift", torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.stem(x))).mean((2, 3))
            return self.last(x - self.norm.running_mean + self.part.shift)

    model = Reads().eval()
    model.norm.running_mean.normal_()
    graph = ModelGraph(model, (3, 2, 2))
    images = torch.randn(3, 3, 2, 2)

    assert "torch.fx" == graph.record().captured_by
    assert {"norm__running_mean", "part.shift"} == {str(n.target) for n in graph.flow.nodes if n.op == "get_attr"}
    torch.testing.assert_close(graph.module(images), model(images), rtol=0, atol=0)
