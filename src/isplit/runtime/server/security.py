"""Who may ask, and over what: TLS, client certificates, a bearer token."""

import hmac
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import grpc
import grpc.aio

from isplit.errors import InputError
from isplit.runtime.access import is_loopback_host, read_pem

# What an orchestrator's probe calls, which can send no token; it learns only whether we serve.
_OPEN_METHODS = frozenset(("/grpc.health.v1.Health/Check",))


@dataclass(frozen=True, kw_only=True)
class ServerTls:
    """PEM bytes: our certificate chain and its key; with `client_ca`, callers must show a certificate of that CA."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None

    @classmethod
    def from_files(cls, certificate: Path | None, key: Path | None, client_ca: Path | None) -> Self | None:
        """Read the files; None where there are none.

        Raises:
            InputError: one of a pair is missing, a file cannot be read or is not PEM, or key and certificate differ.

        """
        if certificate is None and key is None and client_ca is None:
            return None
        if certificate is None or key is None:
            msg = "give --tls-cert and --tls-key together; --tls-client-ca needs them too"
            raise InputError(msg)
        _check_usable(certificate, key, client_ca)
        return cls(
            certificate=read_pem(certificate),
            key=read_pem(key),
            client_ca=read_pem(client_ca) if client_ca else None,
        )

    def credentials(self) -> Any:
        """Return these as gRPC's server credentials."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)],
            root_certificates=self.client_ca,
            require_client_auth=self.client_ca is not None,
        )


def _check_usable(certificate: Path, key: Path, client_ca: Path | None) -> None:
    """Let Python's ssl say what is wrong with the files: gRPC only says that it cannot listen."""
    for path in (certificate, key, client_ca):
        if path:
            read_pem(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # rather than ask at the terminal
        if client_ca:
            context.load_verify_locations(client_ca)
    except (ssl.SSLError, ValueError) as error:
        msg = (
            f"{certificate} and {key} cannot be used for TLS: {error}; give a certificate and its own key, unencrypted"
        )
        raise InputError(msg) from error


def check_exposure(host: str, *, tls: ServerTls | None, token: str | None, insecure: bool) -> None:
    """Refuse to listen where others can reach us, unless they must prove who they are over an encrypted link.

    Raises:
        InputError: `host` is not this machine alone, and there is neither TLS with a token nor mutual TLS.

    """
    protected = tls is not None and (token is not None or tls.client_ca is not None)
    if protected or insecure or is_loopback_host(host):
        return
    msg = (
        f"{host} can be reached from other machines: give --tls-cert and --tls-key, and either --token-file or "
        "--tls-client-ca; or listen on 127.0.0.1; or, on a network where everyone may use the model and read what is "
        "sent, --insecure"
    )
    raise InputError(msg)


async def _refuse(_request: bytes, context: Any) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "give the server's token in the metadata: authorization: Bearer TOKEN"
    )


_REFUSING: Any = cast(Any, grpc.unary_unary_rpc_method_handler(_refuse))


class TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses calls without the token, before their message is read."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Go on to the method, or to one that refuses."""
        given = [value for key, value in handler_call_details.invocation_metadata if key == "authorization"]
        if handler_call_details.method in _OPEN_METHODS or (len(given) == 1 and self._is_right(given[0])):
            return await continuation(handler_call_details)
        return _REFUSING

    def _is_right(self, given: str | bytes) -> bool:
        raw = given if isinstance(given, bytes) else given.encode()
        return hmac.compare_digest(raw, self._expected)  # in a time that does not tell how much of it is right
