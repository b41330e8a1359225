"""Weights that hold no plain numbers are refused by name: sparse, quantised, nested, and those of the meta device."""

import warnings

import pytest
import torch
from torch import nn

from isplit.design.inputs.models import load_model
from isplit.design.inputs.weights_file import read_weights
from isplit.errors import ModelError


class PackedTensor(torch.Tensor):
    """A tensor that keeps its numbers in two others, as those of torchao do."""

    @staticmethod
    def __new__(cls, integers, scale):
        return torch.Tensor._make_wrapper_subclass(cls, integers.shape, dtype=torch.float32)

    def __init__(self, integers, scale):
        self.integers, self.scale = integers, scale

    def __tensor_flatten__(self):
        return ["integers", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return cls(args[0].integers, args[0].scale)
        raise NotImplementedError(f"{func} is not there for packed tensors")


def net():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model.preprocessing = {"image_size": (16, 16), "channels": 3}
    return model.eval()


def quantised_tensor(shape=(3, 4)):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.zeros(shape), 0.1, 0, torch.qint8)


UNUSUAL = {
    "meta": (lambda: torch.empty((3, 4), device="meta"), "meta device"),
    "sparse": (lambda: torch.eye(3, 4).to_sparse(), r"sparse_coo.*to_dense"),
    "csr": (lambda: torch.eye(3, 4).to_sparse_csr(), r"sparse_csr.*to_dense"),
    "quantised": (quantised_tensor, r"quantised \(torch.qint8\)"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "says"), UNUSUAL.values(), ids=UNUSUAL)
def test_checkpoints(tmp_path, make, says):
    """A file that holds such a tensor is refused with its name, and what to do."""
    torch.save({**net().state_dict(), "3.weight": make()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=rf"w\.pth.*3\.weight.*{says}"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize(("make", "says"), UNUSUAL.values(), ids=UNUSUAL)
def test_models(make, says, saved):
    """So is a model that holds one, also in a buffer that its state dictionary leaves out."""
    model = net()
    del model[3].weight
    model[3].register_buffer("weight", make(), persistent=saved)
    with pytest.raises(ModelError, match=rf"the model: 3\.weight.*{says}"):
        load_model(model)


def test_packed_tensors():
    """Tensors as those of torchao, whose numbers nobody but their class can read, are refused by their class."""
    model = net()
    packed = PackedTensor(torch.zeros((3, 4), dtype=torch.int8), torch.ones(3))
    model[3].weight = nn.Parameter(packed, requires_grad=False)
    with pytest.raises(ModelError, match=r"3\.weight is quantised \(PackedTensor\).*dequantize"):
        load_model(model)


@pytest.mark.filterwarnings("ignore")
def test_quantised_layers():
    """A model whose layers were quantised by torch keeps its weights packed; they are found there."""
    model = torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}, dtype=torch.qint8)
    model.preprocessing = net().preprocessing
    with pytest.raises(ModelError, match=r"3\._packed_params.* is quantised"):
        load_model(model)


def test_a_model_on_the_meta_device():
    """A whole model without numbers is refused as one."""
    with torch.device("meta"):
        model = net()
    with pytest.raises(ModelError, match="meta device, so it holds no numbers"):
        load_model(model)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (torch.full((3, 4), 1 + 2j), "complex64 there and float32"),
        (torch.full((3, 4), 2**24 + 1), "int64 there and float32"),
    ],
    ids=["complex", "whole numbers"],
)
def test_values_that_the_model_cannot_hold(tmp_path, values, says):
    """A tensor that would lose its imaginary part or its range is refused, not cast."""
    torch.save({**net().state_dict(), "3.weight": values}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=rf"w\.pth: 3\.weight is {says} in the model, which cannot hold its values"):
        load_model(net(), weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_another_precision_of_complex_numbers(tmp_path, dtype):
    """Weights of twice the precision are cast to a complex model's, as real ones are."""
    model = net()
    model.register_parameter("filter", nn.Parameter(torch.zeros(4, dtype=torch.complex64), requires_grad=False))
    torch.save({**model.state_dict(), "filter": torch.full((4,), 0.1, dtype=dtype)}, tmp_path / "w.pth")

    loaded = load_model(model, weights=str(tmp_path / "w.pth"))

    assert torch.equal(torch.full((4,), 0.1, dtype=torch.complex64), loaded.module.state_dict()["filter"])


def test_values_of_another_kind_are_told(tmp_path):
    """Whole numbers that a float holds as they are are cast, and a notice says so."""
    torch.save({**net().state_dict(), "3.weight": torch.arange(12).reshape(3, 4)}, tmp_path / "w.pth")
    loaded = load_model(net(), weights=str(tmp_path / "w.pth"))
    assert "the weights in w.pth are int64 and were cast to the model's" in loaded.notices
    assert list(range(12)) == loaded.module.state_dict()["3.weight"].flatten().tolist()


@pytest.mark.filterwarnings("ignore")  # torch means to give TorchScript up
def test_torchscript(tmp_path):
    """A file of TorchScript is no file of weights, and the message says what to save instead."""
    torch.jit.script(net()).save(str(tmp_path / "net.pt"))
    with pytest.raises(ModelError, match=r"net\.pt holds TorchScript.*state_dict\(\)"):
        read_weights(tmp_path / "net.pt")
