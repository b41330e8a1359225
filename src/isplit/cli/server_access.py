"""Define the options for the token and TLS, shared by all verbs that talk to a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from isplit.runtime.access import read_token
from isplit.runtime.edge.security import Tls


@dataclass(frozen=True, kw_only=True)
class AccessChoice:
    """The token and certificates for a server, and the protection of the connection.

    Args:
        token_file: A file with the server's bearer token.
        tls: Use TLS, and trust the system's certificate authorities.
        tls_ca: Use TLS, and trust the certificate authorities in this PEM file.
        tls_cert: This device's certificate (PEM), for mutual TLS.
        tls_key: The private key of this device's certificate (PEM).
        insecure: Send the token over a network even without TLS.

    """

    token_file: Path | None = None
    tls: Annotated[bool, typer.Option("--tls")] = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: Annotated[bool, typer.Option("--insecure")] = False

    def read_token(self) -> str | None:
        """Return the token in the file; None if no file was given.

        Raises:
            InputError: the file cannot be read, or holds no token.

        """
        return None if self.token_file is None else read_token(self.token_file)

    def tls_files(self) -> Tls | None:
        """Return the files for TLS; None if TLS was not asked for.

        Raises:
            InputError: a certificate without its key, or a key without its certificate.

        """
        if not (self.tls or any((self.tls_ca, self.tls_cert, self.tls_key))):
            return None
        return Tls(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)
