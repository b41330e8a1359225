"""isplit.design.models: every kind of model loads, what cannot be used is refused with a reason."""

import builtins
import copy
import json
import os
import pickle
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.data.config import resolve_model_data_config
from torch import nn

from isplit.design.models import LoadedModel, _replace_classifier, find_logits, fingerprint, load_model, match_classes
from isplit.errors import ModelError
from isplit.records import ModelSource, Preprocessing

FACTORY = """
import torch
from torch import nn
from isplit.records import Preprocessing


def make(num_classes=4):
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, num_classes),
    )

def make_fixed():
    return make(4)

def make_grey():
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    net.preprocessing = {"image_size": (20, 24), "mean": [0.4]}
    net.class_names = ["a", "b", "c"]
    return net

def make_told():
    net = make(4)
    net.preprocessing = Preprocessing(
        image_size=(9, 9), resize_size=11, interpolation="bicubic", channels=3, mean=(0.1, 0.2, 0.3), std=(1, 2, 3)
    )
    return net

def make_told_wrong():
    net = make(4)
    net.preprocessing = {"image_sise": 9, "image_size": 9}
    return net

def make_told_nothing():
    net = make(4)
    net.preprocessing = "imagenet"
    return net

def make_four_channels():
    return nn.Sequential(nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))

def make_lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

def make_perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))

def make_trunk():
    return nn.Conv2d(3, 5, 3)

class Wrapped(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = make(4), wrap
    def forward(self, x):
        return self.wrap(self.net(x))

def make_dict():
    return Wrapped(lambda logits: {"features": logits[:, :, None], "logits": logits})

def make_pooled():
    return Wrapped(lambda logits: logits.mean(0, keepdim=True))

def make_text():
    return "vgg16"

def fail():
    raise RuntimeError("no such checkpoint")
"""


@pytest.fixture
def factory(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    return str(path)


def preprocessing_of(**changes):
    fields = {"image_size": (32, 32), "resize_size": 32, "interpolation": "bilinear", "channels": 3}
    return Preprocessing.model_validate(fields | {"mean": (0.0,) * 3, "std": (1.0,) * 3} | changes)


def loaded_model(num_outputs, *, class_names=None):
    source = ModelSource(
        spec="x", weights=None, weights_sha256=None, fingerprint="", num_outputs=num_outputs, parameters=0
    )
    return LoadedModel(module=nn.Identity(), source=source, preprocessing=preprocessing_of(), class_names=class_names)


def saved(loaded, path, *, change=lambda state: state):
    torch.save(change(dict(loaded.module.state_dict())), path)
    return str(path)


# --- torchvision and timm ---


def test_torchvision_model():
    """A name of torchvision gives the network, its own preprocessing, and a warning without weights."""
    loaded = load_model("torchvision:squeezenet1_1", num_classes=7, image_size=64)

    assert not loaded.module.training
    assert 7 == loaded.source.num_outputs
    assert sum(p.numel() for p in loaded.module.parameters()) == loaded.source.parameters
    expected = preprocessing_of(
        image_size=(64, 64), resize_size=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert expected == loaded.preprocessing
    assert loaded.class_names is None
    assert "no weights were given" in loaded.warnings[0]


def test_torchvision_preprocessing_is_that_of_its_weights():
    """Sizes and interpolation come from the transforms that go with the default weights."""
    loaded = load_model("torchvision:mobilenet_v3_small")

    assert (224, 224) == loaded.preprocessing.image_size
    assert 256 == loaded.preprocessing.resize_size
    assert 1000 == loaded.source.num_outputs


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_models_that_warn_about_their_start(factory, tmp_path, name):
    """The two networks that warn when built are built without (warnings are errors here)."""
    path = tmp_path / "wrong.pth"
    torch.save({}, path)

    with pytest.raises(ModelError, match="lacks"):
        load_model(f"torchvision:{name}", weights=str(path), num_classes=3)


def test_timm_model():
    """A name of timm gives the network and its preprocessing."""
    loaded = load_model("timm:test_resnet", num_classes=5)

    config = resolve_model_data_config(loaded.module)
    assert 5 == loaded.source.num_outputs
    assert config["input_size"][1:] == loaded.preprocessing.image_size
    assert int(config["input_size"][1] / config["crop_pct"]) == loaded.preprocessing.resize_size
    assert config["interpolation"] == loaded.preprocessing.interpolation
    assert config["mean"] == loaded.preprocessing.mean
    assert "no weights were given" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:vgg61", r"no classification model 'vgg61' \(did you mean torchvision:vgg"),
        ("torchvision:fcn_resnet50", "no classification model"),
        ("timm:resnet81", r"no model 'resnet81' \(did you mean timm:resnet"),
        ("vgg16", r"is not a model \(did you mean torchvision:vgg16.*torchvision:NAME, timm:NAME"),
        ("no_such_package:make", "ModuleNotFoundError"),
    ],
)
def test_unknown_models(spec, message):
    """An unknown name is answered with close ones."""
    with pytest.raises(ModelError, match=message):
        load_model(spec)


def test_timm_missing(monkeypatch):
    """Without timm the message says what to install."""
    real = builtins.__import__

    def without_timm(name, *arguments, **named):
        if name.split(".")[0] == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_timm)

    with pytest.raises(Exception, match=r"pip install 'isplit\[timm\]'"):
        load_model("timm:resnet18")
    with pytest.raises(ModelError, match=r"ImageNet ids: .*isplit\[timm\]"):
        match_classes(("n02085620", "n02094433"), loaded=loaded_model(1000))


