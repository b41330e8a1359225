"""isplit.design.inputs.weights: files are read and applied exactly; what is unsafe or does not fit is refused."""

import argparse
import copy
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from isplit.design.inputs.models import load_model
from isplit.design.inputs.weights import apply_weights, fingerprint
from isplit.design.inputs.weights_file import WeightsFile
from isplit.errors import ModelError


def other_values(factory):
    """Return the state of a network like the factory's, whose values are not those it is built with."""
    module = load_model(f"{factory}:make", image_size=16).module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5)
    return dict(module.state_dict())


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_file(factory, tmp_path, kind, dtype):
    """Weights load from each kind of file, cast to the model's precision, and are recorded by hash."""
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in other_values(factory).items()
    }
    path = tmp_path / f"weights.{kind}"
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)

    loaded = load_model(f"{factory}:make", weights=str(path), image_size=16)

    for name, value in loaded.module.state_dict().items():
        assert torch.equal(state[name].to(value.dtype), value)
        assert value.dtype in (torch.float32, torch.int64)
    assert loaded.source.weights_sha256 is not None
    assert str(path) == loaded.source.weights
    assert 64 == len(loaded.source.weights_sha256)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {name: value for name, value in state.items() if "num_batches_tracked" not in name},
    ],
)
def test_wrapped_weights(factory, tmp_path, wrap):
    """The usual wrappers, DataParallel's prefix, and files older than BatchNorm's counter are understood."""
    trained = other_values(factory)
    torch.save(wrap(trained), tmp_path / "w.pth")

    state = load_model(f"{factory}:make", weights=str(tmp_path / "w.pth"), image_size=16).module.state_dict()

    assert trained.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in trained.items())


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "0.weight", "5.bias"), "it lacks 0.weight, 5.bias"),
        (lambda s: s | {"extra.weight": torch.zeros(1)}, "has the unknown extra.weight"),
        (lambda s: {f"a{i}": torch.zeros(1) for i in range(6)}, "has the unknown a0, a1, a2, a3 and 2 more"),
        (lambda s: s | {"0.weight": torch.zeros(5, 3, 5, 5)}, r"0.weight is \(5, 3, 5, 5\), not \(5, 3, 3, 3\)"),
        (
            lambda s: s | {"5.weight": torch.zeros(20, 5), "5.bias": torch.zeros(20)},
            "the weights have 20 outputs, the model 4: pass `num_classes=20`",
        ),
        (lambda s: s | {"1.weight": torch.zeros(7)}, r"is of another model: 1.weight is \(7,\), not \(5,\)"),
        (lambda s: s | {"5.bias": torch.tensor(1.0)}, r"is of another model: 5.bias is \(\), not \(4,\)"),
        (lambda s: s | {"1.num_batches_tracked": torch.zeros(1)}, r"1.num_batches_tracked is \(1,\), not \(\)"),
        (lambda s: s | {"5.bias": torch.full((4,), torch.nan)}, "5.bias holds NaN or infinity"),
        (lambda s: s | {"1.running_var": torch.full((5,), torch.inf)}, "1.running_var holds NaN or infinity"),
        (lambda s: [1, 2], "not a state dictionary of tensors"),
        (lambda s: {"state_dict": Path("x")}, "not a state dictionary of tensors"),
    ],
)
def test_weights_that_do_not_fit(factory, tmp_path, change, message):
    """Weights of another model, damaged ones and ones with more than tensors are refused, with the first few names."""
    torch.save(change(other_values(factory)), tmp_path / "w.pth")

    with pytest.raises(ModelError, match=message):
        load_model(f"{factory}:make", weights=str(tmp_path / "w.pth"), image_size=16)


class Scaled(nn.Module):
    """A layer with a parameter of any shape before its classifier."""

    def __init__(self, shape=()):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))
        self.fc = nn.Linear(3, 2)


