"""Messages about arguments become messages about options."""

import pytest

from isplit.cli.option_names import running_verb, with_option_names, with_options_of_verb

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


def test_notes_of_records_name_options_of_the_verb_that_runs():
    """A note speaks of arguments, since Python's users read it too."""
    note = "measured on few images: predict again without `quick=True`"
    with running_verb({"quick": "--quick"}):
        assert "measured on few images: predict again without --quick" == with_options_of_verb(note)
        assert "`images=3`" == with_options_of_verb("`images=3`")
    assert note == with_options_of_verb(note)


def test_a_chosen_output_is_said_with_the_option(isplit, tiny_model_file, tmp_path):
    """`isplit cuts` prints a note of the capture."""
    text = tiny_model_file.read_text().replace("return self.fc(", "return x.mean((2, 3))[:, :3], self.fc(")
    (tmp_path / "two.py").write_text(text)
    result = isplit("cuts", f"{tmp_path / 'two.py'}:build", "--num-classes", 3)
    assert 0 == result.code, result.err
    assert "--output NAME chooses" in result.both
    assert "no weights" not in result.both
