"""Say what a file that is no readable image holds, and which files of a folder are images of other kinds."""

from collections import Counter
from collections.abc import Iterable

HEAD_BYTES = 256
"""How many bytes of a file `unread_kind` looks at."""

UNREAD_SUFFIXES = (
    ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".svg", ".psd", ".ico", ".dcm", ".npy", ".raw", ".cr2",
    ".cr3", ".nef", ".arw", ".dng",
)  # fmt: skip
"""Suffixes of image files that are not read; they are left out of a study and of a device's folders, with a notice."""

_READ = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
)
"""Where in a file which bytes stand, and the format that they show; formats that are read."""

_UNREAD = (
    *((4, b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis")),
    *((4, b"ftyp" + brand, "HEIC or AVIF") for brand in (b"mif1", b"msf1")),
    (4, b"ftypcrx ", "a raw photo"),
    (4, b"ftyp", "a video"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"\x93NUMPY", "an array of NumPy"),
    (128, b"DICM", "DICOM"),
    (0, b"PK\x03\x04", "a zip file"),
)


def unread_kind(head: bytes) -> tuple[str, str]:
    """Return what a file that could not be opened as an image seems to be, and what to do about it.

    Args:
        head: The first `HEAD_BYTES` bytes of the file.

    Returns:
        The end of a sentence that begins with the file's name ("is empty"), and an advice ("fetch it again").

    """
    if not head.strip(b"\0"):
        return (
            ("begins with nothing but zeros", "fetch it again") if head else ("is empty", "fetch it again or remove it")
        )
    for offset, mark, name in _READ:
        if head.startswith(mark, offset):
            return (
                f"is a {name} file that is damaged, or whose samples or compression are not read",
                "repair it, or save it as PNG with 8 bits per sample",
            )
    for offset, mark, name in _UNREAD:
        if head.startswith(mark, offset):
            return f"holds {name}, which is not read", "convert it to PNG or JPEG"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the image itself", "fetch the images with `git lfs pull`"
    if b"<svg" in text:
        return "holds SVG, which is not read", "convert it to PNG or JPEG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "is a page of HTML, not an image", "fetch it again"
    return "is not an image", "repair or remove it"


def unread_files(paths: Iterable[str]) -> str | None:
    """Return which files are images of kinds that are not read, as "2 .heic, 1 .nef"; None if there are none.

    >>> unread_files(["a.HEIC", "b.png", "c/d.nef", "e.heic"])
    '2 .heic, 1 .nef'
    """
    suffixes = Counter(
        f".{path.lower().rpartition('.')[2]}" for path in paths if path.lower().endswith(UNREAD_SUFFIXES)
    )
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items())) or None
