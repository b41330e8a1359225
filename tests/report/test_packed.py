"""isplit.report.packed: numbers for the page's scripts, compressed and rounded."""

import base64
import json
import zlib

import pytest

from isplit.report.packed import pack, rounded


def test_content_comes_back():
    """What is packed is JSON below zlib below base64, which stands in a page without escaping."""
    content = {"é <b>": [1.5, None, -3], "nested": {"a": []}}
    text = pack(content)
    assert content == json.loads(zlib.decompress(base64.b64decode(text)))
    assert not set("<>&\"'") & set(text)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_not_finite(number):
    """A number that JSON cannot express is refused."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack([number])


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(None, 3, None), (123456.0, 3, 123000.0), (-0.00123456, 2, -0.0012), (0.0, 3, 0.0)],
)
def test_rounded(value, digits, expected):
    """Significant digits are kept, whatever the size of the number."""
    assert expected == rounded(value, digits)
