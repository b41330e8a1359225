"""A study of the small model and pictures, to be trained on."""

import shutil
from pathlib import Path

import pytest

from isplit.design.study import open_study
from isplit.design.training import FitSettings

# Rates at which the small network learns within a few steps.
FAST = {"batch_size": 8, "bottleneck_rate": 0.03, "model_rate": 1e-3, "patience": 9}


@pytest.fixture(scope="session")
def analysed(isplit, tiny_model_file, tiny_data, tiny_weights, tmp_path_factory):
    """A study as `isplit analyze` leaves it. Not to be changed."""
    directory = tmp_path_factory.mktemp("training") / "study"
    result = isplit("analyze", f"{tiny_model_file}:build", tiny_data, "--weights", tiny_weights, "-o", directory)
    assert 0 == result.code, result.err
    return directory


@pytest.fixture
def study(analysed, tmp_path):
    """The study, opened, to be changed."""
    return open_study(Path(shutil.copytree(analysed, tmp_path / "study")))


@pytest.fixture
def fast():
    """Return a function that makes settings which learn fast."""

    def make(**changes):
        return FitSettings(**FAST | changes)

    return make
