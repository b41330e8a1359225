"""Read and check PEM files and tokens, and recognise the hosts that are this machine.

Device and server share these rules, so that neither refuses the form of a token or certificate that the other accepts.
"""

import ipaddress
from pathlib import Path

from isplit.errors import InputError
from isplit.records.files import LARGEST_CREDENTIAL_BYTES, read_limited

MIN_TOKEN_CHARACTERS = 16
"""The shortest token that a server takes. A device takes shorter ones, because another server may have issued them."""


def read_pem(path: Path) -> bytes:
    """Return the content of a PEM file.

    Raises:
        InputError: The file cannot be read, or is not in PEM form.

    """
    content = _read(path)
    if b"-----BEGIN " not in content:
        msg = f"{path} is not in PEM form: it has no line -----BEGIN …-----"
        raise InputError(msg)
    return content


def read_token(path: Path, *, min_characters: int = 1) -> str:
    """Return the token in a file, without surrounding white space.

    Raises:
        InputError: The file cannot be read, or `check_token_form` refuses its content.

    """
    token = _read(path).decode("latin-1").strip()
    check_token_form(token, source=f"the token in {path}", min_characters=min_characters)
    return token


def check_token_form(token: str, *, source: str = "the token", min_characters: int = 1) -> None:
    """Refuse a token that is too short or does not fit into an `authorization` header. `source` is its name.

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
    """Return whether only this machine can reach `host`, a name or an address without a port.

    Names other than localhost are not looked up, because they may point elsewhere tomorrow.
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
