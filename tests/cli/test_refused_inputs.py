"""Every refusal of a model, of weights or of data ends a command with exit code 2 and one message in words."""

import json

import numpy as np
import pytest
from PIL import Image

MODELS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, change=lambda net, x: x, inputs=3, outputs=3):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(inputs, 4, 3, padding=1), nn.Linear(4, outputs)
        self.change = [change]
        self.preprocessing = {"image_size": (16, 16), "channels": inputs}

    def forward(self, x):
        return self.fc(self.change[0](self, self.conv(x)).mean((2, 3)))


def made(**said):
    net = Net()
    for name, value in said.items():
        setattr(net, name, value)
    return net


def plain():
    return Net()


def fails():
    raise RuntimeError("no such layer")


def no_module():
    return 3


def bad_preprocessing():
    return made(preprocessing=7)


def bad_size():
    return made(preprocessing={"image_size": -3})


def bad_names():
    return made(class_names=7)


def infinite():
    net = Net()
    net.fc.bias.data[0] = float("nan")
    return net


def lazy():
    net = Net()
    net.fc = nn.LazyLinear(3)
    return net


def random_answer():
    return Net(lambda net, x: x + torch.randn_like(x))


def mixes_batch():
    return Net(lambda net, x: x - x.mean(0, keepdim=True))


def pixels_decide():
    return Net(lambda net, x: -x if x.sum() > 0 else x)


def remembers():
    def change(net, x):
        net.count = getattr(net, "count", 0) + 1
        return x * net.count

    return Net(change)


def chosen_classes():
    net = Net()
    net.forward = lambda x: net.fc(net.conv(x).mean((2, 3))).argmax(1)
    return net


def maps():
    net = Net()
    net.forward = lambda x: net.conv(x)
    return net


def wrong_shape():
    return Net(lambda net, x: x[:, :2])


def two_inputs():
    class Two(Net):
        def forward(self, x, age):
            return super().forward(x) + age

    return Two()


