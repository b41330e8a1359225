"""Which of a model's outputs are logits, and how a model is called."""

import pytest
import torch

from isplit.design.graph.outputs import ModelCall, as_matrix, outputs_of


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
    two, three, one = torch.zeros(4, 2), torch.zeros(4, 3), torch.zeros(4)
    assert [2, 3] == [output.width for output in outputs_of((two, {"loss": torch.zeros(1), "a": three}, one), 4)]
    assert [1] == [output.width for output in outputs_of(one, 4)]
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
