"""What many tests share: a small model with trained weights, small pictures, commands, and a clean environment."""

import contextlib
import io
import json
import os
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image

from isplit.cli import main
from isplit.cli.demo import DemoWork
from tests.exports import exports_directory as exports_directory
from tests.exports import remember_exports, shared_directory

settings.register_profile("isplit", deadline=None, derandomize=True)
settings.load_profile("isplit")

CLASSES = ("bars", "dots", "rows")
SIZE = 16

TINY_MODEL = '''
from torch import nn


class TinyNet(nn.Module):
    """Three convolutions, two pools: 16x16 RGB pictures to three classes."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(12, 12, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(12, num_classes)
        self.preprocessing = {"image_size": (16, 16), "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}

    def forward(self, x):
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.conv3(x))
        return self.fc(self.flatten(self.avgpool(x)))


def build(num_classes=3):
    return TinyNet(num_classes)
'''


@pytest.fixture(autouse=True, scope="session")
def _private_home(tmp_path_factory):
    """Keep every test away from the user's caches and settings."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TORCH_HOME", "HF_HOME", "MPLCONFIGDIR"):
            directory = home / name.lower()
            directory.mkdir(exist_ok=True)  # a run that was cut off goes on
            patch.setenv(name, str(directory))
        yield


@pytest.fixture(autouse=True, scope="session")
def _unsynced_disk():
    """Let no test wait for the disk: what tests write need not outlast a power failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_fixture_setup():
    """Export no network twice, neither in a fixture nor in a test."""
    remember_exports()


@pytest.fixture(autouse=True)
def _seeded():
    """Start every test from the same random numbers, on one thread."""
    random.seed(0)
    np.random.seed(0)  # for libraries that still draw from numpy's global generator
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(0)
        torch.set_num_threads(1)


def draw(label, rng):
    """Return a picture of class `label`: upright bars, a dot or rows, in a random colour, with noise."""
    phase = rng.integers(4)
    if label == 1:
        y, x = np.mgrid[:SIZE, :SIZE] - rng.integers(5, 11, 2)[:, None, None]
        shape = (x * x + y * y < 16).astype(float)
    else:
        line = (np.arange(SIZE) + phase) // 2 % 2
        shape = np.broadcast_to(line if label == 0 else line[:, None], (SIZE, SIZE)).astype(float)
    picture = shape[..., None] * rng.uniform(100, 200, 3) + rng.normal(30, 12, (SIZE, SIZE, 3))
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """An ImageFolder: train (12 pictures per class) and test (8), three classes, 16x16 RGB PNG."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 8)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw(label, rng)).save(folder / f"{i:02}.png")
    return root


@pytest.fixture(scope="session")
def tiny_model_file(tmp_path_factory) -> Path:
    """A Python file with the factory `build(num_classes=3)`; the model says its own preprocessing."""
    path = tmp_path_factory.mktemp("model") / "tiny.py"
    path.write_text(TINY_MODEL)
    return path


@pytest.fixture(scope="session")
def tiny_weights(tiny_model_file) -> Path:
    """Weights for `tiny_model_file` that tell the pictures of `tiny_data` apart (trained in a second)."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    torch.manual_seed(1)
    names = {}
    exec(tiny_model_file.read_text(), names)
    model = names["build"]()
    rng = np.random.default_rng(1)
    labels = np.arange(96) % 3
    images = torch.from_numpy(np.stack([draw(label, rng) for label in labels])).permute(0, 3, 1, 2)
    inputs, targets = (images / 255 - 0.5) / 0.25, torch.from_numpy(labels)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    accuracy = (model(inputs).argmax(1) == targets).double().mean().item()
    assert accuracy > 0.9, accuracy
    path = tiny_model_file.with_name("tiny.safetensors")
    save_file(model.state_dict(), path)
    return path


# --- commands ---


@dataclass(frozen=True)
class Result:
    """How a command ended, what it printed on each stream, and both streams in order."""

    code: int
    out: str
    err: str
    both: str


class _Tee(io.StringIO):
    def __init__(self, other):
        super().__init__()
        self.other = other

    def write(self, text):
        self.other.write(text)
        return super().write(text)


_EXPORTING_VERBS = ("auto", "demo", "export", "profile")


def run(*args) -> Result:
    """Run `isplit ARGS` in this process; its streams are no terminals."""
    both = io.StringIO()
    out, err = _Tee(both), _Tee(both)
    code = 0
    remember_exports(imports=bool(args) and args[0] in _EXPORTING_VERBS)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["isplit", *map(str, args)])
        try:
            main()
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code
    return Result(code, out.getvalue(), err.getvalue(), both.getvalue())


@pytest.fixture(scope="session")
def isplit():
    """The command line as a function of its arguments."""
    return run


@pytest.fixture(scope="session")
def demo(isplit, tmp_path_factory) -> tuple[Path, Result]:
    """The directory in which `isplit demo -o isplit-demo` was run, and how that ended; once for all workers."""
    directory = shared_directory(tmp_path_factory, "shared-demo")
    told = directory / "result.json"
    with FileLock(f"{directory}.lock"):
        if not told.exists():
            directory.mkdir(exist_ok=True)  # a run that was cut off goes on
            with pytest.MonkeyPatch.context() as patch:
                # This is enough for a network that reads digits.
                work = DemoWork(epochs=3, analyze_images=480, statistics_images=320, fit_images=480)
                patch.setattr("isplit.cli.demo.WORK", work)
                result = isplit("demo", "-o", directory / "isplit-demo")
            told.write_text(json.dumps(asdict(result)))
    return directory, Result(**json.loads(told.read_text()))