def numpy_inside():
    return Net(lambda net, x: torch.from_numpy(x.detach().numpy() ** 2))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A file of small models, each of which has one fault."""
    path = tmp_path_factory.mktemp("refused") / "faults.py"
    path.write_text(MODELS)
    return path


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("fails", "no such layer"),
        ("no_module", "returned a int, not a torch.nn.Module"),
        ("missing", "missing"),
        ("bad_preprocessing", "the attribute preprocessing is a int"),
        ("bad_size", "image_size"),
        ("bad_names", "the attribute class_names is a int"),
        ("infinite", "fc.bias holds NaN or infinity"),
        ("lazy", "has no shape yet"),
        ("random_answer", "differently from run to run"),
        ("mixes_batch", "depends on the others in its batch"),
        ("pixels_decide", "depends on pixel values"),
        ("remembers", "depend on the images before"),
        ("chosen_classes", "chosen classes"),
        ("maps", "for two images"),
        ("wrong_shape", "cannot take images of shape"),
        ("two_inputs", "also needs 'age'"),
        ("numpy_inside", "numpy"),
    ],
)
def test_models(bad_input, models, factory, says):
    """A model that cannot be used is refused with its own reason."""
    bad_input("cuts", f"{models}:{factory}", says=[says])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("torchvision:resnet51", "resnet51"),
        ("timm:no_such_model", "no_such_model"),
        ("hf:no/such/folder", "no/such/folder"),
        ("none.onnx", "none.onnx"),
        ("./none.py:build", "none.py"),
        ("no.such.package:build", "no.such.package"),
        ("onnx:build:more", "onnx"),
        ("resnet18", "resnet18"),
        ("net.pt", "net.pt"),
        ("", "model"),
    ],
)
def test_names_of_models(bad_input, spec, says):
    """A name that leads to no model is repeated in the message."""
    bad_input("cuts", spec, says=[says])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--output", "aux"), "no output 'aux'"),
        (("--num-classes", "7"), "has 3 outputs, not 7"),
        (("--num-classes", "1"), "at least 2 outputs"),
        (("--image-size", "0"), "image"),
        (("--image-size", "3x"), "image"),
        (("--channels", "4"), "4"),
        (("--extra-input", "age=1"), "no parameter 'age'"),
        (("--weights", "default"), "has no default weights"),
        (("--weights", "none.pth"), "there is no file of weights"),
    ],
)
def test_options_of_models(bad_input, models, options, says):
    """An option that does not fit the model is refused."""
    bad_input("cuts", f"{models}:plain", *options, says=[says])


def weights_files(state):
    """Return {name: (what is saved, words of the refusal)}."""
    import torch

    return {
        "empty.pth": ({}, "holds none"),
        "number.pth": (3, "holds none"),
        "shape.pth": ({**state, "conv.weight": torch.zeros(4, 3, 5, 5)}, "is of another model"),
        "outputs.pth": ({**state, "fc.weight": torch.zeros(9, 4), "fc.bias": torch.zeros(9)}, "9 outputs"),
        "missing.pth": ({"fc.bias": state["fc.bias"]}, "lacks"),
        "unknown.pth": ({**state, "more": torch.zeros(1)}, "more"),
        "complex.pth": ({**state, "fc.bias": torch.full((3,), 1j)}, "cannot hold its values"),
        "int8.pth": ({**state, "fc.bias": torch.zeros(3, dtype=torch.int8)}, "quantised"),
        "nan.pth": ({**state, "fc.bias": torch.full((3,), float("nan"))}, "NaN"),
        "sparse.pth": ({**state, "fc.weight": state["fc.weight"].to_sparse()}, "sparse"),
        "damaged.pth": (b"PK\3\4 no zip", "damaged"),
        "text.pth": (b"no weights", "text.pth"),
        "damaged.safetensors": (b"\xff" * 40, "damaged.safetensors"),
        "other.h5": (b"\x89HDF", "other.h5"),
    }


WEIGHTS = (
    "empty.pth", "number.pth", "shape.pth", "outputs.pth", "missing.pth", "unknown.pth", "complex.pth", "int8.pth",
    "nan.pth", "sparse.pth", "damaged.pth", "text.pth", "damaged.safetensors", "other.h5",
)  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(bad_input, models, tmp_path, name):
    """A file of weights that does not fit, or is none, is refused by its name."""
    import torch

    names = {}
    exec(models.read_text(), names)
    content, says = weights_files(names["plain"]().state_dict())[name]
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    bad_input("cuts", f"{models}:plain", "--weights", path, says=[says])


def picture_folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (16, 16), (number, 9, 9)).save(root / name / f"{number}.png")


def same_subfolders(root):
    picture_folders(root, "first/a", "first/b", "second/a", "second/b")


def masks(root):
    picture_folders(root, "images", "masks")


def empty_class(root):
    picture_folders(root, "a", "b")
    (root / "c").mkdir()


def damaged_image(root):
    picture_folders(root, "a", "b", "c")
    for path in root.rglob("*.png"):
        path.write_bytes(b"no picture")


def bad_class_file(root):
    picture_folders(root, "a", "b", "c")
    (root / "classes.json").write_text(json.dumps({"order": 3}))


def table_without_labels(root):
    picture_folders(root, "a")
    (root / "labels.csv").write_text("path\na/0.png\n")


def table_of_nothing(root):
    picture_folders(root, "a")
    (root / "labels.csv").write_text("path,label\nnone.png,1\n")


def no_images(root):
    root.mkdir()
    (root / "notes.txt").write_text("no images here")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (same_subfolders, "hold the same subfolders"),
        (masks, "images and their masks"),
        (empty_class, "is empty"),
        (damaged_image, "is not an image"),
        (bad_class_file, "classes.json"),
        (table_without_labels, "no column of labels"),
        (table_of_nothing, "none.png"),
        (no_images, "holds no images"),
    ],
)
def test_folders(bad_input, models, tmp_path, make, says):
    """A folder that is no data set of images is refused before the model is analysed."""
    make(tmp_path / "data")
    bad_input("data", f"{models}:plain", tmp_path / "data", says=[says])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("data.zip", b"PK no zip", "cannot be read as a zip file"),
        ("data.npz", b"no arrays", "data.npz"),
        ("labels.csv", b"", "labels.csv"),
        ("data.tar", b"", "data.tar"),
        ("floats.npz", {"images": np.full((6, 4, 4), -7.0), "labels": np.arange(6) % 3}, "floats.npz"),
        ("labels.npz", {"images": np.zeros((6, 4, 4), np.uint8), "labels": np.arange(5)}, "labels.npz"),
    ],
)
def test_files_of_data(bad_input, models, tmp_path, name, content, says):
    """A file that holds no labelled images is refused by its name."""
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    bad_input("data", f"{models}:plain", path, says=[says])


@pytest.mark.parametrize(
    "spec", ["torchvision:CIFAR11", "sklearn:irises", "hfdata:no/such/folder", "idx:a", "no/such/folder"]
)
def test_names_of_data(bad_input, models, spec):
    """A name that leads to no data is repeated in the message."""
    bad_input("data", f"{models}:plain", spec, says=[spec.rpartition(":")[2]])
