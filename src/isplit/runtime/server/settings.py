"""Define how a server listens, protects itself and bounds its work."""

from dataclasses import dataclass, field

from isplit.errors import InputError
from isplit.runtime.access import MIN_TOKEN_CHARACTERS, check_token_form
from isplit.runtime.providers import Provider, check_provider
from isplit.runtime.server.security import ServerTls, check_exposure
from isplit.setting_checks import check_types


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of a server.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        tls: The certificate, and the CA of client certificates; None serves plain text.
        token: The bearer token that callers must send.
        insecure: Listen to other machines without TLS or token all the same.
        max_batch: Most images in a batch, and in one request.
        max_queue: Most images that wait for one model.
        threads: onnxruntime's threads for one batch.
        provider: The execution provider (see `isplit.runtime.providers`).
        metrics_host: The address of the metrics, which are served without TLS or token.
        metrics_port: The port of the metrics; None does not serve them.
        drain_seconds: How long a server that was asked to stop continues with the requests that it accepted.
        max_connections: Most open connections.
        receive_seconds: How long the message of a request may take to arrive.

    Raises:
        InputError: on construction, when a number is out of its range, or the address is not protected.

    """

    host: str = "127.0.0.1"
    port: int = 8001
    tls: ServerTls | None = None
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    max_batch: int = 32
    max_queue: int = 256
    threads: int = 1
    provider: Provider = "auto"
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    drain_seconds: float = 10.0
    max_connections: int = 1024
    receive_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_types(self)
        check_provider(self.provider)
        check_exposure(self.host, tls=self.tls, token=self.token, insecure=self.insecure)
        if self.token is not None:
            check_token_form(self.token, min_characters=MIN_TOKEN_CHARACTERS)
        ranges = (
            ("port", self.port, 0, 65535),
            ("metrics_port", self.metrics_port or 0, 0, 65535),
            ("max_batch", self.max_batch, 1, 1024),
            ("max_queue", self.max_queue, self.max_batch, 2**20),
            ("threads", self.threads, 1, 256),
            ("drain_seconds", self.drain_seconds, 0, 3600),
            ("max_connections", self.max_connections, 1, 2**16),
            ("receive_seconds", self.receive_seconds, 0.1, 3600),
        )
        for name, value, low, high in ranges:
            if not low <= value <= high:
                msg = f"{name} is {value}: give {low} to {high}"
                raise InputError(msg)
