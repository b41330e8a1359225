"""isplit.codec.image_kinds: a file that is no readable image is called what it is, with what to do about it."""

import pytest

from isplit.codec.image_kinds import unread_files, unread_kind


@pytest.mark.parametrize(
    ("head", "what", "advice"),
    [
        (b"", "is empty", "fetch it again or remove it"),
        (bytes(256), "begins with nothing but zeros", "fetch it again"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "holds AVIF, which is not read", "convert it to PNG or JPEG"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0", "holds HEIC or AVIF, which is not read", "convert it to PNG or JPEG"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "holds HEIC, which is not read", "convert it to PNG or JPEG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "holds a raw photo, which is not read", "convert it to PNG or JPEG"),
        (b"\0\0\0\x1cftypisom\0\0\0\0", "holds a video, which is not read", "convert it to PNG or JPEG"),
        (b"%PDF-1.7", "holds PDF, which is not read", "convert it to PNG or JPEG"),
        (b'<?xml version="1.0"?><svg>', "holds SVG, which is not read", "convert it to PNG or JPEG"),
        (b"\n<!DOCTYPE html>", "is a page of HTML, not an image", "fetch it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a pointer of Git LFS, not the image itself",
            "fetch the images with `git lfs pull`",
        ),
        (b"some words", "is not an image", "repair or remove it"),
    ],
)
def test_other_kinds(head, what, advice):
    """The first bytes tell what a file is, whatever it is called."""
    assert (what, advice) == unread_kind(head)


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"II*\0", "TIFF"), (b"RIFF\0\0\0\0WEBP", "WebP")],
)
def test_kinds_that_are_read(head, name):
    """A damaged file of a known format keeps its format's name in the message."""
    what, advice = unread_kind(head)
    assert what.startswith(f"is a {name} file that is damaged")
    assert "repair it" in advice


def test_files_of_a_folder():
    """Files are counted by their suffix, whatever its case; those that are read are not counted."""
    assert "1 .avif, 2 .heic" == unread_files(["a/1.HEIC", "2.heic", "3.avif", "4.jpg", "heic"])
    assert unread_files(["1.png", "2.jfif", "3.jpe"]) is None
