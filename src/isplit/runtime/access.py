"""Read and check what proves who somebody is: PEM files and tokens; and tell which hosts are this machine.

Device and server share these rules, so that a token or a certificate that one side accepts is never refused by the
other for its form.
"""

import ipaddress
from pathlib import Path

from isplit.errors import InputError
from isplit.records.files import LARGEST_CREDENTIAL_BYTES, read_limited

MIN_TOKEN_CHARACTERS = 16
"""A server takes no shorter token. A device does, because another server may have issued it."""


def read_pem(path: Path) -> bytes:
    """Return the content of a PEM file.

    Raises:
        InputError: The file cannot be read, or it is not in PEM form.

    """
    content = _read(path)
    if b"-----BEGIN " not in content:
        msg = f"{path} is not in PEM form: it has no line -----BEGIN …-----"
        raise InputError(msg)
    return content


def read_token(path: Path, *, min_characters: int = 1) -> str:
    """Return the token in a file, without the white space around it.

    Raises:
        InputError: The file cannot be read, or `check_token_form` refuses its content.

    """
    token = _read(path).decode("latin-1").strip()
    check_token_form(token, source=f"the token in {path}", min_characters=min_characters)
    return token


def check_token_form(token: str, *, source: str = "the token", min_characters: int = 1) -> None:
    """Refuse a token that no `authorization` header can carry, or that is too short. `source` names it in the message.

    Raises:
        InputError: The token is short, or holds anything but printable ASCII characters without spaces.

    """
    if len(token) < min_characters or not token.isascii() or not token.isprintable() or " " in token:
        msg = (
            f"{source} must be {min_characters} or more printable ASCII characters without spaces: "
            "`openssl rand -hex 32` makes one"
        )
        raise InputError(msg)


def is_loopback_host(host: str) -> bool:
    """Say whether only this machine can reach `host`, a name or an address without a port.

    A name other than localhost is not looked up, because it may point elsewhere tomorrow.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, limit_bytes=LARGEST_CREDENTIAL_BYTES, kind="a certificate, key or token file")
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise InputError(msg) from error
