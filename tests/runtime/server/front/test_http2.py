"""isplit.runtime.server.front.http2: limits hold from the first byte, and a forgotten connection keeps nothing."""

from h2.settings import SettingCodes

from isplit.runtime.server.front.http2 import MAX_HEADER_BYTES, new_http2


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
