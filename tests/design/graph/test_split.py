"""Head and tail."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph, split
from isplit.design.graph.split import segment
from isplit.design.inputs.models import load_model
from isplit.errors import ModelError
from tests.design.graph.nets import Residual, Tokens, TwoLayers, both_layouts


def test_a_cut_before_an_in_place_operation_is_exact() -> None:
    """The tail overwrites what it was given, and nothing else."""
    model = TwoLayers().eval()
    images = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(images), split(ModelGraph(model, (3, 8, 8)), "conv")(images))


def test_sides_share_the_model_s_own_parameters_and_train() -> None:
    """BatchNorm and dropout stay modules: a tail in training mode updates the model's own statistics."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)
    )
    sides = split(ModelGraph(model, (3, 2, 2)), "1")

    tail = sides.tail.train()
    tail(torch.randn(8, 4, 2, 2))

    assert int(model[3].num_batches_tracked) == 1
    assert {id(p) for p in model.parameters()} == {id(p) for s in (sides.head, sides.tail) for p in s.parameters()}


def test_several_tensors_cross_inside_a_block() -> None:
    """The shortcut crosses beside the branch, and the head hands out both."""
    model = Residual().eval()
    graph = ModelGraph(model, (3, 4, 4))
    cut = graph.record(all_cuts=True).cut("conv1")
    images = torch.randn(2, 3, 4, 4)

    assert 2 == len(cut.crossing)
    assert sum(tensor.bytes for tensor in cut.crossing) == cut.bytes
    with torch.no_grad():
        assert torch.equal(model(images), split(graph, "conv1")(images))


def test_the_tail_takes_the_batch_from_what_crosses() -> None:
    """A tail works for any batch, though the model read the batch from the image."""
    model = Tokens().eval()
    graph = ModelGraph(model, (3, 8, 8))
    for cut in graph.record(all_cuts=True).cuts:
        sides = split(graph, cut.name)
        for batch in (1, 5):
            images = torch.randn(batch, 3, 8, 8)
            with torch.no_grad():
                assert torch.equal(model(images), sides(images)), cut.name


def test_unknown_cut_lists_the_cuts() -> None:
    """The message gives the names to choose from."""
    with pytest.raises(ModelError, match=r"no cut 'conv9'; its default cuts are: relu, pool"):
        split(ModelGraph(TwoLayers(), (3, 8, 8)), "conv9")


def test_segments_one_after_the_other(tiny_model_file):
    """What the segments between three cuts compute in turn is what the model computes, bit for bit."""
    model = load_model(f"{tiny_model_file}:build")
    graph = model.graph(keep_layout=True)
    images = torch.randn(3, 3, 16, 16)
    crossing = images
    for start, end in pairwise([None, "pool1", "relu2", "pool2", None]):
        crossing = segment(graph, start, end)(crossing)
    assert torch.equal(model.module.eval()(images), crossing)
    assert torch.equal(crossing, segment(graph, None, None)(images))


@pytest.mark.parametrize(("start", "end"), [("pool2", "pool1"), ("pool1", "pool1"), ("pool1", "nowhere")])
def test_no_segment_between_cuts(tiny_model_file, start, end):
    """Cuts in the wrong order, twice the same or unknown are refused."""
    graph = load_model(f"{tiny_model_file}:build").graph()
    with pytest.raises(ModelError, match=start if end != "nowhere" else end):
        segment(graph, start, end)


def test_segments_where_the_batch_is_the_second_dimension():
    """What crosses has the images first, and segments compute what the network computes for any number of them."""
    _, network = both_layouts()
    graph = ModelGraph(network, (3, 16, 16))
    names = [point.name for point in graph.default_points]
    images = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        crossing = images
        for start, end in pairwise((None, *names, None)):
            crossing = segment(graph, start, end)(crossing)
            assert 5 == len(crossing)
        assert torch.equal(graph.module(images), crossing)
