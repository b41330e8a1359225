"""A trained split is never worse than its closed form, and fills its budget, on two small networks."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from isplit import api
from isplit.design.class_subsets import ALL
from isplit.design.fit import fit
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.predict import predict
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.design.splits import load_split, split_directory
from isplit.design.study import open_study
from isplit.records import Budget
from tests.conftest import draw

BUDGETS = (30, 45, 70, 110)
NETWORKS = {"plain": ("relu1", "pool1", "relu2"), "residual": ("stem", "block1.relu", "block2.relu")}
PREDICT = PredictSettings(statistics_images=150, images=None, remote_images=0)
FIT = FitSettings(epochs=1, statistics_images=150, batch_size=32)

NETS = """
from torch import nn


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.pool2 = nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv3, self.relu3 = nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()
        self.fc = nn.Linear(12, 3)
        self.preprocessing = {"image_size": (16, 16), "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}

    def forward(self, x):
        x = self.pool2(self.relu2(self.conv2(self.pool1(self.relu1(self.conv1(x))))))
        return self.fc(self.relu3(self.conv3(x)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(out)
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out, 1))
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + self.skip(x))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.block1, self.block2 = Block(6, 10), Block(10, 16)
        self.fc = nn.Linear(16, 3)
        self.preprocessing = {"image_size": (16, 16), "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}

    def forward(self, x):
        return self.fc(self.block2(self.block1(self.stem(x))).mean((2, 3)))


def plain(num_classes=3):
    return Plain()


def residual(num_classes=3):
    return Residual()
"""


def noisy(label, rng):
    """Return a picture that is hard to tell, so that few bytes lose something."""
    return (draw(label, rng) + rng.normal(0, 220, (16, 16, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """900 noisy pictures in three classes: 720 to fit, 90 to select and 90 to test."""
    rng = np.random.default_rng(5)
    labels = np.arange(900) % 3
    path = tmp_path_factory.mktemp("noisy") / "noisy.npz"
    np.savez(path, images=np.stack([noisy(label, rng) for label in labels]), labels=labels)
    return path


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def predicted(request, data, tmp_path_factory):
    """A study of a trained network with the closed forms of three cuts at four budgets."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    code = folder / "nets.py"
    code.write_text(NETS)
    names = {}
    exec(NETS, names)
    torch.manual_seed(2)
    model = names[name]()
    rng = np.random.default_rng(6)
    labels = torch.arange(600) % 3
    images = np.stack([noisy(label, rng) for label in labels.tolist()])
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    save_file(model.eval().state_dict(), folder / "weights.safetensors")
    study = api.analyze(
        api.load_model(f"{code}:{name}", weights=str(folder / "weights.safetensors"), num_classes=3),
        api.open_data(str(data)),
        out=folder / "study",
        settings=AnalyzeSettings(images=60),
    )
    budgets = [Budget(payload_bytes=count) for count in BUDGETS]
    predict(study, budgets, cuts=NETWORKS[name], settings=PREDICT)
    return open_study(folder / "study", allow_code=True)


def select_accuracy(study, built):
    """Return a split's accuracy on the whole select part, and its mean payload there."""
    view = study.view()
    (evaluation,) = evaluate_splits(view, [built], images=view.images("select"))
    measured = measure(view, evaluation, part="select")
    return measured.accuracy.accuracy, measured.payload_bytes.mean


def test_fit_never_loses_and_fills_its_budget(predicted):
    """At every cut and budget, what `fit` leaves is as good as what `predict` left, and takes the bytes it may."""
    (name,) = [name for name, cuts in NETWORKS.items() if {cut.name for cut in predicted.cuts()} >= set(cuts)]
    for cut in NETWORKS[name]:
        for count in BUDGETS:
            budget = Budget(payload_bytes=count)
            record = fit(predicted, cut, budget, settings=FIT)
            accuracies = {}
            for trained in (False, True):
                directory = split_directory(
                    predicted.directory, cut=cut, group=ALL, design="linear", budget=budget, trained=trained
                )
                accuracies[trained] = select_accuracy(predicted, load_split(predicted, directory))
            # With more bytes than the budget, the closed form may be better than anything within it.
            if abs(accuracies[False][1] / count - 1) <= 0.02:
                assert accuracies[True][0] >= accuracies[False][0], (cut, count)
            filled = abs(accuracies[True][1] / count - 1) <= 0.02
            assert filled == (record.training.budget_note is None), (cut, count, accuracies)
            assert filled or "finest quantiser" in record.training.budget_note, (cut, count, accuracies)
