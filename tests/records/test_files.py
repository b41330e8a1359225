"""The sizes up to which files are read, as docs/security.md promises them."""

import pytest

from isplit.records import files

MIB = 2**20


@pytest.mark.parametrize(
    ("limit_bytes", "expected"),
    [
        (files.LARGEST_RECORD_BYTES, 64 * MIB),
        (files.LARGEST_TABLE_BYTES, 256 * MIB),
        (files.LARGEST_JSON_BYTES, 16 * MIB),
        (files.LARGEST_IMAGE_BYTES, 256 * MIB),
        (files.LARGEST_CREDENTIAL_BYTES, MIB),
    ],
)
def test_promised_limits(limit_bytes, expected):
    """Records 64 MiB, tables and images 256 MiB, class maps and groups 16 MiB, credentials 1 MiB."""
    assert expected == limit_bytes
