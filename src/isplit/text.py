"""Make text from outside safe to write as UTF-8 and to show on a terminal, and write durations for people."""

import json
import unicodedata


def utf8_text(text: str) -> str:
    r"""Return `text` with every byte that is not UTF-8 written as an escape.

    Python keeps such bytes of a file name as lone surrogates, which neither JSON readers nor UTF-8 files accept. A byte
    becomes `\xNN`; any other lone surrogate becomes `\uNNNN`. Two names stay different unless one already spells out
    the other's escape.

    >>> import os
    >>> utf8_text(os.fsdecode(b"ni\xf1o.png"))
    'ni\\xf1o.png'
    """
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")


def display_name(name: str) -> str:
    """Return a name from a file system as it is recorded, compared and shown.

    Bytes that are not UTF-8 are written as escapes, and the letters are in Unicode's composed form (NFC): macOS writes
    "é" as two characters where Linux and Windows write one.
    """
    return unicodedata.normalize("NFC", utf8_text(name))


def terminal_text(text: str, *, keep: str = "") -> str:
    r"""Return `text` with every character that a terminal would obey rather than show written as an escape.

    These are the control characters (a terminal's escape sequences begin with one), line breaks, and the invisible
    characters that reorder what stands around them. Those in `keep` stay.

    >>> terminal_text("cat\x1b[2J.png")
    'cat\\x1b[2J.png'
    """
    text = utf8_text(text)
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def json_text(json_document: str) -> str:
    r"""Return a JSON document with every invisible character in it written as JSON's own escape `\uNNNN`.

    JSON allows most of them in a string as they are, yet a terminal obeys some, and some readers take others (U+2028)
    for the end of a line. The document holds none outside its strings, and means the same afterwards.
    """
    if json_document.isprintable():
        return json_document
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in json_document)


def duration(seconds: float) -> str:
    """Write an estimated duration in two digits at most: "under 5 s", "about 40 s", "about 3 min", "about 2 h"."""
    if seconds < 5:
        return "under 5 s"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {round(seconds / 3600)} h"
