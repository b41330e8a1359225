"""isplit serve on the command line: what it refuses before it opens anything."""

import pytest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--host", "0.0.0.0", "--token-file", "{token}"], "a TLS certificate with its key"),
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("bundles: [missing]", "missing is not a bundle"),
        ("", "there is no bundle to serve"),
        ("hosts: x", "'hosts', which is no option of serve: there are bundles, "),
        ("config: x", "'config', which is no option of serve"),
        ("port: [1, 2]", "port is [1, 2]: give one value"),
        ("bundles: [[a]]", "give a list of values"),
        ("- a", "holds a list"),
        ("a: b: c", "is not YAML"),
        ("bundles: missing\nport: -1", "--port is -1"),
        ("bundles: missing\ntoken-file: none", "cannot read"),
    ],
)
def test_config_file(isplit, tmp_path, content, words):
    """What a file of options gets wrong is refused in the same words as on the command line, with the file's name."""
    config = tmp_path / "serve.yaml"
    config.write_text(content)
    result = isplit("serve", "--config", config)
    assert (2, "") == (result.code, result.out)
    assert words in result.err


def test_command_line_goes_first(isplit, tmp_path):
    """What the command line says takes the place of what the file says."""
    config = tmp_path / "serve.yaml"
    config.write_text("bundles: [here]\nmax-queue: 1")
    assert "there is not a bundle" in isplit("serve", "there", "--config", config, "--max-queue", "64").err
    assert "--max-queue is 1" in isplit("serve", "--config", config).err


def test_config_file_missing(isplit, tmp_path):
    """A file that is not there is named."""
    result = isplit("serve", "--config", tmp_path / "none.yaml")
    assert 2 == result.code
    assert "none.yaml" in result.err
