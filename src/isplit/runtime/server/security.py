"""Protect the server: TLS, client certificates, and the rule for addresses that need neither them nor a token."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from isplit.errors import InputError
from isplit.runtime.access import is_loopback_host, read_pem
from isplit.runtime.lean.device_frames import ALPN
from isplit.setting_checks import check_types


@dataclass(frozen=True, kw_only=True)
class ServerTls:
    """PEM bytes of a certificate chain and its key. With `client_ca`, callers must present a certificate of that CA."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None

    def __post_init__(self) -> None:
        check_types(self)

    @classmethod
    def from_files(cls, tls_cert: Path | None, tls_key: Path | None, tls_client_ca: Path | None) -> Self | None:
        """Read the files; return None if none is given.

        Raises:
            InputError: one of a pair is missing, a file cannot be read or is not PEM, or key and certificate differ.

        """
        if tls_cert is None and tls_key is None and tls_client_ca is None:
            return None
        if tls_cert is None or tls_key is None:
            msg = "give `tls_cert=FILE` and `tls_key=FILE` together; `tls_client_ca=FILE` needs them too"
            raise InputError(msg)
        _check_usable(tls_cert, tls_key, tls_client_ca)
        return cls(
            certificate=read_pem(tls_cert),
            key=read_pem(tls_key),
            client_ca=read_pem(tls_client_ca) if tls_client_ca else None,
        )

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for the connections of a server.

        Raises:
            InputError: The key does not belong to the certificate, or is encrypted.

        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([ALPN, "h2"])
        # Sessions are not resumed, so that nothing is kept of peers that have gone.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        try:
            with TemporaryDirectory(
                prefix="isplit-tls-"
            ) as directory:  # Python's ssl module reads a key only from files.
                certificate, key = Path(directory) / "certificate", Path(directory) / "key"
                certificate.write_bytes(self.certificate)
                key.touch(mode=0o600)
                key.write_bytes(self.key)
                context.load_cert_chain(
                    certificate, key, password=lambda: b""
                )  # an encrypted key is an error; by default, OpenSSL would ask at the terminal
            if self.client_ca is not None:
                context.load_verify_locations(cadata=self.client_ca.decode("ascii"))
                context.verify_mode = ssl.CERT_REQUIRED
        except (ssl.SSLError, ValueError) as error:
            msg = f"the certificate, its key or the client CA cannot be used for TLS: {error}"
            raise InputError(msg) from error
        return context


def _check_usable(certificate: Path, key: Path, client_ca: Path | None) -> None:
    """Let Python's ssl module find what is wrong with the files."""
    for path in (certificate, key, client_ca):
        if path:
            read_pem(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(
            certificate, key, password=lambda: b""
        )  # an encrypted key is an error; by default, OpenSSL would ask at the terminal
        if client_ca:
            context.load_verify_locations(client_ca)
    except (ssl.SSLError, ValueError) as error:
        msg = (
            f"{certificate} and {key} cannot be used for TLS: {error}; give a certificate and its own key, unencrypted"
        )
        raise InputError(msg) from error


def check_exposure(host: str, *, tls: ServerTls | None, token: str | None, insecure: bool) -> None:
    """Refuse to listen to other machines unless callers must prove who they are over an encrypted link.

    Raises:
        InputError: `host` can be reached from other machines, and there is neither TLS with a token nor mutual TLS.

    """
    protected = tls is not None and (token is not None or tls.client_ca is not None)
    if protected or insecure or is_loopback_host(host):
        return
    msg = (
        f"{host} can be reached from other machines: give a TLS certificate with its key, and either a token or the CA "
        "of the clients' certificates; or listen on 127.0.0.1; or, on a network where everyone may use the model and "
        "read what is sent, say `insecure=True`"
    )
    raise InputError(msg)
