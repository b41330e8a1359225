"""One contract that every importance method meets, and Grad-CAM's numbers by hand and against captum."""

from dataclasses import dataclass

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.methods import METHODS, cam, check_scores, method_fingerprint, resolve_method
from isplit.errors import InputError

MAPS = (4, 6, 5, 7)


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(MAPS, generator=generator).relu(), torch.randn(MAPS, generator=generator)


@pytest.mark.parametrize("name", METHODS)
class TestContract:
    def test_one_value_per_image_at_least_zero(self, name: str, tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Float32, one per image, and not all alike."""
        scores = METHODS[name].score(*tensors, 1)

        assert (4,) == scores.shape
        assert torch.float32 == scores.dtype
        assert (scores >= 0).all()
        assert len(scores.unique()) == 4

    def test_an_image_scores_alone_what_it_scores_in_a_batch(
        self, name: str, tensors: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        """No image sees another."""
        activation, gradient = tensors
        alone = torch.cat([METHODS[name].score(a[None], g[None], 1) for a, g in zip(activation, gradient, strict=True)])

        torch.testing.assert_close(alone, METHODS[name].score(activation, gradient, 1))

    def test_layouts_agree(self, name: str, tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Channels first, channels-last memory, channels-last shape, tokens and a view of them give the same score."""
        expected = METHODS[name].score(*tensors, 1)
        last = [tensor.to(memory_format=torch.channels_last) for tensor in tensors]
        shaped = [tensor.permute(0, 2, 3, 1).contiguous() for tensor in tensors]
        tokens = [tensor.flatten(1, 2) for tensor in shaped]
        views = [tensor.flatten(2).transpose(1, 2) for tensor in tensors]

        torch.testing.assert_close(METHODS[name].score(*last, 1), expected)
        torch.testing.assert_close(METHODS[name].score(*shaped, -1), expected)
        torch.testing.assert_close(METHODS[name].score(*tokens, -1), expected)
        torch.testing.assert_close(METHODS[name].score(*views, -1), expected)

    def test_no_gradient_no_importance(self, name: str, tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
        """A tensor that the decision does not depend on scores zero."""
        assert [0.0] * 4 == METHODS[name].score(tensors[0], torch.zeros(MAPS), 1).tolist()

    def test_non_finite_values_are_not_hidden(self, name: str, tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
        """One NaN in the gradient makes that image's score NaN, and no other's."""
        activation, gradient = tensors
        gradient[2, 0, 0, 0] = torch.nan

        assert [False, False, True, False] == METHODS[name].score(activation, gradient, 1).isnan().tolist()


def test_cam_by_hand() -> None:
    """Two channels of 1×2: alpha is the mean gradient, L the ReLU of the channel mean of alpha times activation."""
    activation = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    gradient = torch.tensor([[[[2.0, 4.0]], [[-1.0, -3.0]]]])
    # alpha = (3, -2): L = ReLU(((3·1 - 2·3) / 2, (3·2 - 2·0) / 2)) = (0, 3).

    assert [[0.0, 3.0]] == cam(activation, gradient, 1).tolist()
    assert [1.5] == METHODS["cui"].score(activation, gradient, 1).tolist()
    # |2|, |8|, |-3|, 0 over four; 4 + 16 + 1 + 9 over four.
    assert [3.25] == METHODS["gradient-activation"].score(activation, gradient, 1).tolist()
    assert [7.5] == METHODS["gradient-energy"].score(activation, gradient, 1).tolist()


def test_cam_sums_gradients_without_loss() -> None:
    """Float64 gradients are summed in float64, and bfloat16 ones in float32, so that small ones are not lost."""
    gradient = torch.tensor([[[1.0, 1e-9, -1.0]]], dtype=torch.float64)
    expected = torch.tensor([[1e-9 / 3, 0.0, 0.0]])
    torch.testing.assert_close(
        cam(torch.eye(3, dtype=torch.float64)[:1][None], gradient, 1), expected, rtol=1e-6, atol=0
    )

    # 257 / 5 = 51.4 is 51.5 in bfloat16, whose numbers are 0.25 apart there; 257 itself would become 256: 51.25.
    gradient = torch.tensor([[[256.0, 1.0, 0.0, 0.0, 0.0]]], dtype=torch.bfloat16)
    activation = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]], dtype=torch.bfloat16)
    assert [[51.5, 0.0, 0.0, 0.0, 0.0]] == cam(activation, gradient, 1).tolist()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_cui_is_captum_s_grad_cam(memory_format: torch.memory_format) -> None:
    """At every convolutional cut, in float64, to 1e-5: captum sums over the channels where I-SPLIT takes the mean."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3),
        nn.BatchNorm2d(12),
        nn.ReLU(),
    ]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 36, 5)).double().eval().to(memory_format=memory_format)
    model[4].running_mean.normal_()
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    # The graph is observed in float32; the same modules then run in float64.
    graph = ModelGraph(model.float(), (3, 16, 16))
    model.double()
    cuts = graph.record().cuts

    _, scores = GradientPass(graph, cuts)(
        images,
        lambda logits: logits.gather(1, labels[:, None]).sum(),
        lambda a, g, cut: cam(a, g, cut.channel_axis or 1).mean(1),
    )

    assert ["1", "2", "5"] == [cut.name for cut in cuts]
    for cut, score in zip(cuts, scores, strict=True):
        layer = model.get_submodule(cut.name)
        attribution = LayerGradCam(model, layer).attribute(images, labels, relu_attributions=True)
        assert isinstance(attribution, torch.Tensor)
        expected = attribution.mean((1, 2, 3)) / cut.shape[0]
        torch.testing.assert_close(score.double(), expected.detach(), rtol=1e-5, atol=0)


class Halves:
    """A method of a user's own: constant scores, as many as are asked for."""

    name = "halves"

    def __init__(self, scores=None):
        self.scores = scores

    def __call__(self, passes):
        return torch.full((len(passes.images), len(passes.cuts)), 0.5) if self.scores is None else self.scores


