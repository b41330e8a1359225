"""Models of two branches on one image, as siamese networks are that see two crops of it."""

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph, split


class Siamese(nn.Module):
    """A trunk on two crops of an image, whose features `join` brings together before the last layer."""

    def __init__(self, join, features):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU()
        )
        self.join = join
        self.last = nn.Linear(features, 5)

    def forward(self, x):
        left, right = self.trunk(x[..., :8]), self.trunk(x[..., 8:])
        return self.last(self.join(left, right))


class OneBatch(Siamese):
    """The crops are put into one batch for the trunk, and taken apart after it."""

    def forward(self, x):
        left, right = self.trunk(torch.cat([x[..., :8], x[..., 8:]])).chunk(2)
        return self.last(self.join(left, right))


class TwoTrunks(Siamese):
    """Each crop has a trunk of its own."""

    def __init__(self, join, features):
        super().__init__(join, features)
        self.other = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())

    def forward(self, x):
        return self.last(self.join(self.trunk(x[..., :8]), self.other(x[..., 8:])))


def added(left, right):
    return (left + right).mean((2, 3))


def concatenated(left, right):
    return torch.cat([left, right], 1).mean((2, 3))


def stacked(left, right):
    return torch.stack([left, right], 1).amax(1).mean((2, 3))


def side_by_side(left, right):
    return torch.cat([left, right], 3).mean((2, 3))


def compared(left, right):
    return (left - right).abs().mean((2, 3))


JOINS = [
    (added, 6, ":add_1"),
    (concatenated, 12, ":cat_1"),
    (stacked, 6, ":stack_1"),
    (side_by_side, 6, ":cat_1"),
    (compared, 6, ":sub_1"),
]


def check_exact(model, graph, cuts):
    """Check every cut on a batch of another size than the graph has seen."""
    images = torch.randn(5, 3, 8, 16)
    with torch.no_grad():
        expected = model(images)
        for cut in cuts:
            torch.testing.assert_close(split(graph, cut.name)(images), expected, rtol=1e-6, atol=1e-6, msg=cut.name)


@pytest.mark.parametrize(("join", "features", "name"), JOINS)
@pytest.mark.parametrize("kind", [Siamese, TwoTrunks])
def test_cuts_from_where_the_branches_meet(kind, join, features, name):
    """The model is captured as it is; the first default cut is the join, and all of them are exact."""
    torch.manual_seed(0)
    model = kind(join, features).eval()
    graph = ModelGraph(model, (3, 8, 16))
    record = graph.record()

    assert "torch.fx" == record.captured_by
    assert (name, ":mean_1") == (record.cuts[0].name, record.cuts[-1].name)
    assert () == tuple(record.unavailable)
    check_exact(model, graph, record.cuts)


@pytest.mark.parametrize(("join", "features", "name"), JOINS)
def test_crops_in_one_batch(join, features, name):
    """Where both crops of all images are one batch no single image can cross; the places are listed with the reason."""
    torch.manual_seed(0)
    model = OneBatch(join, features).eval()
    graph = ModelGraph(model, (3, 8, 16))
    record = graph.record()

    assert {"trunk.0", "trunk.1", "trunk.2", "trunk.3", "trunk.4"} < {place.name for place in record.unavailable}
    assert all("is the batch (2 images give shape (4, " in place.reason for place in record.unavailable)
    assert len(record.cuts) >= 2
    check_exact(model, graph, record.cuts)


def test_cuts_inside_branches():
    """Among all cuts there are some inside: what crosses then is a tensor of each branch, and they are exact too."""
    torch.manual_seed(0)
    model = TwoTrunks(added, 6).eval()
    graph = ModelGraph(model, (3, 8, 16))
    record = graph.record(all_cuts=True)

    assert any(len(cut.crossing) == 2 for cut in record.cuts)
    check_exact(model, graph, record.cuts)
