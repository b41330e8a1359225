"""Tokens, PEM files and hosts: what device and server both accept."""

import pytest

from isplit.errors import InputError
from isplit.runtime.access import check_token_form, is_loopback_host, read_pem, read_token

TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback(host, expected):
    """Loopback is told by address; of names only localhost counts."""
    assert expected == is_loopback_host(host)


def test_token_file(tmp_path):
    """A token is read without the end of its line, and may be as short as the reader allows."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert TOKEN == read_token(path, min_characters=len(TOKEN))
    path.write_text("x")
    assert "x" == read_token(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"a" * 8 + b" " + b"b" * 8, "ü".encode() * 20, bytes(20)])
def test_token_file_unusable(tmp_path, content):
    """A token that is empty, short or cannot travel in a header is refused, with a command that makes one."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(InputError, match="openssl rand"):
        read_token(path, min_characters=16)


def test_token_file_missing(tmp_path):
    """A missing file is named."""
    with pytest.raises(InputError, match="cannot read"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize(("token", "shortest"), [("a", 1), ("a" * 16, 16), ("!~", 2)])
def test_token_form(token, shortest):
    """Printable ASCII of at least the wanted length is a token, and one character fewer is not."""
    check_token_form(token, min_characters=shortest)
    with pytest.raises(InputError, match=f"must be {shortest} or more"):
        check_token_form(token[:-1], min_characters=shortest)


def test_pem(tmp_path):
    """A file in PEM form is returned as it is; another one is refused by name."""
    path = tmp_path / "cert.pem"
    path.write_bytes(b"# mine\n-----BEGIN CERTIFICATE-----\n")
    assert path.read_bytes() == read_pem(path)
    path.write_bytes(b"\x30\x82")
    with pytest.raises(InputError, match=r"cert\.pem is not in PEM form"):
        read_pem(path)
