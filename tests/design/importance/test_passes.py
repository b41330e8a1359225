"""What an importance method can ask of the model: gradients, activations, and decisions after a change."""

import pytest
import torch
from torch import nn

from isplit.design.class_subsets import ClassSubset
from isplit.design.graph import ModelGraph
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.passes import ImagePasses
from isplit.records import ClassGroup


@pytest.fixture
def passes() -> ImagePasses:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(80, 3),
    ).eval()
    graph = ModelGraph(model, (3, 6, 6))
    cuts = [cut for cut in graph.record().cuts if cut.has_positions]
    group = ClassGroup(name="all", classes=("a", "b", "c"), members=(("a",), ("b",), ("c",)))
    return ImagePasses(
        gradient_pass=GradientPass(graph, cuts),
        images=torch.randn(4, 3, 6, 6),
        labels=torch.tensor([0, 2, 1, 2]),
        classes=ClassSubset(group, group.classes, (0, 1, 2)),
        target="correct",
        precision="fp32",
    )


def test_activations_are_what_crosses(passes):
    """In the order of the cuts, and not changed by later operations in place."""
    model = passes.gradient_pass.graph.module
    first = torch.relu(model.get_submodule("0")(passes.images))
    second = torch.relu(model.get_submodule("2")(first))
    for expected, activation in zip((first, second), passes.activations(), strict=True):
        torch.testing.assert_close(activation, expected)


def test_gradients_are_those_of_the_decision(passes):
    """The gradient of the correct class's logit, image by image, by autograd."""
    (first, second) = passes.activations()
    tail = passes.gradient_pass.graph.module.get_submodule("5")
    second.requires_grad_()
    tail(second.flatten(1)).gather(1, passes.labels[:, None]).sum().backward()
    gradients = passes.gradients(lambda a, g, cut: g.clone())
    torch.testing.assert_close(gradients[1], second.grad)
    assert first.shape == gradients[0].shape


def test_decisions_after_the_model_s_own_tensor_are_its_logits(passes):
    """Nothing changed, nothing moves; with zeros only biases are left."""
    model = passes.gradient_pass.graph.module
    with torch.no_grad():
        expected = model(passes.images).gather(1, passes.labels[:, None]).squeeze(1)
    for cut, activation in zip(passes.cuts, passes.activations(), strict=True):
        torch.testing.assert_close(passes.decisions_after(cut, activation), expected)
    zeros = passes.decisions_after(passes.cuts[-1], torch.zeros(4, 5, 4, 4))
    torch.testing.assert_close(zeros, model.get_submodule("5").bias.detach()[passes.labels])


def test_other_images(passes):
    """Passes over images on the way from black see those images."""
    black = passes.activations(images=torch.zeros_like(passes.images))[0]
    torch.testing.assert_close(black[0], black[3])
