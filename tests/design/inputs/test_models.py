"""isplit.design.inputs.models: every kind of model loads, what cannot be used is refused with a reason."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from isplit.design.inputs.files import file_sha256
from isplit.design.inputs.models import load_model
from isplit.design.inputs.weights import fingerprint
from isplit.design.running import find_logits
from isplit.errors import ModelError


def test_factory_with_num_classes(factory, preprocessing_of):
    """A factory that takes num_classes is given it; the size must be said; mean 0 and std 1 leave [0, 1] as it is."""
    loaded = load_model(f"{factory}:make", num_classes=6, image_size=16)

    assert 6 == loaded.source.num_outputs
    assert preprocessing_of(image_size=(16, 16), resize_size=16) == loaded.preprocessing
    assert () == loaded.warnings


def test_factory_that_says_its_preprocessing(factory, preprocessing_of):
    """Some fields, or a whole record, on the module are used; what the caller gives wins."""
    grey = load_model(f"{factory}:make_grey")
    told = load_model(f"{factory}:make_told")
    other = load_model(f"{factory}:make_told", image_size=14, preprocessing={"mean": [0.5], "std": (4, 5, 6)})

    expected = preprocessing_of(image_size=(20, 24), resize_size=None, channels=1, mean=(0.4,), std=(1.0,))
    assert expected == grey.preprocessing
    assert ("a", "b", "c") == grey.class_names
    told_fields = {"image_size": (9, 9), "resize_size": 11, "interpolation": "bicubic"}
    assert preprocessing_of(**told_fields, mean=(0.1, 0.2, 0.3), std=(1, 2, 3)) == told.preprocessing
    changed = {"image_size": (14, 14), "resize_size": 14, "interpolation": "bicubic"}
    assert preprocessing_of(**changed, mean=(0.5,) * 3, std=(4, 5, 6)) == other.preprocessing


def test_size_of_an_argument_wins(factory):
    """`image_size` is a short way to say both sizes, also beside a whole `Preprocessing`."""
    told = load_model(f"{factory}:make_told").preprocessing
    loaded = load_model(f"{factory}:make_told", image_size=14, preprocessing=told).preprocessing

    assert told.model_copy(update={"image_size": (14, 14), "resize_size": 14}) == loaded


def test_model_without_convolutions(factory):
    """Without a convolution to tell, images are RGB."""
    assert 3 == load_model(f"{factory}:make_perceptron", image_size=8).preprocessing.channels


def test_output_in_a_dictionary(factory):
    """The first N×K tensor of a structured output counts."""
    assert 4 == load_model(f"{factory}:make_dict", image_size=8).source.num_outputs


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("make", {}, "does not say what images it takes: pass `image_size=N`"),
        ("make", {"image_size": 1}, r"cannot take images of shape \(2, 3, 1, 1\): RuntimeError"),
        ("make", {"image_size": -8}, "image_size.0: Input should be greater than or equal to 1"),
        ("make", {"image_size": 8, "preprocessing": {"channels": 1}}, r"cannot take images of shape \(2, 1, 8, 8\)"),
        ("make", {"image_size": 8, "preprocessing": {"mean": (0.1, 0.2)}}, "must have 1 or 3 values"),
        ("make", {"image_size": 8, "preprocessing": {"std": (0.0,)}}, "std.0: Input should be greater than 0"),
        ("make", {"image_size": 8, "num_classes": 1}, "at least 2 outputs"),
        ("make", {"image_size": 8, "weights": "default"}, "has no default weights"),
        ("make_fixed", {"image_size": 8, "num_classes": 9}, "has 4 outputs, not 9"),
        ("make_told_wrong", {}, "image_sise: Extra inputs are not permitted"),
        ("make_told_nothing", {}, "the attribute preprocessing is a str"),
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


def test_find_logits():
    """The first N×K tensor is found in tuples, lists and mappings, nested; without one the answer is None."""
    logits = torch.zeros(2, 3)

    assert logits is find_logits(logits)
    assert logits is find_logits((torch.zeros(2, 3, 4), [logits, torch.zeros(2, 9)]))
    assert logits is find_logits({"a": None, "b": {"c": logits}})
    assert logits is find_logits({"embedding": torch.zeros(2, 9), "logits": logits})
    assert find_logits(torch.zeros(2)) is None
    assert find_logits("text") is None


def test_initial_values_do_not_follow_the_random_state(factory):
    """Whatever the caller's seed, a model without weights has the same initial values."""
    fingerprints = set()
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            fingerprints.add(load_model(f"{factory}:make", image_size=16).source.fingerprint)

    assert 1 == len(fingerprints)


