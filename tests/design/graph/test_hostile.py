"""Models that make splitting hard: at every cut the split is exact, or the cut is listed as unavailable."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from isplit.design.graph import ModelGraph, split
from isplit.errors import ModelError

Forward = Callable[["Body", torch.Tensor], torch.Tensor]


class Body(nn.Module):
    """Three convolutions, a linear layer, and a forward pass that is given."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.bn = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 3)
        self.body = [forward]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.body[0](self, x).mean((2, 3)))


def unused_in_place_module(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = m.c1(x)
    m.relu(y)
    z = m.c2(y)
    z.relu_()
    return m.c3(z)


def unused_in_place_function(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = m.c1(x)
    functional.relu(y, inplace=True)
    return m.c3(m.c2(y))


def write_to_a_slice(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = m.c1(x)
    y[:, 0] = 0
    return m.c3(m.c2(y))


def write_through_a_view(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = m.c1(x)
    v = y.flatten(2)
    functional.relu(y, inplace=True)
    return m.c2(v.unflatten(2, y.shape[2:])) + m.c3(y)


def write_to_a_chunk(m: Body, x: torch.Tensor) -> torch.Tensor:
    a, b = m.c1(x).chunk(2, 1)
    a.mul_(2.0)
    return m.c3(m.c2(torch.cat([b, a], 1)))


def shortcut_around_an_in_place_activation(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = m.bn(m.c1(x))
    return y + m.c2(m.relu(y))


def number_that_is_no_multiple(m: Body, x: torch.Tensor) -> torch.Tensor:
    n = x.size(0) + 1
    y = m.c2(m.c1(x))
    return m.c3(y) * n / n


def number_read_after_the_cut(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = m.c2(m.c1(x))
    z = m.c3(y)
    return z * (1.0 / (z.size(0) + 1)) * (y.shape[0] + 1)


def wrong_branch(m: Body, x: torch.Tensor) -> torch.Tensor:
    if not isinstance(x, torch.Tensor):
        x = x * 0.5
    return m.c3(m.c2(m.c1(x)))


def split_and_join(m: Body, x: torch.Tensor) -> torch.Tensor:
    a, b = torch.split(m.c1(x), [1, 3], dim=1)
    return m.c3(m.c2(torch.cat([b, a], 1)))


def repeated_module(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = m.relu(m.c1(x))
    return m.c2(m.relu(m.c2(m.relu(m.c2(y)))))


FORWARDS = [
    unused_in_place_module,
    unused_in_place_function,
    write_to_a_slice,
    write_through_a_view,
    write_to_a_chunk,
    shortcut_around_an_in_place_activation,
    number_that_is_no_multiple,
    number_read_after_the_cut,
    wrong_branch,
    split_and_join,
    repeated_module,
]


@pytest.mark.parametrize("forward", FORWARDS, ids=lambda forward: forward.__name__)
def test_every_cut_is_exact_or_unavailable(forward: Forward) -> None:
    """For batches that the graph was not observed with, so that no number is right by accident."""
    torch.manual_seed(0)
    model = Body(forward).eval()
    graph = ModelGraph(model, (3, 6, 6))
    record = graph.record(all_cuts=True)
    images = torch.randn(5, 3, 6, 6)
    with torch.no_grad():
        expected = model(images.clone())

    assert len(record.cuts) + len(record.unavailable) >= 3
    for cut in record.cuts:
        with torch.no_grad():
            answer = split(graph, cut.name)(images.clone())
        torch.testing.assert_close(answer, expected, rtol=1e-6, atol=1e-7, msg=cut.name)
    names = [cut.name for cut in record.cuts] + [item.name for item in record.unavailable]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("forward", [unused_in_place_module, number_read_after_the_cut, repeated_module])
def test_these_can_all_be_cut_by_default(forward: Forward) -> None:
    """What looks odd but is no obstacle leaves default cuts to choose from."""
    assert len(ModelGraph(Body(forward).eval(), (3, 6, 6)).record().cuts) >= 2


def test_a_model_that_mixes_its_batch_is_refused() -> None:
    """BatchNorm without running statistics uses the batch's, also in evaluation mode."""
    model = Body(lambda m, x: m.c3(m.bn(m.c1(x))))
    model.bn = nn.BatchNorm2d(4, track_running_stats=False)

    with pytest.raises(ModelError, match="depends on the others in its batch"):
        ModelGraph(model.eval(), (3, 6, 6))


def test_of_several_tensors_the_logits_are_found() -> None:
    """By name, else the first N×K: also behind a feature map, and with another N×K beside them."""

    class Several(Body):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            y = self.c2(self.c1(x))
            return y, {"embedding": y.mean((2, 3)), "logits": self.linear(y.mean((2, 3)))}

    record = ModelGraph(Several(lambda m, x: x).eval(), (3, 6, 6)).record()

    assert (3,) == record.output_shape


def test_a_captured_graph_can_be_called() -> None:
    """Also one that torch.export made, with any batch."""
    model = Body(wrong_branch).eval()
    graph = ModelGraph(model, (3, 6, 6))
    for batch in (1, 4):
        images = torch.randn(batch, 3, 6, 6)
        with torch.no_grad():
            torch.testing.assert_close(graph.module(images), model(images))


def test_what_is_not_in_the_table_is_uncounted() -> None:
    """A product that we have no formula for is named, and taken for a step of its own."""

    def tensordot(m: Body, x: torch.Tensor) -> torch.Tensor:
        y = m.c1(x)
        return torch.tensordot(y, m.linear.weight.new_ones(6, 6), dims=([3], [0])) + m.c2(y)

    record = ModelGraph(Body(tensordot).eval(), (3, 6, 6)).record()

    assert 1 == len(record.uncounted)
    assert "tensordot" in record.uncounted[0]


def test_stochastic_depth_comes_back_in_training() -> None:
    """It stays a module of the graph, though it was traced in evaluation mode."""
    from torchvision.ops import StochasticDepth

    class Deep(Body):
        def __init__(self) -> None:
            super().__init__(lambda m, x: x)
            self.depth = StochasticDepth(1.0, "row")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.c1(x)
            return self.linear((y + self.depth(self.c2(y))).mean((2, 3)))

    graph = ModelGraph(Deep(), (3, 6, 6))
    tail = split(graph, "c1").tail
    features = torch.randn(2, 4, 6, 6)

    assert torch.equal(tail.train()(features), graph.module.linear(features.mean((2, 3))))
    assert not torch.equal(tail.eval()(features), graph.module.linear(features.mean((2, 3))))
