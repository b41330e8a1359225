"""Every file that is read has a limit, and a file beyond it is refused with both sizes before memory is taken."""

import csv
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isplit.codec.image import decode_image
from isplit.design.class_subsets import _read_json
from isplit.design.inputs.class_outputs import _read_class_map
from isplit.design.inputs.data import open_data
from isplit.design.inputs.weights_file import LARGEST_HEADER_BYTES, LARGEST_WEIGHTS_BYTES, read_weights
from isplit.errors import BundleError, DataError, InputError, ModelError, StudyError
from isplit.plan.arrivals import read_times
from isplit.plan.limits import read_limits
from isplit.plan.links import read_trace
from isplit.records import load_arrays, read_answers, save_arrays
from isplit.records.arrays import LARGEST_ARRAYS_BYTES
from isplit.records.files import (
    LARGEST_CREDENTIAL_BYTES,
    LARGEST_IMAGE_BYTES,
    LARGEST_JSON_BYTES,
    LARGEST_TABLE_BYTES,
    read_limited,
)
from isplit.records.yaml_files import LARGEST_YAML_BYTES, read_yaml
from isplit.runtime.access import read_pem
from isplit.runtime.external_data import LARGEST_MODEL_BYTES, external_data

READERS = {
    "class map": (LARGEST_JSON_BYTES, lambda path: _read_class_map(path, ["a"], ["a"], num_outputs=3)),
    "class groups": (LARGEST_JSON_BYTES, _read_json),
    "limits": (LARGEST_YAML_BYTES, read_limits),
    "options": (LARGEST_YAML_BYTES, lambda path: read_yaml(path, kind="a file of options")),
    "request times": (LARGEST_TABLE_BYTES, read_times),
    "trace": (LARGEST_TABLE_BYTES, read_trace),
    "labels": (LARGEST_TABLE_BYTES, lambda path: open_data(str(path))),
    "image": (LARGEST_IMAGE_BYTES, lambda path: decode_image(path, name=str(path))),
    "certificate": (LARGEST_CREDENTIAL_BYTES, read_pem),
    "weights": (LARGEST_WEIGHTS_BYTES, read_weights),
    "arrays": (LARGEST_ARRAYS_BYTES, load_arrays),
    "model": (LARGEST_MODEL_BYTES, external_data),
}
SUFFIXES = {"class groups": ".json", "labels": ".csv", "image": ".png", "weights": ".safetensors"}


@pytest.mark.parametrize("name", READERS)
def test_files_beyond_their_limit(tmp_path, name):
    """The message says the size and the limit; the file, which has holes, takes no room and no time."""
    limit_bytes, read = READERS[name]
    path = tmp_path / f"file{SUFFIXES.get(name, '')}"
    with path.open("wb") as file:
        file.truncate(limit_bytes + 1)
    with pytest.raises(InputError, match=rf"has {limit_bytes + 1:,} bytes, and .* at most {limit_bytes:,}"):
        read(path)


def test_header_of_weights(tmp_path):
    """A .safetensors file that announces a header beyond the limit is refused by it."""
    path = tmp_path / "w.safetensors"
    path.write_bytes((LARGEST_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match=r"has 100,000,001 bytes, and the header of .safetensors has at most"):
        read_weights(path)


def test_arrays_that_unpack_to_too_much(tmp_path):
    """The sizes after unpacking are added up before anything is unpacked."""
    path = tmp_path / "a.npz"
    save_arrays(path, {"zeros": np.zeros(100_000, np.uint8)})
    assert path.stat().st_size < 1000
    with pytest.raises(StudyError, match=r"has 100,128 bytes, and such a file, unpacked, has at most 50,000"):
        load_arrays(path, limit_bytes=50_000)


def test_a_stream_without_a_size(tmp_path):
    """What grows while it is read, or is a pipe, is read up to the limit and no further."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)  # so that nobody waits for the other end
    try:
        os.write(descriptor, bytes(200))
        with pytest.raises(InputError, match="has 101 bytes, and a pipe has at most 100"):
            read_limited(path, limit_bytes=100, kind="a pipe")
    finally:
        os.close(descriptor)


def test_a_line_of_answers_that_does_not_end(tmp_path):
    """A file of answers is read a line at a time, and a line has a limit."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * (2**24 + 10))
    with pytest.raises(DataError, match=r"line 1, is longer than the 16,777,216 bytes"):
        list(read_answers(path))


# --- other ways to an error that nobody wrote a message for ---


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 2]\nb: *a",
        "max_latency_ms: 2001-99-99",
        "max_latency_ms: " + "1" * 5000,
        "[" * 3000,
        "a: [",
        "\xff",
        "? [a]\n: 1\n? {b: c}\n: 1",
    ],
    ids=["alias", "date", "digits", "depth", "open", "latin-1", "keys"],
)
def test_yaml(tmp_path, text):
    """Whatever PyYAML makes of a file, it is bad input: aliases, dates that are none, endless digits or depth."""
    path = tmp_path / "limits.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="limits"):
        read_limits(path)


def test_yaml_bomb_is_not_expanded(tmp_path):
    """Aliases, by which 300 bytes stand for billions of words, are not followed."""
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="alias"):
        read_yaml(tmp_path / "bomb.yaml", kind="a file of options")


def test_class_groups_nested_too_deep(tmp_path):
    """JSON that is nested too deep is not JSON for us."""
    (tmp_path / "g.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not JSON"):
        _read_json(tmp_path / "g.json")


def test_cells_beyond_the_limit_of_csv(tmp_path):
    """A cell longer than the csv module takes is bad input in a trace and in a table of labels."""
    cell = "x" * (csv.field_size_limit() + 1)
    (tmp_path / "t.csv").write_text(f"time_s,bits_per_s,rtt_ms,loss\n{cell},1,1,0\n")
    with pytest.raises(InputError, match="is not a table"):
        read_trace(tmp_path / "t.csv")
    (tmp_path / "l.csv").write_text(f"path,label\n{cell},1\n")
    with pytest.raises(DataError, match="is not a table"):
        open_data(str(tmp_path / "l.csv"))


def test_an_image_at_the_limit_is_read(tmp_path):
    """The limit does not touch what it should not: an uncompressed picture."""
    path = tmp_path / "a.bmp"
    Image.new("RGB", (64, 64)).save(path)
    assert (64, 64) == decode_image(path, name="a").size


def test_npz_that_declares_too_little(tmp_path):
    """An archive whose directory says less than its members hold gives no more than that, and is damaged."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        array = io.BytesIO()
        np.save(array, np.zeros(10**6, np.uint8))
        archive.writestr("a.npy", array.getvalue())
    raw = bytearray(content.getvalue())
    directory = raw.rindex(b"PK\x01\x02")
    raw[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    Path(tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(StudyError, match="damaged"):
        load_arrays(tmp_path / "a.npz", limit_bytes=5000)


def test_empty_model(tmp_path):
    """An empty ONNX file stays what it was: no model."""
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="empty"):
        external_data(tmp_path / "m.onnx")
