"""isplit data: how the data is taken, in the terminal, as JSON and as a page."""

import json
from shutil import copyfile, copytree


def test_shown(isplit, tiny_args, tmp_path):
    """Parts, classes with outputs, and the samples with the model's answers stand in the output and in the page."""
    result = isplit("data", *tiny_args, "--page", tmp_path / "data.html")

    assert 0 == result.code, result.err
    assert "images: fit " in result.out
    assert "3 classes and 3 outputs, matched by " in result.out
    assert "9 images as the model sees them, 16 × 16:" in result.out
    assert 9 == result.out.count("the model says")
    page = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert 9 == page.count("<figure>")


def test_a_notice_is_one_line(isplit, tiny_args, tiny_data, tmp_path):
    """The name of a file that is mentioned cannot begin a line of its own, or move the cursor."""
    data = copytree(tiny_data, tmp_path / "data")
    image = next(path for path in sorted(data.rglob("*")) if path.is_file())
    copyfile(image, data / f"x\nwarning: nothing\x1b[2J{image.suffix}")
    model, _, *weights = tiny_args
    result = isplit("data", model, data, *weights)

    assert 0 == result.code, result.err
    assert f"for example x\\nwarning: nothing\\x1b[2J{image.suffix}\n" in result.err


def test_json(isplit, tiny_args):
    """The record comes alone."""
    record = json.loads(isplit("data", *tiny_args, "--json").out)

    assert "isplit.data-check/1" == record["schema"]
    assert [0, 1, 2] == [row["output"] for row in record["classes"]]


def test_page_that_cannot_be_written(bad_input, tiny_args, tmp_path):
    """The folder has to be there."""
    bad_input("data", *tiny_args, "--page", tmp_path / "gone" / "data.html", says=["cannot write"])


def test_normalisation_and_parts(isplit, tiny_args):
    """The options of the model and the data are those of `isplit analyze`."""
    options = ["--mean", "0.1,0.2,0.3", "--std", "0.5", "--split", "test", "--json"]
    record = json.loads(isplit("data", *tiny_args, *options).out)

    assert [0.1, 0.2, 0.3] == record["preprocessing"]["mean"]
    assert [0.5, 0.5, 0.5] == record["preprocessing"]["std"]
    assert 24 == sum(record["part_images"].values())
