"""What is no ordinary file is refused by every reader of a path, at once and in a sentence that names it."""

import gzip
import os
import socket
import threading
from pathlib import Path

import pytest

from isplit.codec.image import decode_image
from isplit.design.class_subsets import _read_json
from isplit.design.inputs.class_outputs import _read_class_map
from isplit.design.inputs.data import open_data
from isplit.design.inputs.file_trees import directory_tree
from isplit.design.inputs.onnx_models import build_from_onnx
from isplit.design.inputs.weights_file import read_weights
from isplit.design.kept_work import KeptWork
from isplit.errors import InputError
from isplit.plan.arrivals import read_times
from isplit.plan.limits import read_limits
from isplit.plan.links import read_trace
from isplit.records import BundledFile, StudyRecord, files, load_arrays, read_answers
from isplit.records.yaml_files import read_yaml
from isplit.runtime.access import read_pem
from isplit.runtime.bundle import Bundle
from isplit.runtime.external_data import external_data

ORDINARY_ONLY = {
    "weights.pth": read_weights,
    "weights.safetensors": read_weights,
    "model.onnx": lambda path: build_from_onnx(str(path)),
    "bundled.onnx": external_data,
    "a file of a bundle": BundledFile.of,
    "manifest.json": lambda path: Bundle.open(path.parent),
    "study.json": lambda path: StudyRecord.load(path.parent),
    "scores.npz": load_arrays,
    "image.png": lambda path: decode_image(path, name=str(path)),
    "data.zip": lambda path: open_data(str(path)),
    "data.npz": lambda path: open_data(str(path)),
    "images.idx": lambda path: open_data(f"idx:{path},{path}"),
    "images.idx.gz": lambda path: open_data(f"idx:{path},{path}"),
}
PIPES_TOO = {
    "class map": lambda path: _read_class_map(path, ["a"], ["a"], num_outputs=3),
    "groups.json": _read_json,
    "limits": read_limits,
    "options": lambda path: read_yaml(path, kind="a file of options"),
    "request times": read_times,
    "trace": read_trace,
    "labels.csv": lambda path: open_data(str(path)),
    "certificate": read_pem,
    "answers": lambda path: list(read_answers(path)),
}
READERS = ORDINARY_ONLY | PIPES_TOO


def make(kind: str, path: Path) -> None:
    """Put something that is no file where one is expected."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    elif kind == "terminal":
        path.symlink_to("/dev/ptmx")
    elif kind == "loop of links":
        path.symlink_to(path.name)
    elif kind == "link to nothing":
        path.symlink_to("nothing")


KINDS = ["pipe", "folder", "socket", "endless device", "terminal", "loop of links", "link to nothing", "absent"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_no_file(name, kind, tmp_path, monkeypatch):
    """Pipes that nobody writes to, devices, sockets, folders and links in a circle end in one sentence."""
    monkeypatch.chdir(tmp_path)  # the name of a socket may be no longer than 107 bytes
    monkeypatch.setattr(files, "_PIPE_WAIT_S", 0.01)
    place = Path(name.replace(" ", "_"))
    make(kind, place)
    with pytest.raises((InputError, OSError)) as error:
        READERS[name](place.absolute())
    # The command line prints an OSError as one sentence, too.
    assert place.name in str(error.value) or place.name == "manifest.json"
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize("name", READERS)
def test_an_empty_or_unreadable_file(name, tmp_path):
    """An empty file is refused, or means that nothing is in it; random bytes are refused."""
    path = tmp_path / name.replace(" ", "_")
    if name not in ("options", "limits", "answers", "certificate", "a file of a bundle"):
        path.write_bytes(b"")
        with pytest.raises((InputError, OSError)):
            READERS[name](path)
    if name not in ("certificate", "a file of a bundle"):
        path.write_bytes(bytes(range(255, -1, -1)) * 3)
        with pytest.raises((ValueError, OSError)):  # callers put the path before a ValueError
            READERS[name](path)


def test_a_pipe_that_stalls(tmp_path, monkeypatch):
    """A pipe whose writer stops in the middle, and holds it open, is not waited for."""
    monkeypatch.setattr(files, "_PIPE_WAIT_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(descriptor, b"half of ")
        with pytest.raises(OSError, match="nothing was written into it"):
            files.read_limited(tmp_path / "pipe", limit_bytes=100, kind="a class map")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["images.idx", "data.zip", "weights.pth"])
def test_a_pipe_with_content_is_no_file(name, tmp_path):
    """What is read more than once, or out of order, cannot be a pipe, even if something is in it."""
    os.mkfifo(tmp_path / name)
    descriptor = os.open(tmp_path / name, os.O_RDWR)
    try:
        os.write(descriptor, b"PK\x03\x04" + bytes(100))
        with pytest.raises(InputError, match="it is a pipe, not a file"):
            READERS[name](tmp_path / name)
    finally:
        os.close(descriptor)


def test_the_empty_device():
    """/dev/null is an empty file, as everywhere."""
    assert b"" == files.read_limited(Path(os.devnull), limit_bytes=10, kind="a table")


def test_kept_work_that_is_a_pipe(tmp_path):
    """Work that is kept in a study is done again where its file is none."""
    work = KeptWork(tmp_path)
    path = work._path("phase", {})
    path.parent.mkdir()
    os.mkfifo(path)
    assert work.load("phase") is None


def test_a_compressed_file_cut_short(tmp_path):
    """A truncated .gz file is named."""
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + bytes(1000))[:-10])
    with pytest.raises(InputError, match=r"images\.gz"):
        open_data(f"idx:{path},{path}")


def test_folders_that_contain_themselves(tmp_path):
    """A link to a folder that it lies in is left out; one to another folder is followed."""
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "photos" / "cats" / "a.png").write_bytes(b"a")
    for number in range(8):  # without end, these would be 8 ** 40 folders
        (tmp_path / "photos" / f"loop{number}").symlink_to(tmp_path)
    (tmp_path / "photos" / "more cats").symlink_to("cats")
    paths: list[str] = []
    reader = threading.Thread(target=lambda: paths.extend(directory_tree(tmp_path / "photos").files), daemon=True)
    reader.start()
    reader.join(60)
    assert not reader.is_alive()
    assert {"cats/a.png", "more cats/a.png"} <= set(paths)
