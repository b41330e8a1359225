"""What cannot be used is refused before work starts: exit 2, one message that says what was got and what to do."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BLOCKED = """
import sys

NAMES = set({names!r})

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from isplit.cli import main
main()
"""

MODELS = """
import torch
from torch import nn


class Depends(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)
        self.preprocessing = {"image_size": (16, 16), "channels": 3}

    def forward(self, x):
        x = self.conv(x)
        if x.sum() > 0:  # HERE
            x = -x
        return self.fc(self.pool(x).flatten(1))


def depends():
    return Depends()


def grey():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    net.preprocessing = {"image_size": (16, 16), "channels": 1}
    return net


def no_positions():
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.ReLU(), nn.Linear(5, 3))
    net.preprocessing = {"image_size": (16, 16), "channels": 3}
    return net
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A file of models that are hard to use."""
    path = tmp_path_factory.mktemp("models") / "odd.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def refuse(bad_input, tiny_args, tmp_path):
    """Analyze with other MODEL, DATA or options; it must be refused and leave nothing that looks like a result."""

    def check(*options, says, model=tiny_args[0], data=tiny_args[1], weights=tiny_args[3]):
        out = tmp_path / "refused"
        extra = () if weights is None else ("--weights", weights)
        result = bad_input("analyze", model, data, *extra, "-o", out, *options, says=says)
        assert not (out / "curve.json").exists()
        assert not (out / "candidates.json").exists()
        return result

    return check


@pytest.fixture
def folders(tmp_path):
    """Make an undivided ImageFolder; the function says how many pictures each class has."""

    def make(**counts):
        rng = np.random.default_rng(0)
        for name, count in counts.items():
            (tmp_path / "folder" / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
                picture.save(tmp_path / "folder" / name / f"{i}.png")
        return tmp_path / "folder"

    return make


# --- models ---


def test_unknown_torchvision_model(refuse):
    """An unknown name gets the nearest ones."""
    refuse(model="torchvision:resnet5O", weights=None, says=["resnet5O", "resnet50"])


def test_unknown_kind_of_model(refuse):
    """A word that is no model at all gets the forms that are understood."""
    refuse(model="mymodel", weights=None, says=["mymodel", "torchvision:", "factory"])


def test_missing_model_file(refuse):
    """A factory file that is not there is named."""
    refuse(model="./nowhere.py:build", weights=None, says=["nowhere.py"])


def test_missing_factory(refuse, tiny_model_file):
    """A file without that function gets the functions it has."""
    refuse(model=f"{tiny_model_file}:bild", weights=None, says=["bild", "build"])


def test_unknown_timm_model(refuse):
    """An unknown timm model is refused by name."""
    pytest.importorskip("timm")
    refuse(model="timm:resnet5O", weights=None, says=["resnet5O"])


def test_missing_weights(refuse, tmp_path):
    """A weights file that is not there is named."""
    refuse(weights=tmp_path / "none.safetensors", says=["none.safetensors"])


def test_weights_of_another_model(refuse, tmp_path):
    """Weights that do not fit say which tensor differs or is missing."""
    from safetensors.numpy import save_file

    save_file({"conv9.weight": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    refuse(weights=tmp_path / "other.safetensors", says=["other.safetensors", "conv"])


def test_damaged_weights(refuse, tmp_path):
    """A weights file that is not one is refused."""
    (tmp_path / "bad.safetensors").write_bytes(b"not a safetensors file")
    refuse(weights=tmp_path / "bad.safetensors", says=["bad.safetensors"])


def test_nan_weights(refuse, tiny_weights, tmp_path):
    """NaN among the weights is found before any image is scored; the message names the tensor."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(tiny_weights)
    tensors["conv2.weight"][0, 0, 0, 0] = np.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    result = refuse(weights=tmp_path / "nan.safetensors", says=["conv2.weight"])
    assert "nan" in result.err.replace("nan.safetensors", "").lower()


def test_untraceable_model(refuse, models):
    """A model whose path depends on pixel values is refused, naming the file and the line."""
    line = next(i for i, text in enumerate(MODELS.splitlines(), 1) if "# HERE" in text)
    result = refuse(model=f"{models}:depends", weights=None, says=["odd.py"])
    assert str(line) in result.err


def test_untraceable_model_in_cuts(bad_input, models):
    """`isplit cuts` refuses it in the same words."""
    line = next(i for i, text in enumerate(MODELS.splitlines(), 1) if "# HERE" in text)
    bad_input("cuts", f"{models}:depends", says=["odd.py", str(line)])


def test_model_without_positions(refuse, models):
    """A model without a spatial axis anywhere has no curve, and that is said."""
    refuse(model=f"{models}:no_positions", weights=None, says=["spatial"])


def run_without(names, *args):
    code = BLOCKED.format(names=names)
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert 2 == done.returncode, done.stderr
    assert "" == done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_torch(tiny_args, tmp_path):
    """Without torch the message says which pip install brings it."""
    assert "pip install 'isplit[design]'" in run_without(["torch"], "analyze", *tiny_args, "-o", tmp_path / "s")


