"""Settings of export: what is refused, and in which words."""

from typing import Any

import pytest

from isplit.design.export_settings import ExportSettings
from isplit.errors import InputError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tolerance": 1.0}, "tolerance is 1; give a share of the largest logit"),
        ({"tolerance": float("nan")}, "tolerance is nan; give a share of the largest logit"),
        ({"images": 0}, "images is 0; give at least 1"),
        ({"remote": False, "remote_network": "webp:50"}, "`remote_network=webp:50` is a network for `remote`"),
    ],
)
def test_refused(values: dict[str, Any], message: str):
    """A value outside its range, or one that says nothing, is refused by the argument's name."""
    with pytest.raises(InputError) as error:
        ExportSettings(**values)
    assert str(error.value).startswith(message)