# --- modules as they are ---


class Pooled(nn.Sequential):
    """A network of four outputs."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_module(preprocessing_of):
    """A copy of a module is used, in evaluation mode; its class is the spec of the record, and it stays as it is."""
    net = Pooled()
    before = fingerprint(net)

    loaded = load_model(net, image_size=16)

    assert net is not loaded.module
    assert net.training
    assert not loaded.module.training
    assert before == fingerprint(net) == loaded.source.fingerprint
    assert ("python:Pooled", None, None) == (
        loaded.source.spec,
        loaded.source.weights,
        loaded.source.weights_sha256,
    )
    assert 4 == loaded.source.num_outputs
    assert preprocessing_of(image_size=(16, 16), resize_size=16) == loaded.preprocessing
    assert loaded.class_names is None
    assert () == loaded.warnings


def test_module_that_says_its_preprocessing(preprocessing_of):
    """The attributes of a module say what those of a factory's module do."""
    net = Pooled()
    net.preprocessing = preprocessing_of(image_size=(9, 9), resize_size=11)
    net.class_names = ["a", "b", "c", "d"]

    loaded = load_model(net, num_classes=4)

    assert net.preprocessing == loaded.preprocessing
    assert ("a", "b", "c", "d") == loaded.class_names


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"mean": 0.5}, {"mean": (0.5,) * 3}),
        ({"mean": np.float32(0.5), "std": 2}, {"mean": (0.5,) * 3, "std": (2.0,) * 3}),
        ({"mean": np.array([0.25, 0.5, 1.0])}, {"mean": (0.25, 0.5, 1.0)}),
        ({"std": torch.tensor([0.25, 0.5, 1.0])}, {"std": (0.25, 0.5, 1.0)}),
        ({"mean": None, "channels": None, "interpolation": None}, {}),
        ({"channels": np.int64(3)}, {}),
        ({"image_size": 16.0}, {}),
        ({"image_size": np.int64(16)}, {}),
        ({"image_size": np.array([16, 18])}, {"image_size": (16, 18), "resize_size": None}),
        ({"image_size": [16]}, {}),
    ],
    ids=str,
)
def test_preprocessing_of_numbers_and_arrays(preprocessing_of, said, expected):
    """One number stands for every channel or both sides; arrays and tensors are taken like lists."""
    net = Pooled()
    net.preprocessing = {"image_size": 16} | said

    assert preprocessing_of(**{"image_size": (16, 16), "resize_size": 16} | expected) == load_model(net).preprocessing


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"image_size": 16.5}, "image_size.0: "),
        ({"image_size": [[16], [16]]}, "image_size.0: "),
        ({"image_size": (16, 16, 3)}, "image_size"),
        ({"image_size": {"height": 16}}, "image_size.0: "),
        ({"mean": "imagenet"}, "mean.0: "),
        ({"mean": {"red": 0.5}}, "mean.0: "),
        ({"mean": ()}, "must have 1 or 3 values"),
        ({"std": np.zeros((3, 3))}, "std.0: "),
        ({"std": ...}, "std.0: "),
        ({"channels": np.array([3, 3])}, "channels: "),
        ({"channels": "three"}, "channels: "),
        ({"resize_size": "big"}, "resize_size: "),
        ({3: 4}, "preprocessing cannot be used"),
    ],
    ids=str,
)
def test_preprocessing_that_cannot_be_used(said, message):
    """What is no number where there should be one is an error that names the field."""
    net = Pooled()
    net.preprocessing = {"image_size": 16} | said

    with pytest.raises(ModelError, match=message):
        load_model(net)


