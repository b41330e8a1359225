"""isplit serve on the command line: what it refuses before it opens anything."""

import pytest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--host", "0.0.0.0", "--token-file", "{token}"], "--tls-cert"),
        (["--tls-cert", "{token}"], "--tls-key"),
        (["--tls-cert", "{token}", "--tls-key", "{token}"], "PEM"),
        (["--token-file", "{token}.none"], "cannot read"),
        (["--max-batch", "0"], "--max-batch is 0"),
        (["--max-queue", "1"], "--max-queue is 1"),
        (["--port", "-1"], "--port is -1"),
        (["10.0.0.1:6379"], "--ray"),
        ([], "is not a bundle"),
    ],
)
def test_refused(isplit, tmp_path, options, words):
    """Exposure without protection, files and numbers that cannot be used, and no bundle: exit 2 and a way out."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    result = isplit("serve", tmp_path, *(option.format(token=token) for option in options))
    assert (2, "") == (result.code, result.out)
    assert words in result.err
