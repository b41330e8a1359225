"""isplit.runtime.server.front.http2: limits hold from the first byte, and a forgotten connection keeps nothing."""

import pytest
from h2.settings import SettingCodes
from hpack import Decoder, Encoder
from hpack.table import HeaderTable

from isplit.runtime.server.front.http2 import MAX_HEADER_BYTES, BoundedEncoder, new_http2


def test_limits_apply_before_they_are_acknowledged():
    """The settings are in force on a connection that has received nothing."""
    http2 = new_http2(max_streams=7)
    settings = http2.local_settings
    assert 7 == settings[SettingCodes.MAX_CONCURRENT_STREAMS]
    assert 2 * MAX_HEADER_BYTES == settings[SettingCodes.MAX_HEADER_LIST_SIZE]
    assert 0 == settings[SettingCodes.ENABLE_PUSH]
    assert not http2.config.client_side


def test_connections_share_no_settings():
    """Each connection has settings of its own."""
    first, second = new_http2(max_streams=1), new_http2(max_streams=2)
    assert first.local_settings is not second.local_settings
    assert 1 == first.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS]


def test_forget():
    """Nothing of a connection refers to anything afterwards."""
    http2 = new_http2(max_streams=1)
    http2.forget()
    assert {} == vars(http2)


@pytest.mark.parametrize("sizes", [[], [2**32 - 1], [0, 2**32 - 1], [2**20, 100, 2**20]])
def test_table_of_headers_is_bounded(sizes):
    """However large a table the peer offers, it holds the usual 4 KiB, and the peer can read every answer."""
    encoder, decoder = new_http2(max_streams=1).encoder, Decoder()
    for size in sizes:
        encoder.header_table_size = size
    for number in range(200):
        headers = [(b"grpc-status", b"5"), (b"grpc-message", b"%d" % number + b"x" * 90)]
        assert headers == [tuple(header) for header in decoder.decode(encoder.encode(headers), raw=True)]
    entries = encoder.header_table.dynamic_entries
    assert 0 < sum(32 + len(name) + len(value) for name, value in entries) <= HeaderTable.DEFAULT_SIZE


def test_usual_headers_are_those_of_hpack():
    """The bytes of answers are as before where the peer offers the usual table or a smaller one."""
    usual, bounded = Encoder(), BoundedEncoder()
    for number, size in enumerate((4096, 4096, 64, 64, 0, 4096)):
        usual.header_table_size = bounded.header_table_size = size
        headers = [(b":status", b"200"), (b"grpc-message", b"%d" % number)]
        assert usual.encode(headers) == bounded.encode(headers)


def test_flood_of_table_sizes():
    """Of thousands of sizes that come before the next answer, the smallest and the last are kept and told."""
    encoder, decoder = BoundedEncoder(), Decoder()
    for number in range(3000):
        encoder.header_table_size = 4096 - number % 7
    assert [4090, 4093] == encoder.table_size_changes
    encoder.header_table_size = 4092
    assert [(b"a", b"b")] == [tuple(header) for header in decoder.decode(encoder.encode([(b"a", b"b")]), raw=True)]
    assert [] == encoder.table_size_changes
    assert 4092 == encoder.header_table_size