def test_method_is_resolved_by_name_file_or_itself(tmp_path):
    """A name, a class or an object in a file, and an object are all methods."""
    path = tmp_path / "mine.py"
    path.write_text(
        "class Mine:\n    name = 'mine'\n    def __call__(self, passes):\n        return 1\nready = Mine()\n"
    )

    halves = Halves()
    assert METHODS["cui"] is resolve_method("cui")
    assert halves is resolve_method(halves)
    assert ["mine", "mine"] == [resolve_method(f"{path}:{name}").name for name in ("Mine", "ready")]


@pytest.mark.parametrize("method", [3, nn.ReLU(), "nothing.py:Mine"])
def test_what_is_no_method_is_refused(method):
    """An object without a name, or a file that is not there."""
    with pytest.raises(InputError, match=r"is not an importance method|cannot be imported"):
        resolve_method(method)


def test_fingerprint_changes_with_code_and_parameters():
    """Isplit's own methods are known by name; others by their source and what their repr shows."""

    @dataclass(frozen=True)
    class Shown(Halves):
        scores: float = 1.0

    assert "cui" == method_fingerprint(METHODS["cui"])
    assert method_fingerprint(Shown()) == method_fingerprint(Shown())
    assert 4 == len({method_fingerprint(method) for method in (Shown(), Shown(2.0), Halves(), METHODS["cui"])})


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (torch.ones(2, 2), r"gave \(2, 2\) for 2 images and 3 cuts"),
        (torch.tensor([[1.0, 2.0, -0.25], [1.0, 1.0, 1.0]]), r"below 0 \(-0.25\)"),
        ([1.0], "gave list"),
    ],
)
def test_scores_of_another_shape_or_sign_are_refused(scores, says):
    """The method is named, with what it gave."""
    with pytest.raises(InputError, match=f"'halves'.*{says}"):
        check_scores(Halves(), scores, images=2, cuts=3)


def test_scores_of_zero_and_nan_are_kept():
    """Zero is a score, and NaN is for the curve to report."""
    scores = torch.tensor([[0.0, float("nan")]])
    torch.testing.assert_close(check_scores(Halves(), scores, images=1, cuts=2), scores.double(), equal_nan=True)
