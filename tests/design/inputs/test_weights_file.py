"""Files of weights are read without running code from them, also where they are divided over several files."""

import json
import tarfile

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from isplit.design.inputs.weights_file import read_weights
from isplit.errors import ModelError

FIRST = {"conv.weight": torch.arange(6.0).reshape(2, 3)}
SECOND = {"linear.weight": torch.ones(3), "linear.bias": torch.zeros(1)}


def write_index(folder, places, *, name="model.safetensors.index.json"):
    """Write an index as Hugging Face's libraries do, and return its path."""
    index = folder / name
    index.write_text(json.dumps({"metadata": {"total_size": 40}, "weight_map": places}))
    return index


@pytest.mark.parametrize(("kind", "save"), [("safetensors", save_file), ("bin", torch.save)])
def test_weights_in_several_files(tmp_path, kind, save):
    """The tensors of all files that an index names are one state, under their own names."""
    names = [f"model-0000{number}-of-00002.{kind}" for number in (1, 2)]
    for name, part in zip(names, (FIRST, SECOND), strict=True):
        save(part, tmp_path / name)
    places = dict.fromkeys(FIRST, names[0]) | dict.fromkeys(SECOND, names[1])
    index = write_index(tmp_path, places, name=f"model.{kind}.index.json")

    file = read_weights(index)

    assert index == file.path
    assert [""] == list(file.states)
    assert {**FIRST, **SECOND}.keys() == file.states[""].keys()
    assert torch.equal(FIRST["conv.weight"], file.states[""]["conv.weight"])


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": "gone.safetensors"}, "there is no file of weights .*gone.safetensors"),
        ({"linear.bias": "1.safetensors"}, "1.safetensors does not hold linear.bias"),
        ({"conv.weight": "../1.safetensors"}, "files of weights that lie beside it"),
        ({"conv.weight": "model.safetensors.index.json"}, "files of weights that lie beside it"),
        ({"conv.weight": 3}, "files of weights that lie beside it"),
        ({}, "files of weights that lie beside it"),
        (["conv.weight"], "cannot be read: .*weight_map"),
    ],
)
def test_a_damaged_index(tmp_path, places, message):
    """What it cannot give is refused with its name; no file elsewhere is read, nor the index as its own part."""
    (tmp_path / "inner").mkdir()
    for folder in (tmp_path, tmp_path / "inner"):
        save_file(FIRST, folder / "1.safetensors")

    with pytest.raises(ModelError, match=message):
        read_weights(write_index(tmp_path / "inner", places))


def test_what_torch_says_is_put_in_a_line(tmp_path):
    """The reason stands in the message without torch's advice to load what is unsafe."""
    torch.save(FIRST, tmp_path / "protocol.pt", pickle_protocol=4)
    (tmp_path / "page.pth").write_bytes(b"PK<!DOCTYPE html>")
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.add(tmp_path / "protocol.pt", "protocol.pt")

    for name, reason in (
        ("protocol.pt", "another protocol of pickle than"),
        ("page.pth", "page.pth"),
        ("archive.tar", "it is a tar file"),
    ):
        with pytest.raises(ModelError, match=reason) as error:
            read_weights(tmp_path / name)
        assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "w.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            r"a pointer of Git LFS.*git lfs pull",
        ),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        ("w.pth", b"\n<!DOCTYPE html><html>", "a page of HTML"),
        ("w.safetensors", b"<html>", "a page of HTML"),
        ("w.bin", b"", "is empty"),
        ("w.pt", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("w.bin", b"GGUF\3\0\0\0", "GGUF"),
        ("w.pth", save(FIRST), "holds safetensors: call it"),
        ("w.safetensors", b"PK\3\4", "was written by torch.save: call it"),
    ],
)
def test_files_that_hold_something_else(tmp_path, name, content, words):
    """What a file holds is said, where its first bytes tell."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelError, match=rf"{name} .*{words}"):
        read_weights(tmp_path / name)


def test_endings_in_capitals(tmp_path):
    """The case of a file's ending does not matter."""
    save_file(FIRST, tmp_path / "W.SAFETENSORS")

    assert FIRST.keys() == read_weights(tmp_path / "W.SAFETENSORS").states[""].keys()


def test_a_whole_model(tmp_path):
    """A model that was saved as an object holds no tensors that could be read, and its class is named."""
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")

    with pytest.raises(ModelError, match=r"it holds objects of torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
        read_weights(tmp_path / "model.pth")
