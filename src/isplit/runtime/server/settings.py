"""How to serve: addresses, protection, and bounds."""

from dataclasses import dataclass, field

from isplit.errors import InputError
from isplit.runtime.access import MIN_TOKEN_CHARACTERS, check_token_form
from isplit.runtime.providers import Provider, check_provider
from isplit.runtime.server.security import ServerTls, check_exposure


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How to serve.

    `port` 0 takes any that is free. `max_batch` is in images, and bounds a single request too; `max_queue` in images
    waiting per model. `threads` are onnxruntime's per batch, `provider` is what it runs on (see
    `isplit.runtime.providers`). Metrics are served without TLS or token, on
    `metrics_host`, and not at all while `metrics_port` is None. `drain_seconds` is how long a server that was asked
    to stop goes on with what it has taken. `max_connections` bounds open connections, and `receive_seconds` is how long
    the message of a request may take to arrive.

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
