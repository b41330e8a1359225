"""Set up h2's HTTP/2 connection for a server that does not trust its peers."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

MAX_HEADER_BYTES = 2**13
"""Most bytes of a call's headers. A client sends about 300."""

_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class Http2(H2Connection):
    """HTTP/2 of one connection, with less memory for streams that have ended."""

    # The number of closed streams that h2 remembers for each connection. Its default takes megabytes.
    MAX_CLOSED_STREAMS = 1024
    DEFAULT_MAX_HEADER_LIST_SIZE = 2 * MAX_HEADER_BYTES

    def forget(self) -> None:
        """Let go of everything; nothing may be called any more.

        h2 keeps methods of itself in a table. Under a flood, thousands of connections would wait for the garbage
        collector, because each of them refers to itself.
        """
        self.__dict__.clear()


def new_http2(*, max_streams: int) -> Http2:
    """Return a server's connection on which a peer may have `max_streams` open calls."""
    http2 = Http2(_CONFIG)
    # These settings apply from the start, not only once the peer has acknowledged them.
    http2.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: 2 * MAX_HEADER_BYTES,
            SettingCodes.ENABLE_PUSH: 0,
        },
    )
    return http2
