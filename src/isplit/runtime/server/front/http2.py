"""h2's HTTP/2 connection, set up for a server that trusts nobody."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

MAX_HEADER_BYTES = 2**13
"""Of a call's headers; a client sends some 300."""

_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class _Http2(H2Connection):
    # h2 remembers this many closed streams of each connection; its own number takes megabytes.
    MAX_CLOSED_STREAMS = 1024
    DEFAULT_MAX_HEADER_LIST_SIZE = 2 * MAX_HEADER_BYTES


def new_http2(*, max_streams: int) -> H2Connection:
    """Return a server's connection on which a peer may have `max_streams` calls at a time."""
    http2 = _Http2(_CONFIG)
    # Settings that count from the start, and not only once the peer has acknowledged them.
    http2.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: 2 * MAX_HEADER_BYTES,
            SettingCodes.ENABLE_PUSH: 0,
        },
    )
    return http2
