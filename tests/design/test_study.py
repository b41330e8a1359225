"""A study that is opened again is the one that was analysed, or it is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from isplit.design.study import Study, open_study
from isplit.errors import DataError, ModelError, StudyError
from isplit.records import GraphRecord, StudyRecord


@pytest.fixture
def copied(analysed: Path, tiny_data: Path, tiny_model_file: Path, tiny_weights: Path, tmp_path: Path) -> Path:
    """A study with model, weights and data of its own beside it, to be changed."""
    shutil.copytree(tiny_data, tmp_path / "data")
    shutil.copy(tiny_model_file, tmp_path / "model.py")
    shutil.copy(tiny_weights, tmp_path / "weights.safetensors")
    directory = tmp_path / "study"
    directory.mkdir()
    GraphRecord.load(analysed).save(directory)
    record = StudyRecord.load(analysed)
    model = record.model.model_copy(
        update={"spec": f"{tmp_path / 'model.py'}:build", "weights": str(tmp_path / "weights.safetensors")}
    )
    data = record.data.model_copy(update={"spec": str(tmp_path / "data")})
    record.model_copy(update={"model": model, "data": data}).save(directory)
    return directory


def test_opened_as_it_was(copied: Path, opened: Study) -> None:
    """Model, data and preprocessing are those that were analysed."""
    again = open_study(copied, allow_code=True)

    assert opened.record.groups == again.record.groups
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(opened.graph.module(images), again.graph.module(images))
    assert {part: len(members) for part, members in again.data.parts.items()} == again.record.data.part_images


def change_weights(directory: Path) -> None:
    path = directory.parent / "weights.safetensors"
    state = load_file(path)
    state["fc.bias"][0] += 1e-3
    save_file(state, path)


def change_an_image(directory: Path) -> None:
    path = directory.parent / "data" / "train" / "bars" / "03.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)


def move_an_image(directory: Path) -> None:
    root = directory.parent / "data" / "train"
    (root / "bars" / "03.png").rename(root / "dots" / "99.png")


def change_the_code(directory: Path) -> None:
    path = directory.parent / "model.py"
    path.write_text(path.read_text().replace("self.relu3 = nn.ReLU()", "self.relu3 = nn.GELU()"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_weights, "the model's weights changed"),
        (change_an_image, "the data changed"),
        (move_an_image, "the data changed"),
        (change_the_code, "the model's operations changed"),
    ],
)
def test_changed_since(copied: Path, change, says: str) -> None:
    """One weight, one pixel, one label or one operation that differs is noticed and named."""
    change(copied)

    with pytest.raises(StudyError, match=f"{says} since `isplit analyze`"):
        open_study(copied, allow_code=True)


def test_weights_and_data_that_moved(copied: Path) -> None:
    """Elsewhere the same files are the same; told where, the study opens."""
    elsewhere = copied.parent / "elsewhere"
    elsewhere.mkdir()
    for name in ("weights.safetensors", "data"):
        (copied.parent / name).rename(elsewhere / name)
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        open_study(copied, allow_code=True)
    with pytest.raises(DataError, match="data"):
        open_study(copied, allow_code=True, weights=str(elsewhere / "weights.safetensors"))

    open_study(copied, allow_code=True, weights=str(elsewhere / "weights.safetensors"), data=str(elsewhere / "data"))


def test_no_study(tmp_path: Path) -> None:
    """A directory without records is not a study."""
    with pytest.raises(StudyError, match=r"study\.json is missing"):
        open_study(tmp_path)


def test_module_in_memory_has_to_be_given(copied: Path) -> None:
    """What was analysed as a module in Python cannot be found again by name."""
    record = StudyRecord.load(copied)
    model = record.model.model_copy(update={"spec": "python:TinyNet"})
    record.model_copy(update={"model": model}).save(copied)

    with pytest.raises(StudyError, match="open it from Python and pass the module"):
        open_study(copied, allow_code=True)


def test_groups_cuts_and_images(opened: Study) -> None:
    """Subsets by name, cuts of the curve by default, and images of a subset's classes in balance."""
    assert ["all classes", "bars,dots"] == [opened.view(name).name for name in (None, "bars,dots")]
    with pytest.raises(StudyError, match=r"no class subset 'cats'; it has: all classes, bars,dots, bars,rows"):
        opened.view("cats")
    names = [cut.name for cut in opened.cuts()]
    assert "relu1" in names
    assert "avgpool" not in names
    assert ["pool1", "avgpool"] == [cut.name for cut in opened.cuts(("pool1", "avgpool", "pool1"))]
    with pytest.raises(StudyError, match="no cut 'nonsense'"):
        opened.cuts(("nonsense",))
    view = opened.view("bars,rows")
    chosen = view.images("fit", limit=4)
    assert [2, 0, 2] == np.bincount(opened.data.labels[chosen], minlength=3).tolist()
    assert set(chosen) <= set(opened.data.parts["fit"])


