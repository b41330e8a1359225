"""isplit.runtime.server.refusal: a refusal's status, reason and shortened message."""

from typing import get_args

import pytest

from isplit.runtime.server.refusal import RefusalStatus, RefusedError, invalid
from isplit.runtime.statuses import STATUS_CODES


@pytest.mark.parametrize("status", get_args(RefusalStatus))
def test_every_status_has_a_number_and_a_reason(status):
    """The wires can send each of them, and the log has a word for it."""
    assert status in STATUS_CODES
    assert RefusedError(status, "no").reason


def test_invalid():
    """A wrong request has its status and reason; another reason may be given, and it was not noted yet."""
    refusal = invalid("the shape is (3,)")
    assert ("INVALID_ARGUMENT", "invalid", False) == (refusal.status, refusal.reason, refusal.noted)
    assert "damaged" == RefusedError("INVALID_ARGUMENT", "no", reason="damaged").reason


@pytest.mark.parametrize(("length", "kept"), [(400, 400), (401, 400), (10_000, 400)])
def test_long_message(length, kept):
    """A message that quotes the caller is cut to 400 characters, the last of which says so."""
    text = str(invalid("x" * length))
    assert kept == len(text)
    assert (length > kept) == text.endswith("…")
