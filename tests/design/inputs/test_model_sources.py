"""Models of torchvision and timm are built with what their libraries know of them."""

import copy
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from timm.data.config import resolve_model_data_config
from torch import nn

from isplit.design.inputs.model_sources import _replace_classifier
from isplit.design.inputs.models import load_model
from isplit.design.inputs.weights import fingerprint
from isplit.errors import ModelError


def test_torchvision_model(preprocessing_of):
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


def test_neither_a_module_nor_a_name():
    """A program of torch.export, and anything else that is no module, is refused with what to give in its place."""
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(2, 2),))

    with pytest.raises(ModelError, match=r"an? ExportedProgram is neither .*: call its `.module\(\)`"):
        load_model(program)
    with pytest.raises(ModelError, match=r"an? dict is neither .*: a model is torchvision:NAME"):
        load_model({})


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_models_that_warn_about_their_start(factory, tmp_path, name):
    """The two networks that warn when built are built without (warnings are errors here)."""
    path = tmp_path / "wrong.pth"
    torch.save({"x": torch.zeros(1)}, path)

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
        ModelError, match=r"no network.*download https://.*checkpoints, or pass the file with `weights=FILE`"
    ):
        load_model("torchvision:squeezenet1_1", weights="default")


def test_failed_timm_download(monkeypatch):
    """Download errors of timm, whatever their type, say how to pass a file."""

    def fail(*_, **__):
        raise LookupError("no hub")

    monkeypatch.setattr(timm, "create_model", fail)

    with pytest.raises(ModelError, match="LookupError: no hub; pass a file with `weights=FILE`"):
        load_model("timm:test_resnet", weights="default")
