"""Pieces of unfinished work: found by all that they depend on, and by nothing less."""

import numpy as np

from isplit.design.kept_work import KEPT_WORK, NOTHING_KEPT, KeptWork


def test_a_piece_is_found_by_what_it_depends_on(tmp_path) -> None:
    """Other inputs, phases, details or arrays find nothing; the same ones find the same values, scalars included."""
    kept = KeptWork(tmp_path, {"model": "a"}).with_inputs(images=np.arange(3))
    kept.save({"x": np.eye(2), "n": np.array(5)}, "sums", cut="one")

    piece = kept.load("sums", cut="one")

    assert piece is not None
    assert (5, [[1.0, 0.0], [0.0, 1.0]]) == (int(piece["n"]), piece["x"].tolist())
    assert kept.load("sums", cut="two") is None
    assert kept.load("split", cut="one") is None
    assert KeptWork(tmp_path, {"model": "b"}).with_inputs(images=np.arange(3)).load("sums", cut="one") is None
    assert KeptWork(tmp_path, {"model": "a"}).with_inputs(images=np.arange(4)).load("sums", cut="one") is None


def test_damage_is_as_if_nothing_were_there(tmp_path) -> None:
    """A file that was cut off is not read."""
    kept = KeptWork(tmp_path)
    kept.save({"x": np.arange(100)}, "sums")
    (path,) = (tmp_path / KEPT_WORK).iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert kept.load("sums") is None


def test_forgotten(tmp_path) -> None:
    """One piece or all of them go, and what keeps nothing writes nothing."""
    kept = KeptWork(tmp_path)
    kept.save({"x": np.arange(2)}, "sums")
    kept.remove("sums")
    assert kept.load("sums") is None
    kept.save({"x": np.arange(2)}, "sums")
    kept.clear()
    assert [] == list(tmp_path.iterdir())
    NOTHING_KEPT.save({"x": np.arange(2)}, "sums")
    assert NOTHING_KEPT.load("sums") is None
