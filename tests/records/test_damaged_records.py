"""isplit.records: nothing damaged is ever read as whole, and each is refused with its reason."""

import json

import pytest

from isplit.errors import InputError, StudyError
from isplit.records import (
    CurveRecord,
)
from tests.records.small_records import small_curve


@pytest.mark.parametrize("number", ["1" * 400, "1" * 5000, "-" + "9" * 320], ids=["400 digits", "5000 digits", "-320"])
def test_numbers_beyond_the_machine(damaged, number):
    """A whole number that no float can hold is refused, not a fault."""
    content = small_curve().to_json().replace('"cui": 0.5', f'"cui": {number}')
    assert number in content
    damaged(content)


@pytest.fixture
def damaged(tmp_path):
    """Write text as curve.json and load it; returns the message of the refusal."""

    def load(content):
        (tmp_path / "curve.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(StudyError) as caught:
            CurveRecord.load(tmp_path)
        assert isinstance(caught.value, InputError)
        assert "curve.json" in str(caught.value)
        return str(caught.value)

    return load


def changed(**fields):
    return json.dumps({**json.loads(small_curve().to_json()), **fields})


def test_another_schema(damaged):
    """Another record's schema is refused; both are named."""
    message = damaged(changed(schema="isplit.graph/1"))
    assert "isplit.graph/1" in message
    assert "isplit.curve/1" in message


def test_newer_schema(damaged):
    """A newer number is refused rather than misread; both are named."""
    message = damaged(changed(schema="isplit.curve/2"))
    assert "isplit.curve/2" in message
    assert "isplit.curve/1" in message


@pytest.mark.parametrize("schema", [None, 1, [], {}, ""])
def test_schema_of_another_type(damaged, schema):
    """A schema that is no name is refused."""
    assert "schema" in damaged(changed(schema=schema))


def test_no_schema(damaged):
    """JSON without a schema is no record."""
    fields = json.loads(small_curve().to_json())
    del fields["schema"]
    assert "schema" in damaged(json.dumps(fields))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 40,
        b"\xff\xfe{}",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"{",
        b"{}",
        b"[" * 100_000,
        b'{"schema": "isplit.curve/1"}',
    ],
    ids=lambda content: repr(content[:12]),
)
def test_damaged_json(damaged, content):
    """Whatever is no such record is refused with the file's name and what to do."""
    assert "isplit analyze" in damaged(content)


def test_truncated_anywhere(damaged):
    """No beginning of a record is read as a whole one."""
    content = small_curve().to_json().rstrip().encode()
    for length in range(0, len(content), 7):
        damaged(content[:length])


def test_unknown_field(damaged):
    """A field that the schema does not have is refused by name, and may be that of a later version."""
    assert "it holds surprise, which this version of isplit does not know; perhaps a later" in damaged(
        changed(surprise=1)
    )


def test_field_of_another_type(damaged):
    """A field of another type is refused by name."""
    assert "images" in damaged(changed(images="many"))


def test_missing_directory(tmp_path):
    """A directory that is not there is not a study; the message says how to make one."""
    with pytest.raises(StudyError, match=r"not a study.*isplit analyze"):
        CurveRecord.load(tmp_path / "none")


def test_missing_file(tmp_path):
    """A study without the record is not finished; the message names the file and says how to finish it."""
    with pytest.raises(StudyError, match=r"not finished.*curve\.json.*isplit analyze"):
        CurveRecord.load(tmp_path)


def test_file_that_is_a_directory(tmp_path):
    """What cannot be read as a file is refused with the reason."""
    (tmp_path / "curve.json").mkdir()
    with pytest.raises(StudyError, match=r"curve\.json"):
        CurveRecord.load(tmp_path)
