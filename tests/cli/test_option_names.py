"""Messages about arguments become messages about options."""

import pytest

from isplit.cli.option_names import with_option_names

OPTIONS = {"batch_size": "--batch-size", "images": "--images", "overwrite": "--overwrite", "payload_bytes": "--bytes"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("batch_size is 0; give at least 1", "--batch-size is 0; give at least 1"),
        ("images has 'x'; give a number", "--images has 'x'; give a number"),
        ("images of this folder is odd", "images of this folder is odd"),
        ("depth is 0", "depth is 0"),
        ("images is not a bundle", "images is not a bundle"),
        ("x exists: choose another, or `overwrite=True`", "x exists: choose another, or --overwrite"),
        ("it has `payload_bytes=64`, `payload_bytes=96`", "it has --bytes 64, --bytes 96"),
        ("run `isplit predict` with `depth=3`", "run `isplit predict` with `depth=3`"),
    ],
)  # fmt: skip
def test_with_option_names(message, expected):
    """Arguments of this verb become its options; other words stay."""
    assert expected == with_option_names(message, OPTIONS)
