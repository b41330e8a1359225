"""What the tests of design share: images and files of them, and networks made by functions in a file."""

import builtins
import gzip
import io
import shutil
import struct
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from isplit.records import Accuracy, Crossing, Cut, Measurement, Paired, PayloadBytes, Preprocessing
from tests.design.exporting import answer_in_torch as answer_in_torch
from tests.design.exporting import exported as exported
from tests.design.exporting import run_onnx as run_onnx
from tests.design.exporting import tiny_study as tiny_study

NETS = """
import torch
from torch import nn
from isplit.records import Accuracy, Crossing, Cut, Measurement, Paired, PayloadBytes, Preprocessing


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
def no_timm(monkeypatch):
    """Let every import of timm fail, as where it is not installed."""
    import_module = builtins.__import__

    def without_timm(name, *arguments, **named):
        if name.split(".")[0] == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return import_module(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_timm)


@pytest.fixture
def factory(tmp_path):
    """Return the path of a file whose functions make networks."""
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return str(path)


@pytest.fixture
def preprocessing_of():
    """Return a function that makes a `Preprocessing` for RGB images of 32×32, but for what it is given."""

    def make(**changes):
        fields = {"image_size": (32, 32), "resize_size": 32, "interpolation": "bilinear", "channels": 3}
        return Preprocessing.model_validate(fields | {"mean": (0.0,) * 3, "std": (1.0,) * 3} | changes)

    return make


@pytest.fixture
def pixels():
    """Return a function that makes seeded random pixels."""

    def make(seed, shape=(8, 7, 3)):
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture
def png(pixels):
    """Return a function that makes the bytes of a PNG file of seeded pixels."""

    def make(seed=0):
        file = io.BytesIO()
        Image.fromarray(pixels(seed)).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def class_files(png):
    """Return a function that makes {CLASS/00.png: bytes}; image i of each class holds the pixels of seed i."""

    def make(prefix="", *, classes=("cat", "dog"), count=10):
        return {f"{prefix}{name}/{i:02}.png": png(i) for name in classes for i in range(count)}

    return make


@pytest.fixture
def write_files():
    """Return a function that writes files, given by path and content, below a folder and returns that."""

    def write(root, files):
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    return write


@pytest.fixture
def write_zip():
    """Return a function that writes files, given by path and content, into a zip file and returns its path."""

    def write(path, files):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path

    return write


@pytest.fixture
def write_idx():
    """Return a function that writes an array to an IDX file, compressed if its name ends in .gz."""

    def write(path, values, *, kind=8):
        content = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def write_npz():
    """Return a function that writes arrays to an .npz file and returns its path."""

    def write(path, **arrays):
        np.savez_compressed(path, **arrays)
        return path

    return write


@pytest.fixture
def indices():
    """Return a function that gives a data set's parts as lists."""

    def lists(dataset):
        return {part: values.tolist() for part, values in dataset.parts.items()}

    return lists


@pytest.fixture
def decoding_threads():
    """List the threads that decode now and did not before the test."""

    def started():
        return [
            thread
            for thread in threading.enumerate()
            if thread.name.startswith("isplit-decode") and thread not in before
        ]

    before = ()
    before = started()
    return started


@pytest.fixture(scope="session")
def analysed(isplit, tiny_model_file, tiny_data, tiny_weights, tmp_path_factory):
    """A study of the tiny network, with a subset, as `isplit analyze` leaves it. Not to be changed."""
    directory = tmp_path_factory.mktemp("analysed") / "study"
    arguments = [f"{tiny_model_file}:build", tiny_data, "--weights", tiny_weights, "--quiet"]
    subsets = ["--classes", "bars,dots", "--classes", "bars,rows"]
    result = isplit("analyze", *arguments, *subsets, "-o", directory)
    assert 0 == result.code, result.err
    return directory


@pytest.fixture(scope="session")
def opened(analysed):
    """The same study, opened. Not to be changed."""
    from isplit.design.study import open_study

    return open_study(analysed, allow_code=True)


@pytest.fixture
def study(analysed, tmp_path):
    """The study of the tiny network, opened, to be changed."""
    from isplit.design.study import open_study

    return open_study(shutil.copytree(analysed, tmp_path / "study"), allow_code=True)


@pytest.fixture
def fast():
    """Return a function that makes settings at which the small network learns within a few steps."""
    from isplit.design.settings import FitSettings

    rates = {"batch_size": 8, "bottleneck_rate": 0.03, "model_rate": 1e-3, "patience": 9}

    def make(**changes):
        return FitSettings(**rates | changes)

    return make


def make_cut(shape, axis=1):
    """A cut that one tensor of this shape crosses."""
    names = "depth bytes head_macs tail_macs head_parameters tail_parameters head_peak_bytes tail_peak_bytes".split()
    crossing = (Crossing(name="x", shape=shape, dtype="float32", bytes=1),)
    figures = dict.fromkeys(names, 1)
    return Cut(name="x", kind="default", op="relu", crossing=crossing, channel_axis=axis, **figures)


def measured(correct, *, whole, images=100):
    """A measurement of which only the two accuracies matter."""
    figures = "elements encoder_macs encoder_parameters decoder_macs decoder_parameters head_macs".split()
    return Measurement(
        part="test",
        accuracy=Accuracy.from_counts(correct, images),
        whole=Accuracy.from_counts(whole, images),
        against_whole=Paired(only_first=0, only_second=0, difference=0, stderr=0),
        per_class={},
        payload_bytes=PayloadBytes(mean=1, p95=1, max=1, images=images),
        clipped_share=0,
        head_mac_share=0,
        **dict.fromkeys(figures, 0),
    )