@pytest.mark.parametrize(("theirs", "ours"), [((), (1,)), ((1,), ()), ((2, 3), (4, 3))])
def test_parameter_of_another_shape(theirs, ours):
    """A parameter that is not the classifier's says nothing of outputs, whatever its shape or ours."""
    with pytest.raises(ModelError, match=r"w\.pth is of another model: scale is ") as caught:
        apply_weights(Scaled(ours), WeightsFile(Path("w.pth"), {"": Scaled(theirs).state_dict()}))
    assert "num-classes" not in str(caught.value)


def test_auxiliary_classifiers():
    """Classifiers that differ with the last one, in the same way, are outputs too."""

    def net(outputs):
        return nn.ModuleDict({"aux": nn.Linear(3, outputs), "fc": nn.Linear(3, outputs)})

    with pytest.raises(ModelError, match="the weights have 20 outputs, the model 4: pass `num_classes=20`"):
        apply_weights(net(4), WeightsFile(Path("w.pth"), {"": net(20).state_dict()}))


def test_weights_of_lazy_modules():
    """Parameters that have no shape yet take the file's."""
    lazy, trained = nn.LazyLinear(2), nn.Linear(3, 2)

    apply_weights(lazy, WeightsFile(Path("w.pth"), {"": trained.state_dict()}))

    assert fingerprint(trained) == fingerprint(lazy)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_unsafe_pickle(factory, tmp_path):
    """A pickle that would run code is refused and runs none."""
    path, target = tmp_path / "w.pth", tmp_path / "attacked"
    torch.save({"0.weight": Attack(str(target))}, path)
    plain = tmp_path / "p.pt"
    plain.write_bytes(pickle.dumps(Attack(str(target)), protocol=2))

    for file in (path, plain):
        with pytest.raises(ModelError, match="unsafe to load"):
            load_model(f"{factory}:make", weights=str(file), image_size=16)
    assert not target.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 64, b"PK\x03\x04" + bytes(60)])
def test_damaged_weights(factory, tmp_path, name, content):
    """A file that is no file of weights is an error that names it."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelError, match=name):
        load_model(f"{factory}:make", weights=str(tmp_path / name), image_size=16)


def test_weights_that_are_not_there(factory, tmp_path):
    """A missing file and another kind of file are errors."""
    with pytest.raises(ModelError, match="there is no file of weights"):
        load_model(f"{factory}:make", weights=str(tmp_path / "gone.pth"), image_size=16)
    (tmp_path / "w.h5").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"not 'w\.h5'"):
        load_model(f"{factory}:make", weights=str(tmp_path / "w.h5"), image_size=16)


def test_fingerprint_follows_every_bit():
    """The fingerprint changes with one value, with a dtype and with a name, and not with memory layout."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = fingerprint(net)

    assert before == fingerprint(copy.deepcopy(net).to(memory_format=torch.channels_last))
    assert before != fingerprint(copy.deepcopy(net).double())
    assert before != fingerprint(nn.Sequential(nn.Identity(), *copy.deepcopy(net)))
    assert fingerprint(copy.deepcopy(net).bfloat16()) != fingerprint(copy.deepcopy(net).half())
    with torch.no_grad():
        net.get_buffer("1.num_batches_tracked").add_(1)
    assert before != fingerprint(net)


def test_vgg16_trunk(tmp_path):
    """The fp16 file of VGG16's convolutions loads into a factory's network; alone it does not fit all of VGG16."""
    folder = os.environ.get("ISPLIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the environment variable ISPLIT_DATA does not name the folder of real data")
    path = Path(folder) / "vgg16-imagenet-trunk-fp16.safetensors"
    (tmp_path / "trunk.py").write_text(
        "from torch import nn\nfrom torchvision.models.vgg import cfgs, make_layers\n\n\n"
        'def make():\n    return nn.Sequential(*make_layers(cfgs["D"]), nn.Flatten())\n'
    )

    loaded = load_model(f"{tmp_path}/trunk.py:make", weights=str(path), image_size=32)

    assert 512 == loaded.source.num_outputs
    assert 14_714_688 == loaded.source.parameters


