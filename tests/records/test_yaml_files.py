"""isplit.records.yaml_files: plain values are read, and what is none is refused with one line."""

import pytest

from isplit.records.files import FileTooLargeError
from isplit.records.yaml_files import LARGEST_YAML_BYTES, read_yaml


@pytest.fixture
def read(tmp_path):
    """Write content to a file and read it."""

    def read_content(content: bytes):
        path = tmp_path / "limits.yaml"
        path.write_bytes(content)
        return read_yaml(path, kind="a file of limits")

    return read_content


def test_plain_values(read):
    """Numbers, texts and lists come as such; a byte order mark is no part of the first name."""
    assert {"max_latency_ms": 50, "names": ["a", "é"]} == read("\ufeffmax_latency_ms: 50\nnames: [a, é]\n".encode())
    assert read(b"") is None


def test_numbers_are_those_of_yaml_1_2(read):
    """A time of day is a text and not a number to the base of 60, and a leading zero does not mean octal."""
    content = b"a: 1:30\nb: '010'\nc: 010\nd: 1:30.5\ne: -7\nf: 0x10\ng: 1_000\nh: .5\ni: -1.5e+3\nj: .inf\nk: 0\n"
    expected = {"a": "1:30", "b": "010", "c": "010", "d": "1:30.5", "e": -7, "f": 16, "g": 1000, "h": 0.5}
    assert expected | {"i": -1500.0, "j": float("inf"), "k": 0} == read(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: &x 1\nb: *x\n", "alias"),
        (b"a: [1, 2\n", "expected"),
        (b"a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        (b"[" * 5000, "nested too deep"),
        (b"a: \xff\n", "utf-8"),
    ],
)
def test_refused(read, content, says):
    """Aliases, broken YAML, Python objects, deep nesting and other encodings are a ValueError of one line."""
    with pytest.raises(ValueError, match=says) as refused:
        read(content)
    assert "\n" not in str(refused.value)


def test_too_large(read):
    """A file beyond the limit is not parsed, and the message says what it should have been."""
    with pytest.raises(FileTooLargeError, match="a file of limits"):
        read(b"#" * (LARGEST_YAML_BYTES + 1))