def test_words_for_cuts(study):
    """Names come once each, in the order of computation; "all" are the curve's, "candidates" those that were ranked."""
    everything = study.cut_names(["all"])
    assert tuple(cut.name for cut in study.cuts()) == everything
    assert ("pool1", "pool2") == study.cut_names(["pool2", " pool1", "", "pool2"])
    assert {candidate.cut for candidate in study.candidates} == set(study.cut_names(["candidates"]))
    assert () == study.cut_names([""])


def test_unknown_cut(study):
    """A cut that is not there is refused."""
    with pytest.raises(StudyError, match="has no cut 'pool9'"):
        study.cut_names(["pool9"])


def test_code_runs_only_when_the_user_says_so(copied: Path, tmp_path: Path) -> None:
    """A study that names a Python file is data: opening it runs nothing unless that is allowed or named again."""
    witness = tmp_path / "ran"
    path = tmp_path / "model.py"
    path.write_text(f"from pathlib import Path\nPath({str(witness)!r}).touch()\n" + path.read_text())

    with pytest.raises(StudyError, match=r"names Python code as its model, .*model\.py:build.*`allow_code=True`"):
        open_study(copied)
    assert not witness.exists()
    open_study(copied, model=f"{path}:build")
    assert witness.exists()
    witness.unlink()
    open_study(copied, allow_code=True)
    assert witness.exists()


def test_code_of_the_data_too(copied: Path) -> None:
    """Data from a factory are asked about like a model from one."""
    record = StudyRecord.load(copied)
    data = record.data.model_copy(update={"spec": "stats.py:factory"})
    record.model_copy(update={"data": data}).save(copied)
    with pytest.raises(StudyError, match=r"names Python code as its data, stats\.py:factory"):
        open_study(copied, model=record.model.spec)


def test_a_file_inside_the_study_is_never_code(copied: Path) -> None:
    """Also when code is allowed: who shares a study would share code with it."""
    (copied / "model.py").write_text((copied.parent / "model.py").read_text())
    record = StudyRecord.load(copied)
    model = record.model.model_copy(update={"spec": f"{copied / 'model.py'}:build"})
    record.model_copy(update={"model": model}).save(copied)
    with pytest.raises(StudyError, match="a study is data, and its files are not run"):
        open_study(copied, allow_code=True)


def test_relative_paths_are_found_from_elsewhere(copied: Path, tmp_path: Path, monkeypatch) -> None:
    """A study made with relative paths opens from any folder, as long as the files lie around it as they did."""
    record = StudyRecord.load(copied)
    model = record.model.model_copy(update={"spec": "model.py:build", "weights": "weights.safetensors"})
    data = record.data.model_copy(update={"spec": "data"})
    record.model_copy(update={"model": model, "data": data}).save(copied)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    assert record.model.fingerprint == open_study(copied, allow_code=True).model.source.fingerprint
