"""torch.nn's composed modules are taken apart: cuts between their layers, and every product counted."""

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.design.testing import check_splits
from tests.design.graph.nets import both_layouts


class Vit(nn.Module):
    def __init__(self, *, norm_first):
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 4, stride=4)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.last = nn.Linear(32, 10)

    def forward(self, x):
        return self.last(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder(norm_first):
    """MACs by hand, cuts between the layers, and all exact."""
    model = Vit(norm_first=norm_first).eval()
    graph = ModelGraph(model, (1, 32, 32))
    record = graph.record()
    layer = 64 * (4 * 32 * 32 + 2 * 64 * 32 + 2 * 32 * 64)

    assert 64 * 32 * 16 + 3 * layer + 320 == record.macs
    assert () == record.uncounted
    assert len(record.cuts) >= 5
    checks = check_splits(model, graph, [cut.name for cut in record.cuts], torch.randn(3, 1, 32, 32))
    assert [] == [check for check in checks if not check.is_exact]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("last_state", [False, True])
def test_recurrent_layers(kind, bidirectional, last_state):
    """Each layer is cut after and counted: every step multiplies by every matrix once."""

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3, padding=1)
            self.rows = kind(32, 6, num_layers=2, batch_first=True, bidirectional=bidirectional)
            self.last = nn.Linear(12 if bidirectional and not last_state else 6, 3)

        def forward(self, x):
            out, state = self.rows(torch.relu(self.stem(x)).permute(0, 2, 1, 3).flatten(2))
            state = state[0] if kind is nn.LSTM else state
            return self.last(state[-1] if last_state else out[:, -1])

    model = Rows().eval()
    graph = ModelGraph(model, (1, 8, 8))
    record = graph.record()
    weights = sum(p.numel() for p in model.rows.parameters() if p.dim() == 2)

    assert 64 * 4 * 9 + 8 * weights + model.last.weight.numel() == record.macs
    assert "rows.layer0" in [cut.name for cut in record.cuts]
    checks = check_splits(model, graph, [cut.name for cut in record.cuts], torch.randn(3, 1, 8, 8))
    assert [] == [check for check in checks if check.largest_difference > 1e-6]


def test_the_batch_as_second_dimension():
    """The same layers give the same cuts and figures, whichever dimension the batch is, and every cut is exact."""
    first, second = both_layouts()
    graphs = [ModelGraph(model, (3, 16, 16)) for model in (first, second)]
    expected, record = (graph.record(all_cuts=True) for graph in graphs)

    assert {"rows.layer0", "encoder.layers.0.norm1", "encoder.layers.0.linear1"} <= {cut.name for cut in record.cuts}
    assert [point.name for point in graphs[0].default_points] == [point.name for point in graphs[1].default_points]
    assert expected.macs == record.macs
    described = [
        [
            (cut.name, [tensor.shape for tensor in cut.crossing], cut.channel_axis, cut.head_macs, cut.tail_macs)
            for cut in sorted(graph_record.cuts, key=lambda cut: cut.name)
            if cut.kind == "default"
        ]
        for graph_record in (expected, record)
    ]
    assert len(described[0]) > 4
    assert described[0] == described[1]
    checks = check_splits(second, graphs[1], [cut.name for cut in record.cuts], torch.randn(5, 3, 16, 16))
    assert [] == [check for check in checks if not check.is_exact]
