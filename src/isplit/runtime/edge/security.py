"""Check a server's address, and the token and certificates that a device uses with it."""

from dataclasses import dataclass
from pathlib import Path

from isplit.errors import InputError
from isplit.runtime.access import check_token_form, is_loopback_host
from isplit.setting_checks import check_types


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Files in PEM form. `ca` is the trusted authority (None: the system's list); `cert` and `key` are the device's.

    Raises:
        InputError: on construction, if a certificate has no key, or a key no certificate.

    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if (self.cert is None) != (self.key is None):
            msg = "a certificate and its key belong together: give both, or neither"
            raise InputError(msg)


def check_address(server: str) -> None:
    """Refuse a string that is not an address.

    Raises:
        InputError: it is not HOST:PORT, [IPV6]:PORT or unix:PATH.

    """
    if server.startswith("unix:") and len(server) > len("unix:"):
        return
    host, _, port = server.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain = host and not bracketed and not set(host) & set(":/[] ")
    if not (plain or bracketed) or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 2**16:
        msg = f"the server is {server!r}; give HOST:PORT, for example 192.168.1.20:8001 or [fd00::20]:8001"
        raise InputError(msg)


def is_loopback(server: str) -> bool:
    """Return whether an address is on this machine."""
    if server.startswith("unix:"):
        return True
    return is_loopback_host(server.rpartition(":")[0].strip("[]"))


def check_token(server: str, token: str | None, *, tls: Tls | None, insecure: bool) -> None:
    """Refuse to send a token where others could read it.

    Raises:
        InputError: the token would cross a network without TLS or `insecure`, or no header can hold it.

    """
    if token is None:
        return
    check_token_form(token)
    if tls is None and not insecure and not is_loopback(server):
        msg = (
            f"the token would travel to {server} in plain text, for anyone on the way to read: "
            "use TLS, or say `insecure=True` if the network is trusted"
        )
        raise InputError(msg)
