"""What is kept of a server's explanation."""

import pytest

from isplit.runtime.edge.transport import TransportError


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("", "UNAVAILABLE"),
        ("two\n  lines\t", "UNAVAILABLE: two lines"),
        ("x" * 300, "UNAVAILABLE: " + "x" * 300),
        ("x" * 301, "UNAVAILABLE: " + "x" * 300),
    ],
)
def test_details(details, expected):
    """They become one line of at most 300 characters."""
    assert expected == str(TransportError("UNAVAILABLE", details))
