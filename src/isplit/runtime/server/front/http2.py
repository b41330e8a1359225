"""Set up h2's HTTP/2 connection for a server that does not trust its peers."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hpack.table import HeaderTable

MAX_HEADER_BYTES = 2**13
"""Most bytes of a call's headers. A client sends about 300."""

_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class BoundedEncoder(Encoder):
    """Compress the headers of answers with a table of at most the usual size, however large a one the peer offers.

    Every message of a refused call is an entry of its own. hpack keeps as many as the peer allows, and searches all of
    them for every header.
    """

    @property
    def header_table_size(self) -> int:
        """The size of the table in bytes."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self.header_table.maxsize = min(value, HeaderTable.DEFAULT_SIZE)
        changes = self.table_size_changes
        if self.header_table.resized:
            changes.append(self.header_table.maxsize)
        # Of the sizes since the last headers, the peer has to know the smallest and the last (RFC 7541, section 4.2).
        self.table_size_changes = sorted({min(changes), changes[-1]}) if changes else []
        self.header_table.resized = bool(changes)


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
    http2.encoder = BoundedEncoder()
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
