"""The log: one JSON object per line."""

import json
import logging
import sys

from isplit.runtime.server.log import JsonFormatter


def line(**changes):
    record = logging.LogRecord("isplit.server", logging.INFO, "f.py", 1, "listening", None, None)
    record.__dict__ |= changes
    return JsonFormatter().format(record)


def test_event():
    """An event with its fields is one line of JSON, with the time in UTC."""
    entry = json.loads(line(created=0.0, fields={"port": 8001, "models": ("a", "b")}))
    expected = {"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "event": "listening", "port": 8001}
    assert expected | {"models": ["a", "b"]} == entry


def test_whatever_is_in_it():
    """Line ends in a caller's words and values that JSON does not know stay within the line."""
    text = line(fields={"reason": "a\nb", "path": object})
    assert 1 == len(text.splitlines())
    assert "a\nb" == json.loads(text)["reason"]


def test_traceback():
    """A fault's traceback is a field."""
    try:
        raise ValueError("out of order")
    except ValueError:
        text = line(exc_info=sys.exc_info())
    assert "ValueError: out of order" in json.loads(text)["traceback"]
