"""A copy of a model uses nothing of the original, whatever its hooks and functions refer to."""

import functools

import pytest
import torch
from torch import nn

from isplit.design.inputs.private_copy import private_copy


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    model.scale = nn.Parameter(torch.tensor(2.0))
    return model


def hook_with_the_model(model: nn.Sequential) -> None:
    model[2].register_forward_hook(lambda module, inputs, output: output * model.scale)


def hook_with_a_parameter(model: nn.Sequential) -> None:
    scale = model.scale
    model[3].register_forward_pre_hook(lambda module, inputs: (inputs[0] * scale,))


def hook_with_a_default(model: nn.Sequential) -> None:
    model[2].register_forward_hook(lambda module, inputs, output, owner=model: output * owner.scale)


def hook_with_a_partial(model: nn.Sequential) -> None:
    def scaled(owner, module, inputs, output):
        return output * owner.scale

    model[2].register_forward_hook(functools.partial(scaled, model))


def hook_with_a_function_of_the_model(model: nn.Sequential) -> None:
    def scaled(tensor):
        return tensor * model.scale

    model[2].register_forward_hook(lambda module, inputs, output: scaled(output))


def hook_with_a_list(model: nn.Sequential) -> None:
    parts = [model, "scale"]
    model[2].register_forward_hook(lambda module, inputs, output: output * getattr(*parts))


def hook_with_a_global_name(model: nn.Sequential) -> None:
    scope = {"network": model}
    exec("def hook(module, inputs, output): return output * network.scale", scope)
    model[2].register_forward_hook(scope["hook"])


def replaced_forward(model: nn.Sequential) -> None:
    def forward(images):
        return model[4](model[3](model[2](model[1](model[0](images))) * model.scale))

    model.forward = forward


@pytest.mark.parametrize(
    "change",
    [
        hook_with_the_model,
        hook_with_a_parameter,
        hook_with_a_default,
        hook_with_a_partial,
        hook_with_a_function_of_the_model,
        hook_with_a_list,
        hook_with_a_global_name,
        replaced_forward,
    ],
)
def test_a_copy_follows_its_own_values(change):
    """Other values in the original change nothing in the copy, and the copy's own values do."""
    model = network()
    change(model)
    copied, notices = private_copy(model)
    copied.eval()
    images = torch.randn(2, 3, 6, 6)
    before = copied(images)

    with torch.no_grad():
        model.scale.fill_(5.0)
    assert torch.equal(before, copied(images))

    with torch.no_grad():
        copied.scale.fill_(0.0)
    assert torch.equal(copied[4].bias.expand(2, 3), copied(images))
    assert [] == notices
    assert model.training
    assert 0 == model[1].num_batches_tracked


def test_a_function_without_a_part_of_the_model_stays():
    """Functions that refer to other things only are not copied."""
    model, lines = network(), []

    def note(module, inputs, output):
        lines.append(tuple(output.shape))

    model[0].register_forward_hook(note)
    copied, _ = private_copy(model)
    copied(torch.randn(2, 3, 6, 6))

    assert [note] == list(copied[0]._forward_hooks.values())
    assert [(2, 4, 4, 4)] == lines