def default_weights(monkeypatch, name):
    """Let the download give a network with other values, and return that network."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        trained = torchvision.models.get_model(name, weights=None)
    enum = type(torchvision.models.get_model_weights(name)["DEFAULT"])
    monkeypatch.setattr(enum, "get_state_dict", lambda self, *_, **__: copy.deepcopy(trained.state_dict()))
    return trained


def test_default_weights(monkeypatch):
    """The default weights come with the names of the outputs, and without a warning."""
    trained = default_weights(monkeypatch, "squeezenet1_1")

    loaded = load_model("torchvision:squeezenet1_1", weights="default", image_size=64)

    assert fingerprint(trained) == loaded.source.fingerprint
    assert loaded.class_names is not None
    assert "Chihuahua" == loaded.class_names[151]
    assert () == loaded.warnings
    assert ("default", None) == (loaded.source.weights, loaded.source.weights_sha256)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_default_weights_with_another_classifier(monkeypatch, name):
    """With another number of outputs, all but a new last layer is trained, and a warning says so."""
    trained = default_weights(monkeypatch, name)

    loaded = load_model(f"torchvision:{name}", weights="default", num_classes=6, image_size=64)

    theirs, ours = trained.state_dict(), loaded.module.state_dict()
    changed = {key.rpartition(".")[0] for key in ours if not torch.equal(theirs[key], ours[key])}
    assert 1 == len(changed)
    assert 6 == loaded.source.num_outputs
    assert loaded.class_names is None
    assert "6 outputs is untrained" in loaded.warnings[0]


def test_auxiliary_classifiers_are_replaced():
    """Auxiliary classifiers get the new number of outputs; inner layers of the same width stay."""
    net = nn.ModuleDict({"mlp": nn.Linear(4, 10), "aux1": nn.Linear(4, 10, bias=False), "fc": nn.Linear(4, 10)})

    _replace_classifier(net, outputs=10, wanted=3)

    assert [(4, 10), (4, 3), (4, 3)] == [(layer.in_features, layer.out_features) for layer in net.values()]
    assert net["aux1"].bias is None
    with pytest.raises(ModelError, match="no classifier of 7 outputs"):
        _replace_classifier(net, outputs=7, wanted=3)


def test_failed_download(monkeypatch):
    """A failed download says where the file belongs and how to pass one."""

    def fail(self, *_, **__):
        raise URLError("no network")

    weights = torchvision.models.get_model_weights("squeezenet1_1")["DEFAULT"]
    monkeypatch.setattr(type(weights), "get_state_dict", fail)

    with pytest.raises(
        ModelError, match=r"no network.*download https://.*checkpoints, or pass the file with --weights"
    ):
        load_model("torchvision:squeezenet1_1", weights="default")


def test_failed_timm_download(monkeypatch):
    """Download errors of timm, whatever their type, say how to pass a file."""

    def fail(*_, **__):
        raise LookupError("no hub")

    monkeypatch.setattr(timm, "create_model", fail)

    with pytest.raises(ModelError, match="LookupError: no hub; pass a file with --weights"):
        load_model("timm:test_resnet", weights="default")


# --- factories ---


def test_factory_with_num_classes(factory):
    """A factory that takes num_classes is given it; the size must be said; mean 0 and std 1 leave [0, 1] as it is."""
    loaded = load_model(f"{factory}:make", num_classes=6, image_size=16)

    assert 6 == loaded.source.num_outputs
    assert preprocessing_of(image_size=(16, 16), resize_size=16) == loaded.preprocessing
    assert () == loaded.warnings


def test_factory_that_says_its_preprocessing(factory):
    """Some fields, or a whole record, on the module are used; what the caller gives wins."""
    grey = load_model(f"{factory}:make_grey")
    told = load_model(f"{factory}:make_told")
    other = load_model(f"{factory}:make_told", image_size=14, mean=[0.5], std=(4, 5, 6))

    expected = preprocessing_of(image_size=(20, 24), resize_size=None, channels=1, mean=(0.4,), std=(1.0,))
    assert expected == grey.preprocessing
    assert ("a", "b", "c") == grey.class_names
    told_fields = {"image_size": (9, 9), "resize_size": 11, "interpolation": "bicubic"}
    assert preprocessing_of(**told_fields, mean=(0.1, 0.2, 0.3), std=(1, 2, 3)) == told.preprocessing
    changed = {"image_size": (14, 14), "resize_size": 14, "interpolation": "bicubic"}
    assert preprocessing_of(**changed, mean=(0.5,) * 3, std=(4, 5, 6)) == other.preprocessing


def test_model_without_convolutions(factory):
    """Without a convolution to tell, images are RGB."""
    assert 3 == load_model(f"{factory}:make_perceptron", image_size=8).preprocessing.channels


def test_output_in_a_dictionary(factory):
    """The first N×K tensor of a structured output counts."""
    assert 4 == load_model(f"{factory}:make_dict", image_size=8).source.num_outputs


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("make", {}, "does not say what images it takes: pass --image-size"),
        ("make", {"image_size": 1}, r"cannot take images of shape \(2, 3, 1, 1\): RuntimeError"),
        ("make", {"image_size": -8}, "sizes must be positive"),
        ("make", {"image_size": 8, "channels": 1}, "takes images of 3 channels, not 1"),
        ("make", {"image_size": 8, "mean": (0.1, 0.2)}, "must have 1 or 3 values"),
        ("make", {"image_size": 8, "std": (0.0,)}, "std be positive"),
        ("make", {"image_size": 8, "num_classes": 1}, "at least 2 outputs"),
        ("make", {"image_size": 8, "weights": "default"}, "has no default weights"),
        ("make_fixed", {"image_size": 8, "num_classes": 9}, "has 4 outputs, not 9"),
        ("make_told_wrong", {}, "image_sise: Extra inputs are not permitted"),
        ("make_told_nothing", {}, "the attribute preprocessing is a str"),
        ("make_four_channels", {"image_size": 8}, "channels: Input should be 1 or 3"),
        ("make_lazy", {"image_size": 8}, "has no shape yet"),
        ("make_trunk", {"image_size": 8}, r"gave \(2, 5, 6, 6\) for two images"),
        ("make_pooled", {"image_size": 8}, r"gave \(1, 4\) for two images"),
        ("make_text", {}, "returned a str, not a torch.nn.Module"),
        ("fail", {}, "RuntimeError: no such checkpoint"),
        ("gone", {}, "has no function 'gone'; it has .*make, "),
    ],
)
def test_unusable_factories(factory, name, arguments, message):
    """What a factory or its caller got wrong is an error that says so."""
    with pytest.raises(ModelError, match=message):
        load_model(f"{factory}:{name}", **arguments)


def test_state_outside_is_left_alone(factory):
    """The random state, the import path and requires_grad are as before."""
    state, path = torch.get_rng_state(), list(sys.path)

    loaded = load_model(f"{factory}:make", image_size=16)

    assert torch.equal(state, torch.get_rng_state())
    assert path == sys.path
    assert all(parameter.requires_grad for parameter in loaded.module.parameters())
    assert load_model(f"{factory}:make", image_size=16).source.fingerprint == loaded.source.fingerprint


# --- weights ---


def other_values(factory):
    with torch.random.fork_rng():
        torch.manual_seed(9)
        return load_model(f"{factory}:make", image_size=16)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_file(factory, tmp_path, kind, dtype):
    """Weights load from each kind of file, cast to the model's precision, and are recorded by hash."""
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in other_values(factory).module.state_dict().items()
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
    path = saved(trained, tmp_path / "w.pth", change=wrap)

    loaded = load_model(f"{factory}:make", weights=path, image_size=16)

    assert trained.source.fingerprint == loaded.source.fingerprint


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
            "the weights have 20 outputs, the model 4: pass --num-classes 20",
        ),
        (lambda s: s | {"5.bias": torch.full((4,), torch.nan)}, "5.bias holds NaN or infinity"),
        (lambda s: s | {"1.running_var": torch.full((5,), torch.inf)}, "1.running_var holds NaN or infinity"),
        (lambda s: s | {"note": "best epoch"}, "not a state dictionary of tensors"),
        (lambda s: [1, 2], "not a state dictionary of tensors"),
        (lambda s: {"state_dict": Path("x")}, "unsafe to load"),
    ],
)
def test_weights_that_do_not_fit(factory, tmp_path, change, message):
    """Weights of another model, damaged ones and ones with more than tensors are refused, with the first few names."""
    path = saved(other_values(factory), tmp_path / "w.pth", change=change)

    with pytest.raises(ModelError, match=message):
        load_model(f"{factory}:make", weights=path, image_size=16)


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
    (tmp_path / "w.h5").write_bytes(b"")
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


