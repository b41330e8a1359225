"""Options that cannot be: exit 2, a sentence that says what to do, no traceback."""

import json

import pytest


def test_unknown_class(refuse):
    """A class that the data does not have gets those it has."""
    refuse("--classes", "bars,stripes", says=["stripes", "bars", "dots", "rows"])


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": "bars"}', '{"a": ["bars", "stripes"]}', "{}"])
def test_bad_class_file(refuse, tmp_path, content):
    """A file of groups that is not one, or names other classes, is refused."""
    (tmp_path / "groups.json").write_text(content)
    refuse("--classes", tmp_path / "groups.json", says=["bars" if "stripes" in content else "groups.json"])


def test_bad_class_map(refuse, tmp_path):
    """A class map to an output that the model does not have is refused."""
    (tmp_path / "map.json").write_text(json.dumps({"bars": 0, "dots": 1, "rows": 7}))
    refuse("--class-map", tmp_path / "map.json", says=["rows", "7"])


@pytest.mark.parametrize("images", ["0", "-3", "abc", "1.5", ""])
def test_bad_number_of_images(refuse, images):
    """--images takes a positive number or `all`; anything else is shown back."""
    refuse("--images", images, says=["images", images])


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--method", "gradcam", ["gradcam", "cui", "gradient-activation", "gradient-energy"]),
        ("--target", "loss", ["loss", "correct", "predicted"]),
        ("--precision", "fp8", ["fp8", "auto", "fp32", "bf16"]),
        ("--tolerance", "-1", ["tolerance", "-1"]),
        ("--batch-size", "0", ["batch", "0"]),
        ("--test-images", "none", ["test-images", "none", "all"]),
        ("--mean", "1;2;3", ["mean", "1;2;3"]),
        ("--num-classes", "1", ["1"]),
        ("--seed", "-1", ["seed", "-1"]),
        ("--channel-axis", "relu1=2", ["channel-axis", "relu1=2"]),
        ("--channel-axis", "nowhere=1", ["nowhere"]),
    ],
)
def test_bad_option(refuse, option, value, says):
    """A value that makes no sense is shown back with what can be given."""
    refuse(option, value, says=says)


def test_unknown_option(bad_input, tiny_args):
    """An unknown option is a usage error."""
    bad_input("analyze", *tiny_args, "--clases", "bars", says=["--clases"])


def test_missing_argument(bad_input):
    """A missing DATA is a usage error."""
    bad_input("analyze", "torchvision:vgg16", says=["DATA"])


@pytest.mark.parametrize("verb", ["analyze", "predict", "fit", "fit --remote", "verify"])
def test_a_device_that_is_not_here(bad_input, tiny_args, tmp_path, verb):
    """A device that torch cannot use is refused before anything is read, with the devices that there are."""
    arguments = {
        "analyze": ["analyze", *tiny_args, "-o", tmp_path / "s"],
        "predict": ["predict", tmp_path / "none"],
        "fit": ["fit", tmp_path / "none", "--cut", "pool1", "--bytes", 60],
        "fit --remote": ["fit", tmp_path / "none", "--remote", "jpeg:20"],
        "verify": ["verify", tmp_path / "none", "--bytes", 60],
    }
    result = bad_input(*arguments[verb], "--device", "cuda:977", says=["--device is 'cuda:977'", "there is cpu"])
    assert "none" not in result.err
    assert not (tmp_path / "s").exists()
