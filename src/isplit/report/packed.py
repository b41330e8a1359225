"""Pack numbers for the page's scripts as compressed JSON that needs no escaping."""

import base64
import json
import zlib


def pack(content: object) -> str:
    """Return JSON compressed by zlib, in base64; charts.js unpacks it.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.

    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def rounded(value: float | None, digits: int) -> float | None:
    """Return a number rounded to the given number of significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")