class Shared(nn.Module):
    """A network whose second layer is its first."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)
        self.second = self.first
        self.preprocessing = {"image_size": 16}

    def forward(self, x):
        x = torch.relu(self.first(torch.relu(self.stem(x))))
        return self.last(torch.relu(self.second(x)).mean((2, 3)))


def prefixed(state, prefix):
    return {prefix + name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize(
    ("name", "wrap", "notice"),
    [
        ("a.pth", lambda s: prefixed(s, "_orig_mod."), None),
        ("a.pth", lambda s: {"state_dict": prefixed(s, "model."), "epoch": 1}, "prefix 'model.' was taken"),
        ("a.ckpt", lambda s: {"state_dict": prefixed(s, "net._orig_mod."), "epoch": 1}, "prefix 'net.'"),
        ("a.pth", lambda s: prefixed(s, "_fsdp_wrapped_module."), None),
        (
            "a.pth",
            lambda s: {k.replace("stem.", "stem._checkpoint_wrapped_module."): v.clone() for k, v in s.items()},
            None,
        ),
        ("a.pt", lambda s: {"model_state_dict": s, "optimizer_state_dict": {}, "loss": 0.1}, None),
        ("a.pth", lambda s: {"net": s, "acc": 93.1}, None),
        ("a.bin", lambda s: s, None),
        ("a.tar", lambda s: {"state_dict": prefixed(s, "module."), "arch": "resnet"}, "prefix 'module.'"),
        ("a.pth", lambda s: {"state_dict_ema": s}, None),
        (
            "a.pth",
            lambda s: {"model": s, "model_ema": {k: v + 1 for k, v in s.items()}},
            "those under 'model' are taken",
        ),
        ("a.pth", lambda s: {"state_dict": prefixed(s, "model.") | {"loss.weight": torch.ones(4)}}, "1 tensors"),
        ("a.pth", lambda s: {"model": s, "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
        ("a.pth", lambda s: {k: v.half() for k, v in s.items()}, "are float16 and were cast"),
        ("a.pth", lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(8)}}}}, None),
    ],
)
def test_weights_as_frameworks_save_them(tmp_path, name, wrap, notice):
    """What maps one to one onto the model's names is loaded, and what was done for that is said."""
    trained = Shared()
    torch.save(wrap(trained.state_dict()), tmp_path / name)

    loaded = load_model(Shared(), weights=str(tmp_path / name))

    for key, value in trained.state_dict().items():
        torch.testing.assert_close(loaded.module.state_dict()[key], value, rtol=1e-3, atol=1e-3)
    if notice is not None:
        assert any(notice in text for text in loaded.notices), loaded.notices


def test_safetensors_with_shared_tensors_and_prefix(tmp_path):
    """Safetensors keeps one name of a shared tensor; the other is filled in."""
    trained = Shared()
    save_model(trained, str(tmp_path / "shared.safetensors"))
    save_file(prefixed(trained.state_dict(), "module."), tmp_path / "prefixed.safetensors")

    for name in ("shared", "prefixed"):
        loaded = load_model(Shared(), weights=str(tmp_path / f"{name}.safetensors"))
        assert fingerprint(trained) == fingerprint(loaded.module)


def test_weights_of_the_inner_model(tmp_path):
    """A file of what a wrapper holds fits the wrapper."""

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Shared()
            self.preprocessing = {"image_size": 16}

        def forward(self, x):
            return self.backbone(x)

    trained = Shared()
    torch.save(trained.state_dict(), tmp_path / "w.pth")

    loaded = load_model(Wrapper(), weights=str(tmp_path / "w.pth"))

    assert fingerprint(trained) == fingerprint(loaded.module.backbone)
    assert any("'backbone.' was added" in notice for notice in loaded.notices)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {k: v.to(torch.int8) for k, v in s.items()},
        lambda s: s | {"last.qweight": torch.zeros(3, dtype=torch.int32)},
    ],
)
def test_quantised_weights_are_refused_in_words(tmp_path, wrap):
    """They are not the model's own numbers."""
    torch.save(wrap(Shared().state_dict()), tmp_path / "w.pth")

    with pytest.raises(ModelError, match="holds quantised weights"):
        load_model(Shared(), weights=str(tmp_path / "w.pth"))
