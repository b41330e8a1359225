"""isplit.records.overlays: arrays come back as they were, and nothing damaged or pickled is read."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from isplit.errors import StudyError
from isplit.records import Overlays


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def some_overlays():
    rng = np.random.default_rng(0)
    return Overlays(
        images=rng.integers(0, 256, (2, 5, 6, 3), dtype=np.uint8),
        titles=("a cat", "é 層"),
        maps={
            "features.1": rng.random((2, 3, 4), dtype=np.float32),
            ":add_1": rng.random((2, 1, 1), dtype=np.float32),
        },
    )


def test_overlays_round_trip(tmp_path):
    """Images, titles and maps come back as they were, in the same order."""
    overlays = some_overlays()
    assert tmp_path / "overlays.npz" == overlays.save(tmp_path)
    loaded = Overlays.load(tmp_path)
    assert overlays.titles == loaded.titles
    assert list(overlays.maps) == list(loaded.maps)
    np.testing.assert_array_equal(overlays.images, loaded.images, strict=True)
    for cut, values in overlays.maps.items():
        np.testing.assert_array_equal(values, loaded.maps[cut], strict=True)
    assert ["overlays.npz"] == names_in(tmp_path)


def test_overlays_without_maps(tmp_path):
    """No maps are no error."""
    empty = Overlays(images=np.zeros((0, 4, 4, 3), np.uint8), titles=(), maps={})
    empty.save(tmp_path)
    assert ({}, ()) == (Overlays.load(tmp_path).maps, Overlays.load(tmp_path).titles)


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def refuse_overlays(directory):
    with pytest.raises(StudyError, match=r"overlays\.npz"):
        Overlays.load(directory)


@pytest.mark.parametrize("name", ["images", "titles", "cuts", "map_0"])
def test_pickled_overlays_are_refused(tmp_path, name):
    """An array of pickled objects is refused and nothing in it runs."""
    hostile = np.array([Hostile(tmp_path / "ran")], dtype=object)
    arrays = {"images": np.zeros((1, 2, 2, 3), np.uint8), "titles": np.array(["a"]), "cuts": np.array(["b"])}
    arrays |= {"map_0": np.zeros((1, 2, 2), np.float32), name: hostile}
    np.savez(tmp_path / "overlays.npz", **arrays)
    refuse_overlays(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_bare_pickle_is_refused(tmp_path):
    """A pickle under the name of the overlays is refused and does not run."""
    (tmp_path / "overlays.npz").write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    refuse_overlays(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_missing_overlays(tmp_path):
    """A missing file is an error that says how to write it."""
    with pytest.raises(StudyError, match="isplit analyze"):
        Overlays.load(tmp_path)


@pytest.mark.parametrize("length", [0, 10, 60, 300, -30])
def test_truncated_overlays(tmp_path, length):
    """A half-written file is refused, and closed."""
    content = some_overlays().save(tmp_path).read_bytes()
    (tmp_path / "overlays.npz").write_bytes(content[:length])
    refuse_overlays(tmp_path)


def test_flipped_byte(tmp_path):
    """A byte changed inside the compressed arrays is noticed."""
    content = bytearray(some_overlays().save(tmp_path).read_bytes())
    content[len(content) // 4] ^= 0xFF
    (tmp_path / "overlays.npz").write_bytes(content)
    refuse_overlays(tmp_path)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x40, 0xFF])
def test_every_flipped_byte(tmp_path, mask):
    """Whichever byte is changed, the file is refused or (where it means nothing, as in a date) read as it was."""
    overlays = Overlays(images=np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), titles=("a",), maps={})
    path = overlays.save(tmp_path)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= mask
        path.write_bytes(damaged)
        try:
            loaded = Overlays.load(tmp_path)
        except StudyError:
            continue
        np.testing.assert_array_equal(overlays.images, loaded.images, strict=True)
        assert (overlays.titles, overlays.maps) == (loaded.titles, loaded.maps), position


def test_plain_array_instead_of_overlays(tmp_path):
    """A single array under that name is refused."""
    with (tmp_path / "overlays.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    refuse_overlays(tmp_path)


def test_overlays_without_their_arrays(tmp_path):
    """An archive that lacks a map it names is refused."""
    np.savez(
        tmp_path / "overlays.npz", images=np.zeros((1, 2, 2, 3), np.uint8), titles=np.array(["a"]), cuts=np.array(["b"])
    )
    refuse_overlays(tmp_path)
