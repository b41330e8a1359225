"""A model or weights that cannot be used: exit 2, a sentence that says what to do, no traceback."""

import subprocess
import sys

import numpy as np
import pytest

BLOCKED = """
import sys

NAMES = set({names!r})

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from isplit.cli import main
main()
"""


MODELS = """
import torch
from torch import nn


class Depends(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)
        self.preprocessing = {"image_size": (16, 16), "channels": 3}

    def forward(self, x):
        x = self.conv(x)
        if x.sum() > 0:  # HERE
            x = -x
        return self.fc(self.pool(x).flatten(1))


def depends():
    return Depends()


def grey():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    net.preprocessing = {"image_size": (16, 16), "channels": 1}
    return net


def no_positions():
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.ReLU(), nn.Linear(5, 3))
    net.preprocessing = {"image_size": (16, 16), "channels": 3}
    return net
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A file of models that are hard to use."""
    path = tmp_path_factory.mktemp("models") / "odd.py"
    path.write_text(MODELS)
    return path


def test_unknown_torchvision_model(refuse):
    """An unknown name gets the nearest ones."""
    refuse(model="torchvision:resnet5O", weights=None, says=["resnet5O", "resnet50"])


def test_unknown_kind_of_model(refuse):
    """A word that is no model at all gets the forms that are understood."""
    refuse(model="mymodel", weights=None, says=["mymodel", "torchvision:", "factory"])


def test_missing_model_file(refuse):
    """A factory file that is not there is named."""
    refuse(model="./nowhere.py:build", weights=None, says=["nowhere.py"])


def test_missing_factory(refuse, tiny_model_file):
    """A file without that function gets the functions it has."""
    refuse(model=f"{tiny_model_file}:bild", weights=None, says=["bild", "build"])


def test_unknown_timm_model(refuse):
    """An unknown timm model is refused by name."""
    pytest.importorskip("timm")
    refuse(model="timm:resnet5O", weights=None, says=["resnet5O"])


def test_missing_weights(refuse, tmp_path):
    """A weights file that is not there is named."""
    refuse(weights=tmp_path / "none.safetensors", says=["none.safetensors"])


def test_weights_of_another_model(refuse, tmp_path):
    """Weights that do not fit say which tensor differs or is missing."""
    from safetensors.numpy import save_file

    save_file({"conv9.weight": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    refuse(weights=tmp_path / "other.safetensors", says=["other.safetensors", "conv"])


def test_damaged_weights(refuse, tmp_path):
    """A weights file that is not one is refused."""
    (tmp_path / "bad.safetensors").write_bytes(b"not a safetensors file")
    refuse(weights=tmp_path / "bad.safetensors", says=["bad.safetensors"])


def test_nan_weights(refuse, tiny_weights, tmp_path):
    """NaN among the weights is found before any image is scored; the message names the tensor."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(tiny_weights)
    tensors["conv2.weight"][0, 0, 0, 0] = np.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    result = refuse(weights=tmp_path / "nan.safetensors", says=["conv2.weight"])
    assert "nan" in result.err.replace("nan.safetensors", "").lower()


def test_untraceable_model(refuse, models):
    """A model whose path depends on pixel values is refused, naming the file and the line."""
    line = next(i for i, text in enumerate(MODELS.splitlines(), 1) if "# HERE" in text)
    result = refuse(model=f"{models}:depends", weights=None, says=["odd.py"])
    assert str(line) in result.err


def test_untraceable_model_in_cuts(bad_input, models):
    """`isplit cuts` refuses it in the same words."""
    line = next(i for i, text in enumerate(MODELS.splitlines(), 1) if "# HERE" in text)
    bad_input("cuts", f"{models}:depends", says=["odd.py", str(line)])


def test_model_without_positions(refuse, models):
    """A model without a spatial axis anywhere has no curve, and that is said."""
    refuse(model=f"{models}:no_positions", weights=None, says=["spatial"])


def run_without(names, *args):
    code = BLOCKED.format(names=names)
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert 2 == done.returncode, done.stderr
    assert "" == done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_torch(tiny_args, tmp_path):
    """Without torch the message says which pip install brings it."""
    assert "pip install 'isplit[design]'" in run_without(["torch"], "analyze", *tiny_args, "-o", tmp_path / "s")


def test_without_torch_demo(tmp_path):
    """The demo without torch says the same, and writes nothing."""
    assert "pip install 'isplit[design]'" in run_without(["torch"], "demo", "-o", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_without_timm(bad_input, monkeypatch):
    """A timm model without timm says which pip install brings it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    bad_input("cuts", "timm:resnet18", says=["pip install 'isplit[timm]'"])


def test_without_sklearn(refuse, monkeypatch):
    """Its digits without scikit-learn say which pip install brings it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    refuse(data="sklearn:digits", says=["pip install 'isplit[design]'"])


def test_more_classes_than_outputs(refuse, folders):
    """Five classes do not fit three outputs; both numbers are said, and what to do."""
    result = refuse(data=folders(a=10, b=10, c=10, d=10, e=10), says=["5", "3"])
    assert "num-classes" in result.err or "class-map" in result.err or "class map" in result.err


def test_channels_that_do_not_fit(refuse, models):
    """Asking a grey model for RGB is refused before work starts."""
    refuse("--channels", 3, model=f"{models}:grey", weights=None, says=["channel", "1", "3"])


def test_size_that_does_not_fit(refuse):
    """An image size at which the model has nothing left is refused before work starts."""
    refuse("--image-size", 2, says=["2", "--image-size"])
