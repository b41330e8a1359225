"""Files that people share: a missing, foreign or damaged one is told apart, and the message names the command."""

from pathlib import Path

import pytest

from isplit.errors import InputError
from isplit.records import ComputeRates, LinkRecord, ProfileRecord, check_shared_path, read_shared, write_shared
from isplit.records.files import LARGEST_RECORD_BYTES


def profile() -> ProfileRecord:
    rates = ComputeRates(macs_per_s=2e9, memory_bytes_per_s=4e9)
    return ProfileRecord(isplit_version="0", name="x", title="x", source="estimated", rates=rates)


def test_a_shared_file_may_have_any_name(tmp_path: Path):
    """What was written under one name is read back under another."""
    path = write_shared(profile(), tmp_path / "pi4.json").rename(tmp_path / "pi in the kitchen.json")
    assert profile() == read_shared(ProfileRecord, path, command="isplit profile")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "cannot be read as isplit.profile/1"),
        (b"\xff\xfe", "cannot be read as isplit.profile/1"),
        (b"{}", "no schema"),
        (b"[" * 100_000, "cannot be read as isplit.profile/1"),
        (b'{"schema": "isplit.profile/1", "name": "x"}', "isplit_version"),
    ],
)
def test_damaged_files_are_refused_with_advice(tmp_path: Path, content: bytes | None, words: str):
    """The message says what is wrong and which command writes such a file."""
    path = tmp_path / "p.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_shared(ProfileRecord, path, command="isplit profile")
    assert "`isplit profile` writes such a file" in str(caught.value)


def test_another_kind_of_record_is_refused(tmp_path: Path):
    """A profile given where a link is wanted says which schema it follows."""
    path = write_shared(profile(), tmp_path / "p.json")
    with pytest.raises(InputError, match="schema is"):
        read_shared(LinkRecord, path, command="isplit probe")


def test_a_huge_file_is_not_read(tmp_path: Path):
    """A file beyond the limit is refused before it is parsed."""
    path = tmp_path / "p.json"
    with path.open("wb") as file:
        file.truncate(LARGEST_RECORD_BYTES + 1)
    with pytest.raises(InputError, match=r"has 67,108,865 bytes, and .* at most 67,108,864"):
        read_shared(ProfileRecord, path, command="isplit profile")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("study.json", b'{"schema": "isplit.study/1"}', "holds a record 'isplit.study'; give another name"),
        ("later.json", b'{\n "schema": "isplit.link/9"}', "holds a record 'isplit.link'"),
        ("net.py", b"import torch", "holds something else; give another name, or delete that file first"),
        ("profile.json", b'{"schema": "isplit.plan/1"}', "holds a record 'isplit.plan'"),
    ],
)
def test_other_files_are_not_replaced(tmp_path: Path, name: str, content: bytes, words: str):
    """A wrong name does not cost a study, or a file of another program."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        write_shared(profile(), tmp_path / name)
    assert content == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", b'{"schema": "isplit.profile/1", "na'), ("a.json", b""), ("profile.json", b"{}"), ("a.json", None)],
)
def test_older_and_damaged_records_of_a_kind_are_replaced(tmp_path: Path, name: str, content: bytes | None):
    """The command that wrote a file may write it again, whatever became of it."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    check_shared_path(tmp_path / name, ProfileRecord)
    assert write_shared(profile(), tmp_path / name).read_text() == profile().to_json()
