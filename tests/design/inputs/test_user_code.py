"""Functions in files and packages are found and called, and their errors become ours."""

import sys

import numpy as np
import pytest

from isplit.design.inputs.data import open_data
from isplit.errors import DataError

FACTORY = """
import helper_beside
from PIL import Image
import numpy as np
LOADED = __name__

class Items:
    classes = ["no", "yes"]
    def __len__(self):
        return 30
    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        image = np.full((5, 4, 3), i, np.uint8)
        return (Image.fromarray(image) if i % 2 else image), i % 2

def make():
    return Items()

def make_floats():
    return [(np.zeros((5, 4, 3)), i % 2) for i in range(30)]

def make_torch():
    import torch
    return [(torch.zeros(5, 4, 3, dtype=torch.uint8), i % 2) for i in range(30)]

def make_none():
    return None

def make_singles():
    return [1] * 30

def fail():
    raise RuntimeError("no disk")

def leave():
    raise SystemExit("no data here")
"""


@pytest.fixture
def factory_file(tmp_path):
    (tmp_path / "helper_beside.py").write_text("")
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    yield path
    sys.modules.pop("helper_beside", None)


def test_factory_in_a_file(factory_file):
    """A function in a file gives a set of PIL images or arrays; the import path is as before."""
    before = list(sys.path)

    dataset = open_data(f"{factory_file}:make")

    assert ("no", "yes") == dataset.classes
    assert [0, 1] * 15 == dataset.labels.tolist()
    assert (4, 5) == dataset.image(6).size == dataset.image(7).size
    assert 7 == np.asarray(dataset.image(7)).max()
    assert before == sys.path
    assert "mine" not in sys.modules


def test_factory_in_a_package(factory_file, monkeypatch):
    """A module in the working directory is found by its name."""
    monkeypatch.chdir(factory_file.parent)
    try:
        assert 30 == len(open_data("mine:make"))
    finally:
        sys.modules.pop("mine", None)


def test_factory_of_tensors(factory_file):
    """Uint8 tensors are taken like arrays."""
    assert (4, 5) == open_data(f"{factory_file}:make_torch").image(0).size


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", r"has no function 'gone'; it has .*make, make_floats"),
        ("fail", "RuntimeError: no disk"),
        ("leave", "leave failed: SystemExit: no data here"),
        ("make_none", "gave a NoneType"),
        ("make_singles", r"item 0 is not an \(image, label\) pair"),
        ("Items", None),
    ],
)
def test_bad_factories(factory_file, name, message):
    """A factory that is missing, raises or returns something else is an error that says so."""
    if message is None:
        assert 30 == len(open_data(f"{factory_file}:{name}"))
        return
    with pytest.raises(DataError, match=message):
        open_data(f"{factory_file}:{name}")


def test_factory_of_float_images(factory_file):
    """Transformed images are refused as soon as the data is opened: the preprocessing is isplit's."""
    with pytest.raises(DataError, match="item 0 is float64"):
        open_data(f"{factory_file}:make_floats")


def test_file_that_cannot_be_imported(tmp_path):
    """A missing file, a missing module and a syntax error are errors with the cause in them."""
    with pytest.raises(DataError, match="there is no such file"):
        open_data(f"{tmp_path}/gone.py:make")
    with pytest.raises(DataError, match="ModuleNotFoundError"):
        open_data("no_such_package.here:make")
    (tmp_path / "bad.py").write_text("def")
    with pytest.raises(DataError, match="SyntaxError"):
        open_data(f"{tmp_path}/bad.py:make")
