"""isplit.design.inputs.batches: images arrive in order and normalised, errors with their batch, and the threads end."""

import numpy as np
import pytest
import torch
from torchvision import transforms

from isplit.design.inputs.batches import Batch, iter_batches, normalise
from isplit.design.inputs.data import open_data
from isplit.errors import DataError, InputError
from isplit.records import Preprocessing

SMALL = Preprocessing(
    image_size=(6, 6),
    resize_size=6,
    interpolation="bilinear",
    channels=3,
    mean=(0.1, 0.2, 0.3),
    std=(0.5, 0.6, 0.7),
)


def test_batches_equal_torchvision(tmp_path, class_files, write_files):
    """Batches hold the images in the order asked for, as torchvision's transforms make them."""
    dataset = open_data(str(write_files(tmp_path, class_files())))
    order = np.array([3, 19, 0, 7, 11])
    theirs = transforms.Compose(
        [
            transforms.Resize(6),
            transforms.CenterCrop(6),
            transforms.ToTensor(),
            transforms.Normalize(SMALL.mean, SMALL.std),
        ]
    )

    batches = list(iter_batches(dataset, order, SMALL, batch_size=2))

    assert [2, 2, 1] == [len(batch.indices) for batch in batches]
    assert order.tolist() == np.concatenate([batch.indices for batch in batches]).tolist()
    assert [0, 1, 0, 0, 1] == torch.cat([batch.labels for batch in batches]).tolist()
    expected = torch.stack([torch.as_tensor(theirs(dataset.image(int(index)))) for index in order])
    torch.testing.assert_close(expected, torch.cat([batch.images for batch in batches]), rtol=0, atol=0)
    assert isinstance(batches[0], Batch)


def test_normalise_leaves_the_pixels():
    """The pixels given are not written to."""
    given_pixels = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)

    images = normalise(given_pixels, SMALL)

    torch.testing.assert_close(torch.tensor([1.8, 0.8 / 0.6, 1.0]), images[0, :, 0, 0])
    assert 255 == int(given_pixels.min())


def test_no_indices_no_batches(tmp_path, class_files, write_files):
    """Nothing asked for gives nothing."""
    dataset = open_data(str(write_files(tmp_path, class_files())))

    assert [] == list(iter_batches(dataset, [], SMALL, batch_size=4))


def test_batch_size_must_be_positive(tmp_path, class_files, write_files):
    """A batch size of 0 is an error at once, not at the first batch."""
    dataset = open_data(str(write_files(tmp_path, class_files())))

    with pytest.raises(InputError, match="at least 1, not 0"):
        iter_batches(dataset, [1], SMALL, batch_size=0)


def test_a_broken_image_surfaces_with_its_batch(tmp_path, class_files, write_files, decoding_threads):
    """The batches before a damaged image are given; then its own error comes up, and the threads end."""
    dataset = open_data(str(write_files(tmp_path, class_files() | {"cat/05.png": b"junk"})))
    batches = iter_batches(dataset, range(10), SMALL, batch_size=2)

    assert [0, 1] == next(batches).indices.tolist()
    assert [2, 3] == next(batches).indices.tolist()
    with pytest.raises(DataError, match=r"cat/05\.png is not an image"):
        next(batches)
    assert [] == decoding_threads()


def test_closing_stops_the_threads(tmp_path, class_files, write_files, decoding_threads):
    """A caller that has seen enough leaves no thread behind."""
    dataset = open_data(str(write_files(tmp_path, class_files())))
    batches = iter_batches(dataset, range(20), SMALL, batch_size=2)
    next(batches)

    assert decoding_threads()
    batches.close()
    assert [] == decoding_threads()