def test_without_torch_demo(tmp_path):
    """The demo without torch says the same, and writes nothing."""
    assert "pip install 'isplit[design]'" in run_without(["torch"], "demo", "-o", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_without_timm(bad_input, monkeypatch):
    """A timm model without timm says which pip install brings it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    bad_input("cuts", "timm:resnet18", says=["pip install 'isplit[timm]'"])


def test_without_sklearn(refuse, monkeypatch):
    """Its digits without scikit-learn say which pip install brings it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    refuse(data="sklearn:digits", says=["pip install 'isplit[design]'"])


# --- data ---


def test_unknown_data(refuse, tmp_path):
    """A path that is not there is named, with the forms that are understood."""
    refuse(data=tmp_path / "nowhere", says=["nowhere", ".npz", "torchvision:"])


def test_unknown_torchvision_data(refuse):
    """An unknown data set gets the nearest name."""
    refuse(data="torchvision:CIFAR1O", says=["CIFAR1O", "CIFAR10"])


def test_unknown_split(refuse):
    """A part that is not there gets those that are."""
    refuse("--split", "validation", says=["validation", "train", "test"])


def test_corrupt_image(refuse, folders):
    """An image that cannot be decoded is named."""
    root = folders(bars=10, dots=10, rows=10)
    (root / "dots" / "3.png").write_bytes((root / "dots" / "3.png").read_bytes()[:60])
    refuse(data=root, says=["3.png"])


def test_corrupt_zip(refuse, tmp_path):
    """A zip that is none is named."""
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing")
    refuse(data=tmp_path / "bad.zip", says=["bad.zip"])


def test_corrupt_image_in_a_zip(refuse, folders, tmp_path):
    """A broken image inside a zip is named."""
    root = folders(bars=10, dots=10, rows=10)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            content = path.read_bytes()
            archive.writestr(str(path.relative_to(root)), content[:50] if path.match("rows/5.png") else content)
    refuse(data=tmp_path / "some.zip", says=["some.zip", "rows/5.png"])


def test_empty_class(refuse, folders):
    """A class folder without images is named."""
    refuse(data=folders(bars=10, dots=0, rows=10), says=["dots"])


def test_one_class_only(refuse, folders):
    """With one class there is nothing to tell apart."""
    refuse(data=folders(bars=10), says=["one class", "bars"])


def test_empty_folder(refuse, tmp_path):
    """A folder without class folders is refused."""
    (tmp_path / "empty").mkdir()
    refuse(data=tmp_path / "empty", says=["empty"])


def test_label_out_of_range(refuse, tmp_path):
    """A label beyond the named classes is refused, with its value."""
    labels = np.arange(30) % 3
    labels[7] = 9
    np.savez(
        tmp_path / "labels.npz",
        images=np.zeros((30, 16, 16, 3), np.uint8),
        labels=labels,
        classes=np.array(["a", "b", "c"]),
    )
    refuse(data=tmp_path / "labels.npz", says=["label", "9"])


def test_negative_label(refuse, tmp_path):
    """A label below zero is refused, with its value."""
    labels = np.arange(30) % 3
    labels[7] = -1
    np.savez(tmp_path / "labels.npz", images=np.zeros((30, 16, 16, 3), np.uint8), labels=labels)
    refuse(data=tmp_path / "labels.npz", says=["label", "-1"])


def test_more_classes_than_outputs(refuse, folders):
    """Five classes do not fit three outputs; both numbers are said, and what to do."""
    result = refuse(data=folders(a=10, b=10, c=10, d=10, e=10), says=["5", "3"])
    assert "num-classes" in result.err or "class-map" in result.err or "class map" in result.err


def test_channels_that_do_not_fit(refuse, models):
    """Asking a grey model for RGB is refused before work starts."""
    refuse("--channels", 3, model=f"{models}:grey", weights=None, says=["channel", "1", "3"])


def test_size_that_does_not_fit(refuse):
    """An image size at which the model has nothing left is refused before work starts."""
    refuse("--image-size", 2, says=["2", "--image-size"])


# --- options ---


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


# --- studies ---


def test_unwritable_study(bad_input, tiny_args, tmp_path):
    """A directory that cannot be made is named, with the reason."""
    (tmp_path / "file").write_text("")
    bad_input("analyze", *tiny_args, "-o", tmp_path / "file" / "study", says=["file/study", "Not a directory"])


def test_study_is_a_file(bad_input, tiny_args, tmp_path):
    """A file where the study should go is left alone."""
    (tmp_path / "file").write_text("mine")
    bad_input("analyze", *tiny_args, "-o", tmp_path / "file", says=["file"])
    assert "mine" == (tmp_path / "file").read_text()


def test_directory_with_other_things(bad_input, tiny_args, tmp_path):
    """A directory that is not empty and holds no study is left alone."""
    (tmp_path / "letter.txt").write_text("mine")
    bad_input("analyze", *tiny_args, "-o", tmp_path, says=["not empty", "-o"])
    assert ["letter.txt"] == [path.name for path in tmp_path.iterdir()]


def test_study_of_another_model(bad_input, study, tiny_model_file, tiny_data):
    """A study of other weights is refused and stays as it is."""

    def contents():
        files = [path for path in study.iterdir() if path.is_file() and not path.name.startswith(".lock")]
        return {path.name: path.read_bytes() for path in files}

    before = contents()
    bad_input("analyze", f"{tiny_model_file}:build", tiny_data, "-o", study, says=["another", "weights", "--overwrite"])
    assert before == contents()


def test_study_of_other_data(bad_input, study, tiny_args, folders):
    """A study of other data is refused."""
    data = folders(bars=10, dots=10, rows=10)
    bad_input("analyze", tiny_args[0], data, *tiny_args[2:], "-o", study, says=["data", "--overwrite"])


def test_report_of_truncated_curve(bad_input, study):
    """A half-written curve.json is never read as whole."""
    content = (study / "curve.json").read_bytes()
    (study / "curve.json").write_bytes(content[: len(content) // 2])
    bad_input("report", study, says=["curve.json", "isplit analyze"])


def test_report_of_unfinished_study(bad_input, study):
    """Without candidates.json the study is not finished, and the message says how to finish it."""
    (study / "candidates.json").unlink()
    bad_input("report", study, says=["candidates.json", "isplit analyze"])


def test_report_of_nothing(bad_input, tmp_path):
    """A directory that is not there is no study."""
    bad_input("report", tmp_path / "none", says=["none", "isplit analyze"])


def test_report_of_mixed_studies(bad_input, study):
    """A curve that speaks of cuts which the graph does not have belongs to another study."""
    text = (study / "curve.json").read_text()
    (study / "curve.json").write_text(text.replace('"pool1"', '"layer7"'))
    bad_input("report", study, says=["graph.json", "layer7", "isplit analyze"])


def test_report_to_unwritable_study(bad_input, study):
    """A report that cannot be written says so."""
    (study / "report.html").unlink()
    (study / "report.html").mkdir()
    bad_input("report", study, says=["report.html"])


@pytest.mark.parametrize("name", ["curve.json", "candidates.json", "graph.json"])
def test_truncated_record_is_written_again(isplit, study, tiny_args, name, without_report, finished):
    """Running analyze again repairs a half-written record of a later step."""
    content = (study / name).read_bytes()
    (study / name).write_bytes(content[: len(content) // 2])
    assert 0 == isplit("analyze", *tiny_args, "-o", study, "--quiet").code
    assert (finished[0] / name).read_bytes() == (study / name).read_bytes()


def test_truncated_study_record(isplit, bad_input, study, tiny_args, without_report):
    """A half-written study.json is refused, and what the message advises works."""
    content = (study / "study.json").read_bytes()
    (study / "study.json").write_bytes(content[: len(content) // 2])
    bad_input("analyze", *tiny_args, "-o", study, says=["study.json", f"nothing in {study} is replaced: delete it"])
    bad_input("analyze", *tiny_args, "-o", study, "--overwrite", says=["study.json"])
    shutil.rmtree(study)
    again = isplit("analyze", *tiny_args, "-o", study)
    assert 0 == again.code, again.err


def test_damaged_scores_are_not_trusted(isplit, study, tiny_args, without_report, finished):
    """Scores that cannot be read are computed again, or named so that deleting them helps."""
    (scores,) = (study / "scores").iterdir()
    scores.write_bytes(scores.read_bytes()[:100])
    result = isplit("analyze", *tiny_args, "-o", study, "--quiet")
    if result.code:
        assert 2 == result.code
        assert scores.name in result.err
        assert "delete" in result.err
        scores.unlink()
        assert 0 == isplit("analyze", *tiny_args, "-o", study, "--quiet").code
    assert (finished[0] / "curve.json").read_bytes() == (study / "curve.json").read_bytes()


def test_left_over_temporary_file(isplit, tiny_args, tmp_path, without_report):
    """What a killed run left of its very first record does not keep the next from working."""
    out = tmp_path / "s"
    out.mkdir()
    (out / ".study.json.k1ll3d").write_text('{"schema": "isplit.st')
    result = isplit("analyze", *tiny_args, "-o", out)
    assert 0 == result.code, result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_study(bad_input, tiny_args, tmp_path):
    """A directory without write permission is named."""
    (tmp_path / "s").mkdir(mode=0o500)
    bad_input("analyze", *tiny_args, "-o", tmp_path / "s", says=["Permission denied"])


def test_full_disk(bad_input, tiny_args):
    """A place that takes no files is refused."""
    if not Path("/proc/self").is_dir():
        pytest.skip("there is no /proc")
    bad_input("analyze", *tiny_args, "-o", "/proc/self/study", says=["/proc/self/study"])


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