@pytest.mark.parametrize("said", [np.zeros(3), "", 0, [1]], ids=str)
def test_preprocessing_of_another_kind(said):
    """An attribute that is neither a record nor a mapping is refused, an empty one included."""
    net = Pooled()
    net.preprocessing = said

    with pytest.raises(ModelError, match="the attribute preprocessing is a"):
        load_model(net, image_size=16)


def test_class_names_in_an_array():
    """An array of names is taken like a list; what holds no names is refused."""
    net = Pooled()
    net.class_names = np.array(["a", "b", "c", "d"])

    assert ("a", "b", "c", "d") == load_model(net, image_size=16).class_names
    net.class_names = 4
    with pytest.raises(ModelError, match="the attribute class_names is a int"):
        load_model(net, image_size=16)


@pytest.mark.parametrize("kind", [str, Path])
def test_module_with_weights(tmp_path, kind):
    """A file's weights, by its path or the text of it, are put into a copy of the module and recorded by hash."""
    net, trained = Pooled(), Pooled()
    before = fingerprint(net)
    nn.init.ones_(trained[0].weight)
    torch.save(trained.state_dict(), tmp_path / "w.pth")

    loaded = load_model(net, weights=kind(tmp_path / "w.pth"), image_size=16)

    assert fingerprint(trained) == loaded.source.fingerprint
    assert before == fingerprint(net)
    assert file_sha256(tmp_path / "w.pth") == loaded.source.weights_sha256


def test_module_leaves_state_outside_alone():
    """The random state and requires_grad are as before."""
    net = Pooled()
    net[0].requires_grad_(False)
    state = torch.get_rng_state()

    load_model(net, image_size=16)

    assert torch.equal(state, torch.get_rng_state())
    assert [False, False, True, True] == [parameter.requires_grad for parameter in net.parameters()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "python:Pooled does not say what images it takes"),
        ({"image_size": 16, "num_classes": 9}, "python:Pooled has 4 outputs, not 9"),
        ({"image_size": 16, "weights": "default"}, "python:Pooled has no default weights"),
        (
            {"image_size": 16, "preprocessing": {"channels": 1}},
            r"python:Pooled cannot take images of shape \(2, 1, 16, 16\)",
        ),
        ({"preprocessing": "imagenet"}, "the argument preprocessing is a str, not a Preprocessing or a dict"),
        ({"preprocessing": {"image_sise": 16}}, "pass `image_size=N`"),
        ({"image_size": 16, "preprocessing": {"mena": 0.5}}, "mena: Extra inputs are not permitted"),
        ({"image_size": 1}, r"python:Pooled cannot take images of shape \(2, 3, 1, 1\)"),
    ],
)
def test_unusable_modules(arguments, message):
    """What does not fit a module is the error that it is for a factory's, with the module's class in it."""
    with pytest.raises(ModelError, match=message):
        load_model(Pooled(), **arguments)


def test_timm_missing(no_timm):
    """Without timm the message says what to install."""
    with pytest.raises(Exception, match=r"pip install 'isplit\[timm\]'"):
        load_model("timm:resnet18")


class _Last(nn.Module):
    def __init__(self, outputs, function):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, outputs)
        self.function = function
        self.preprocessing = {"image_size": (16, 16), "channels": 3}

    def forward(self, x):
        return self.function(self.linear(self.conv(x).mean((2, 3))))


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_last_logsigmoid_is_undone(outputs):
    """The logits are those before it, as they are in the graph: of one logit the sign would be lost."""
    torch.manual_seed(0)
    model = _Last(outputs, nn.functional.logsigmoid)
    images = 3 * torch.randn(8, 3, 16, 16)
    loaded = load_model(model)
    with torch.no_grad():
        logits = loaded.logits(images)
        expected = model.linear(model.conv(images).mean((2, 3)))
        of_graph = loaded.graph().module(images)

    torch.testing.assert_close(logits[:, -outputs:], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, of_graph, atol=1e-4, rtol=1e-4)