def test_find_logits():
    """The first N×K tensor is found in tuples, lists and mappings, nested; without one the answer is None."""
    logits = torch.zeros(2, 3)

    assert logits is find_logits(logits)
    assert logits is find_logits((torch.zeros(2, 3, 4), [logits, torch.zeros(2, 9)]))
    assert logits is find_logits({"a": None, "b": {"c": logits}})
    assert find_logits(torch.zeros(2)) is None
    assert find_logits("text") is None


# --- classes ---


def write_map(tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_as_many_classes_as_outputs():
    """Classes match outputs by position when there are as many and nothing else is known."""
    assert (0, 1, 2) == match_classes(("x", "y", "z"), loaded=loaded_model(3))


def test_classes_by_name():
    """The names of the outputs win over position: by class name, title, or the title's first synonym."""
    loaded = loaded_model(4, class_names=("Dog", "tabby", "zebra", "ox"))

    titles = ("tabby, tabby cat", "Hound", "ox")
    assert (1, 0, 3) == match_classes(("n1", "dog", "n3"), loaded=loaded, titles=titles)
    assert (3, 2, 1, 0) == match_classes(("ox", "zebra", "tabby", "dog"), loaded=loaded)


def test_names_that_are_not_unique_match_nothing():
    """Two outputs of one name cannot be told apart, nor two classes that would share an output."""
    loaded = loaded_model(4, class_names=("crane", "crane", "cat", "dog"))

    for classes, titles in ((("crane", "cat"), None), (("cat", "tom"), ("cat", "cat"))):
        with pytest.raises(ModelError, match="the data has 2 classes, the model 4 outputs"):
            match_classes(classes, loaded=loaded, titles=titles)


def test_imagenet_ids():
    """Classes that are ImageNet ids find their outputs among 1000."""
    assert (151, 187) == match_classes(("n02085620", "n02094433"), loaded=loaded_model(1000))


def test_unknown_imagenet_ids():
    """An id that is not among the thousand does not match."""
    with pytest.raises(ModelError, match="pass --num-classes 2"):
        match_classes(("n02085620", "n99999999"), loaded=loaded_model(1000))


def test_class_map(tmp_path):
    """A class map decides whatever else is known, and may hold more than the classes."""
    path = write_map(tmp_path, {"cat": 5, "dog": 0, "cow": 77})

    assert (5, 0) == match_classes(("cat", "dog"), loaded=loaded_model(6), class_map=path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ([1, 2], "is a JSON list"),
        ({"cat": 1}, "'dog' has no output"),
        ({"cat": 1, "dog": 6}, "'dog' has the output 6: give each class its own of 0 to 5"),
        ({"cat": -1, "dog": 1}, "'cat' has the output -1"),
        ({"cat": 1, "dog": 1}, "'dog' has the output 1"),
        ({"cat": True, "dog": 0}, "'cat' has the output True"),
        ({"cat": "1", "dog": 0}, "'cat' has the output '1'"),
    ],
)
def test_bad_class_map(tmp_path, content, message):
    """A class map that is damaged, incomplete, ambiguous or out of range is refused."""
    with pytest.raises(ModelError, match=message):
        match_classes(("cat", "dog"), loaded=loaded_model(6), class_map=write_map(tmp_path, content))


def test_missing_class_map(tmp_path):
    """A class map that is not there is an error that names it."""
    with pytest.raises(ModelError, match=r"gone\.json cannot be read"):
        match_classes(("cat",), loaded=loaded_model(6), class_map=tmp_path / "gone.json")


# --- real data ---


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
