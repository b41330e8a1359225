"""Text from outside is written as UTF-8, and shown on a terminal without being obeyed by it."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.text import display_name, json_text, terminal_text, utf8_text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.png", "a.png"),
        ("kätzchen.jpg".encode(), "kätzchen.jpg"),
        (b"ni\xf1o.png", "ni\\xf1o.png"),
        (b"\xc3", "\\xc3"),
        (b"back\\slash", "back\\slash"),
    ],
)
def test_file_names(name, expected):
    """UTF-8 stays; a byte that is none is written as its number."""
    assert expected == utf8_text(os.fsdecode(name))


def test_surrogates_that_stand_for_no_byte():
    """A lone surrogate that no file name can give is written out too."""
    assert "\\ud800x" == utf8_text("\ud800x")


@given(st.binary())
def test_every_file_name_is_utf8(name):
    """Whatever bytes a name has, the text can be encoded, and a name that is UTF-8 is unchanged."""
    text = utf8_text(os.fsdecode(name))
    text.encode()
    try:
        assert name.decode() == text
    except UnicodeDecodeError:
        assert "\\x" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain – ünïcödé 猫", "plain – ünïcödé 猫"),
        ("\x1b[2Jcat", "\\x1b[2Jcat"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x07\x7f\x9b1m", "\\x07\\x7f\\x9b1m"),
        ("gpj\u202e.exe", "gpj\\u202e.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\udcf1", "\\xf1"),
    ],
)
def test_terminal(text, expected):
    """What a terminal would obey is written out; what it shows stays."""
    assert expected == terminal_text(text)


def test_kept():
    """A line end that is meant stays one."""
    assert "one\ntwo\\x1b" == terminal_text("one\ntwo\x1b", keep="\n")


@given(st.text())
def test_terminal_shows_everything(text):
    """What is left is printable, whatever the text was."""
    assert terminal_text(text).isprintable()


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_json(data):
    """A JSON document is printable afterwards, and means the same."""
    document = json_text(json.dumps(data, ensure_ascii=False))
    assert document.isprintable()
    assert data == json.loads(document)


def test_display_name():
    """Unicode's composed form, with escapes for bytes that are not UTF-8."""
    assert "caf\u00e9" == display_name("cafe\u0301")
    assert "ni\\xf1o" == display_name("ni\udcf1o")
