"""Which of a model's outputs are logits, and how a model is called."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.design.graph.outputs import (
    ModelCall,
    are_probabilities,
    as_matrix,
    image_keyword,
    logits_of,
    outputs_of,
)
from isplit.design.inputs.models import load_model


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4,), (4, 1)), ((4, 7), (4, 7)), ((4, 7, 1, 1), (4, 7)), ((4, 7, 1, 2), None), ((), None)],
)
def test_as_matrix(shape, expected):
    """A vector is one logit per image, N×K×1×1 a convolution as classifier; maps and numbers are no logits."""
    matrix = as_matrix(torch.zeros(shape))
    assert expected == (None if matrix is None else tuple(matrix.shape))


def test_outputs():
    """Tensors with a row for each image, in order; vectors of one number count only where there is no matrix."""
    two, three, vector = torch.zeros(4, 2), torch.zeros(4, 3), torch.zeros(4)
    assert [2, 3] == [output.width for output in outputs_of((two, {"loss": torch.zeros(1), "a": three}, vector), 4)]
    assert [1] == [output.width for output in outputs_of(vector, 4)]


class _Slotted:
    __slots__ = ("logits", "name")

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits, self.name = logits, "answer"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (SimpleNamespace(features=torch.zeros(4, 5), logits=torch.zeros(4, 3)), ["features", "logits"]),
        ((SimpleNamespace(out=torch.zeros(4, 3)), None), ["0.out"]),
        (_Slotted(torch.zeros(4, 3)), ["logits"]),
        (SimpleNamespace(scores=torch.zeros(4, 3)), []),
        (nn.Linear(4, 4), []),
    ],
)
def test_an_object_with_logits_is_an_output(output, expected):
    """The tensors of a plain object count where one of them is called "logits" or "out"; other objects are left."""
    assert expected == [output.name for output in outputs_of(output, 4)]


def test_an_object_with_logits_is_taken_like_a_dict():
    """The logits of a plain object are found and captured, and can be chosen by name."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, images: torch.Tensor) -> SimpleNamespace:
            embedding = self.conv(images).relu().mean((2, 3))
            return SimpleNamespace(embedding=embedding, logits=self.linear(embedding))

    model, images = Model().eval(), torch.randn(2, 3, 8, 8)
    graph = ModelGraph(model, (3, 8, 8))
    torch.testing.assert_close(graph.module(images), model(images).logits)
    assert 4 == load_model(model, image_size=8, output="embedding").source.num_outputs
    assert 3 == load_model(model, image_size=8).source.num_outputs
    assert [] == outputs_of(torch.zeros(3, 2), 4)


class Scaled(torch.nn.Module):
    def forward(self, x, scale, prompt, number):
        return x * scale.reshape(-1, 1, 1, 1) * number + prompt.sum((1, 2)).reshape(-1, 1, 1, 1)


def test_further_inputs_are_repeated_for_every_image():
    """Tensors whose first dimension is 1 have a row for each image, be they vectors; all else is passed as it is."""
    prompt, pair = torch.rand(1, 2, 3), torch.rand(2, 3)
    call = ModelCall(extra_inputs={"scale": torch.tensor([2.0]), "prompt": prompt, "number": 3, "pair": pair})

    given = call.keywords(Scaled(), torch.zeros(4, 3, 2, 2))

    assert [2.0] * 4 == given["scale"].tolist()
    torch.testing.assert_close(given["prompt"], prompt.repeat(4, 1, 1))
    assert (3, True) == (given["number"], given["pair"] is pair)
    assert [(4, 2, 3)] == [tuple(call.keywords(Scaled(), torch.zeros(4, 1))[name].shape) for name in ("prompt",)]


@pytest.mark.parametrize(
    ("expected", "answers"),
    [
        (True, [[0.25, 0.75], [1.0, 0.0]]),
        (True, [[0.2505, 0.75]]),
        (False, [[0.252, 0.75]]),
        (False, [[0.25, 0.75], [0.5, 0.4]]),
        (False, [[-0.25, 1.25]]),
        (False, [[0.5, -0.5, 1.0]]),
        (False, [[float("nan"), 1.0]]),
        (False, [[float("inf"), 0.0]]),
        (True, [[0.0], [0.3], [1.0]]),
        (False, [[0.3], [1.01]]),
        (False, [[0.3], [-0.01]]),
    ],
)
def test_are_probabilities(expected, answers):
    """Numbers from 0 to 1 whose rows sum to 1, to a thousandth; a single one a row need not be 1."""
    assert expected is are_probabilities(torch.tensor(answers))


def test_logits_of_probabilities():
    """Logarithms, of one probability against its opposite; 0 and 1 give large numbers, and no infinite ones."""
    torch.testing.assert_close(logits_of(torch.tensor([[0.25, 0.75]])), torch.tensor([[0.25, 0.75]]).log())
    torch.testing.assert_close(logits_of(torch.tensor([[0.75], [0.5]])), torch.tensor([[3.0], [1.0]]).log())
    certain = logits_of(torch.tensor([[0.0], [1.0]]))
    assert torch.isfinite(certain).all()
    assert float(certain[0]) < -15
    assert float(certain[1]) > 15
    assert -16.2 < float(logits_of(torch.tensor([[0.0, 1.0]]))[0, 0]) < -16.1


def _first(self, images, scale=1):
    return images


def _keyword_only(self, *, images, scale=1):
    return images


def _in_the_middle(self, prompt, pixel_values, scale=1):
    return pixel_values


@pytest.mark.parametrize(
    ("forward", "keyword"),
    [
        (_first, None),
        (_keyword_only, "images"),
        (_in_the_middle, "pixel_values"),
        (lambda self: None, None),
    ],
)
def test_images_are_passed_by_name_only_where_they_must_be(forward, keyword):
    """A first parameter takes them by position; a keyword-only one and `pixel_values` behind others by name."""
    model = type("Net", (torch.nn.Module,), {"forward": forward})()
    images = torch.zeros(2, 1, 3, 3)

    assert keyword == image_keyword(model)
    assert (() if keyword else (images,)) == ModelCall().positional(model, images)
    assert ({keyword: images} if keyword else {}) == ModelCall().keywords(model, images)
