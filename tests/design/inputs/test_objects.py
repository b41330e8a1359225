"""isplit.design.inputs.objects: labelled images that a program holds are taken as they are, or refused in words."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset
from torchvision.datasets import FakeData

from isplit.design.inputs.data import open_data
from isplit.errors import DataError

LABELS = np.arange(20) % 2


@pytest.mark.parametrize(
    "convert",
    [
        lambda images: (images, LABELS),
        lambda images: [images, LABELS.tolist()],
        lambda images: (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(LABELS)),
        lambda images: (images / 255, LABELS),
        lambda images: TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(LABELS)),
        lambda images: DataLoader(
            TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2) / 255, torch.from_numpy(LABELS)), batch_size=8
        ),
        lambda images: [(Image.fromarray(image), int(label)) for image, label in zip(images, LABELS, strict=True)],
    ],
    ids=["arrays", "lists", "tensors", "floats", "torch set", "loader", "list of pairs"],
)
def test_kinds_of_objects(pixels, convert):
    """Arrays, tensors, sets and loaders give the images' own pixels and labels."""
    images = pixels(0, (20, 8, 7, 3))

    dataset = open_data(convert(images))

    assert LABELS.tolist() == dataset.labels.tolist()
    assert {"fit": 16, "select": 2, "test": 2} == {part: len(indices) for part, indices in dataset.parts.items()}
    for index in (0, 7, 19):
        np.testing.assert_array_equal(images[index], np.asarray(dataset.image(index)))
    assert dataset.spec.startswith("python:")


def test_parts_in_a_dictionary(pixels):
    """A dictionary holds the parts, under any of the names that parts have."""
    arrays = {
        "training": (pixels(0, (20, 8, 7)), LABELS),
        "validation": (pixels(1, (4, 8, 7)), LABELS[:4]),
        "test": (pixels(2, (6, 8, 7)), LABELS[:6]),
    }

    dataset = open_data(arrays)

    assert {"fit": 20, "select": 4, "test": 6} == {part: len(indices) for part, indices in dataset.parts.items()}
    sets = {"train": FakeData(20, (3, 8, 8), 2), "test": FakeData(6, (3, 8, 8), 2)}
    assert 6 == len(open_data(sets).parts["test"])


def test_loader_of_some_items(pixels):
    """A loader that draws from some of its set's items gives those, in order."""
    items = [(Image.fromarray(image), int(label)) for image, label in zip(pixels(0, (20, 8, 7)), LABELS, strict=True)]
    chosen = [9, 3, 2, 8, 4, 5, 7, 6]

    dataset = open_data(DataLoader(items, sampler=SubsetRandomSampler(chosen)))  # type: ignore[arg-type]

    assert [LABELS[i] for i in sorted(chosen)] == dataset.labels.tolist()


class Stream(IterableDataset):
    """A set without length or numbered items."""

    def __iter__(self):
        yield Image.new("L", (4, 4)), 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Stream(), "python:Stream has no length or no items by number"),
        (DataLoader(Stream()), "no image can be read twice"),
        (5, "python:int has no length or no items by number"),
        (None, "python:NoneType"),
        ((np.zeros((4, 8, 8), np.float32) - 1, np.arange(4)), "not normalised"),
        ((np.zeros((4, 8, 8), np.uint8), np.arange(3)), "4 images but 3 labels"),
        ((np.zeros((4, 8, 8), np.uint8), np.linspace(0, 1, 4)), "one integer per image"),
        (DataLoader(TensorDataset(torch.randn(8, 3, 8, 8), torch.arange(8) % 2)), "without its Normalize"),
    ],
)
def test_other_objects(value, message):
    """Streams, numbers, and what was normalised are refused."""
    torch.manual_seed(0)
    with pytest.raises(DataError, match=message):
        open_data(value)


def test_a_recorded_object_cannot_be_opened_by_name():
    """What was in memory is passed again."""
    with pytest.raises(DataError, match="held in memory by a program: pass the data itself"):
        open_data("python:DataLoader")


@pytest.mark.parametrize("kind", ["arrays", "tensors", "set"])
def test_any_number_of_channels(kind):
    """Pictures of five channels, with the channels last in arrays and first in tensors."""
    arrays = np.random.default_rng(0).integers(0, 256, (12, 20, 26, 5), dtype=np.uint8)
    labels = np.arange(12) % 2
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    data = {
        "arrays": (arrays, labels),
        "tensors": (tensors, torch.from_numpy(labels)),
        "set": torch.utils.data.TensorDataset(tensors, torch.from_numpy(labels)),
    }[kind]

    dataset = open_data(data)

    np.testing.assert_array_equal(arrays[7], dataset.image(7))


def test_arrays_with_their_channels_first_are_refused():
    """Read as they are they would be a few rows of many channels."""
    with pytest.raises(DataError, match=r"give images.transpose\(0, 2, 3, 1\)"):
        open_data((np.zeros((12, 3, 32, 32), np.uint8), np.arange(12) % 2))
