"""The copy of a user's model: without wrappers, in evaluation mode, in float32; the user's own stays as it was."""

import pytest
import torch
from torch import nn

from isplit.design.inputs.private_copy import in_float32, prepare, private_copy, unwrap


class Stubborn(nn.Linear):
    """Refuses to be copied."""

    def __deepcopy__(self, memo):
        raise RuntimeError("there is only one of me\nand no other")


def test_wrappers_are_taken_off():
    """However many there are around it; a module of another name that holds one is no wrapper."""
    net = nn.Linear(2, 2)

    assert net is unwrap(net)
    assert net is unwrap(nn.DataParallel(net))
    assert net is unwrap(nn.DataParallel(nn.DataParallel(net)))
    holder = nn.Module()
    holder.module = net
    assert holder is unwrap(holder)


def test_copy_is_its_own():
    """What is done to the copy does not reach the model."""
    net = nn.Linear(2, 2)
    copied, notices = private_copy(nn.DataParallel(net))

    assert [] == notices
    assert type(copied) is nn.Linear
    with torch.no_grad():
        copied.weight.zero_()
    assert net.weight.abs().sum() > 0


def test_what_cannot_be_copied_is_used():
    """A notice says so, with the first line of the reason."""
    net = Stubborn(2, 2)
    reason = "there is only one of me"

    copied, notices = private_copy(net)

    assert net is copied
    assert [f"the model cannot be copied ({reason}): it is used itself and stays in evaluation mode"] == notices


def test_prepared():
    """Evaluation mode everywhere, and no parallel parts inside."""
    net = nn.Sequential(nn.DataParallel(nn.BatchNorm2d(2)), nn.Dropout()).train()

    prepare(net)

    assert [nn.BatchNorm2d, nn.Dropout] == [type(child) for child in net]
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize(
    ("dtype", "works", "expected", "notices"),
    [
        (torch.float32, False, torch.float32, []),
        (torch.float16, True, torch.float16, []),
        (torch.float16, False, torch.float32, ["the model's float16 parameters were cast to float32"]),
        (torch.bfloat16, False, torch.float32, ["the model's bfloat16 parameters were cast to float32"]),
    ],
)
def test_cast_only_where_it_must_be(dtype, works, expected, notices):
    """A model of another precision that takes float32 images stays as it is."""
    net = nn.Linear(2, 2).to(dtype)

    def run():
        if not works:
            raise RuntimeError("mat1 and mat2 must have the same dtype")

    assert notices == in_float32(net, run)
    assert expected is net.weight.dtype


def test_features_of_the_last_run_do_not_prevent_a_copy():
    """Features that a hook has kept, which have a history of gradients, are copied without it."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model.kept = {"features": []}
    model[0].register_forward_hook(lambda module, inputs, output: model.kept["features"].append(output))
    model(torch.zeros(2, 4))

    copied, notices = private_copy(model)

    assert [] == notices
    assert copied is not model
    assert copied.kept["features"][0].grad_fn is None
    copied(torch.zeros(2, 4))
    assert (1, 2) == (len(model.kept["features"]), len(copied.kept["features"]))
