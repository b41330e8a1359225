"""isplit analyze on a study that is there: what is used again, what is added, and what is noticed."""

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.tiny_study import RECORDS, read

COUNTED_DATA = '''
from pathlib import Path

import numpy as np

LOG = Path(__file__).with_name("reads.txt")


class Counted:
    """Stripes, upright and lying; every picture read leaves a line in reads.txt."""

    classes = ("bars", "dots", "rows")

    def __init__(self):
        self.targets = [i % 3 for i in range(60)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        with LOG.open("a") as file:
            file.write(f"{i}\\n")
        rng = np.random.default_rng(i)
        return rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), self.targets[i]


def make():
    return Counted()
'''


@pytest.fixture
def counted(tmp_path):
    """A data factory, and a function that says how many pictures were read since it was last asked."""
    path = tmp_path / "counted.py"
    path.write_text(COUNTED_DATA)

    def reads():
        log = tmp_path / "reads.txt"
        count = len(log.read_text().splitlines()) if log.exists() else 0
        log.unlink(missing_ok=True)
        return count

    return f"{path}:make", reads


def test_same_seed_same_bytes(isplit, finished, tiny_args, tmp_path, without_report):
    """Two runs on the same input give the same records, byte for byte."""
    isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--quiet")
    for name in RECORDS:
        assert (finished[0] / name).read_bytes() == (tmp_path / "s" / name).read_bytes()


def test_rerun_reuses_what_is_there(isplit, tiny_model_file, counted, tmp_path, without_report):
    """A second run reads neither the test part nor the scored images again, and gives the same bytes."""
    data, reads = counted
    command = ("analyze", f"{tiny_model_file}:build", data, "-o", tmp_path / "s", "--quiet")
    assert 0 == isplit(*command).code
    first = {name: (tmp_path / "s" / name).read_bytes() for name in RECORDS}
    assert reads() >= 54
    assert 0 == isplit(*command).code
    assert first == {name: (tmp_path / "s" / name).read_bytes() for name in RECORDS}
    assert reads() <= 6 + 28  # the few pictures of the overlays, and those that tell whether the data is the same


def test_more_images_adds_to_what_is_there(isplit, tiny_model_file, counted, tmp_path, without_report):
    """A run with more images scores only those that are new."""
    data, reads = counted
    command = ("analyze", f"{tiny_model_file}:build", data, "-o", tmp_path / "s", "--quiet", "--images")
    isplit(*command, 30)
    reads()
    assert 0 == isplit(*command, 42).code
    assert reads() <= 12 + 6 + 28
    assert 42 == read(tmp_path / "s", "curve.json")["images"]
    isplit(*command[:4], tmp_path / "fresh", "--quiet", "--images", 42)
    assert read(tmp_path / "fresh", "curve.json") == read(tmp_path / "s", "curve.json")


def test_changed_model_code_is_not_mistaken_for_the_old(isplit, tiny_args, tmp_path, without_report):
    """Same weights, another activation: the old scores are not taken for the new model's."""
    source = Path(tiny_args[0].removesuffix(":build")).read_text()
    path = tmp_path / "mine.py"
    path.write_text(source)
    rest = (tiny_args[1], "--weights", tiny_args[3], "--quiet", "-o")
    assert 0 == isplit("analyze", f"{path}:build", *rest, tmp_path / "s").code
    path.write_text(source.replace("nn.ReLU()", "nn.Sigmoid()"))
    result = isplit("analyze", f"{path}:build", *rest, tmp_path / "s")
    if result.code:
        assert 2 == result.code
        assert "--overwrite" in result.err
        return
    assert 0 == isplit("analyze", f"{path}:build", *rest, tmp_path / "fresh").code
    for name in ("study.json", "curve.json", "candidates.json"):
        assert read(tmp_path / "fresh", name) == read(tmp_path / "s", name)


def test_changed_pictures_are_noticed(isplit, tiny_args, tiny_data, tmp_path, without_report):
    """Other pictures under the same names, of the same length in bytes: the study is refused or made anew."""
    for path in sorted((tiny_data / "train").rglob("*.png")):
        copy = tmp_path / "data" / path.parent.name / f"{path.stem}.bmp"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(copy)
    command = ("analyze", tiny_args[0], tmp_path / "data", *tiny_args[2:], "--quiet", "-o")
    assert 0 == isplit(*command, tmp_path / "s").code
    for path in (tmp_path / "data").rglob("*.bmp"):
        Image.open(path).point(lambda value: value // 2).save(path)
    result = isplit(*command, tmp_path / "s")
    if result.code:
        assert 2 == result.code
        assert "data" in result.err
        return
    assert 0 == isplit(*command, tmp_path / "fresh").code
    assert read(tmp_path / "fresh", "curve.json") == read(tmp_path / "s", "curve.json")


def test_other_test_images_are_measured(isplit, tiny_args, tmp_path, without_report):
    """The base accuracy is of as many test images as asked for now, not as an earlier run was asked for."""
    isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--test-images", 6)
    assert 6 == read(tmp_path / "s", "study.json")["base_accuracy"]["images"]
    result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--test-images", "all")
    assert 24 == read(tmp_path / "s", "study.json")["base_accuracy"]["images"]
    assert "of 24 test images" in result.err


def test_overwrite(isplit, study, tiny_model_file, tiny_data, without_report):
    """--overwrite replaces a study of another model."""
    result = isplit("analyze", f"{tiny_model_file}:build", tiny_data, "-o", study, "--overwrite")
    assert 0 == result.code
    assert read(study, "study.json")["model"]["weights"] is None
