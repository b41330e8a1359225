"""Image classifiers of Hugging Face from a folder; nothing is downloaded."""

import json
from pathlib import Path

import pytest
import torch

import isplit
from isplit.design.inputs.hugging_face_models import build_hugging_face
from isplit.errors import ModelError

transformers = pytest.importorskip("transformers")


def save(folder: Path, *, labels: dict[int, str] | None = None, **processor: object) -> Path:
    """Write a small ResNet with its image processor, and return the folder."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=labels or {0: "a", 1: "b"}
    )
    torch.manual_seed(0)
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    fields = {"size": {"height": 40, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}
    transformers.ViTImageProcessor(**{**fields, **processor}).save_pretrained(folder)
    return folder


def test_a_folder_is_all_it_takes(tmp_path):
    """Weights, class names, and how images are prepared come from the folder; the logits are transformers' own."""
    model = isplit.load_model(f"hf:{save(tmp_path / 'net', labels={0: 'cat', 1: 'dog', 2: 'eel'})}")

    assert ("cat", "dog", "eel") == model.class_names
    assert (3, 40, 32) == model.input_shape
    preprocessing = model.preprocessing
    assert ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)) == (preprocessing.mean, preprocessing.std)
    assert (None, "bilinear") == (preprocessing.resize_size, preprocessing.interpolation)
    assert ((), "logits") == (model.warnings, model.source.output)
    images = torch.rand(2, 3, 40, 32)
    expected = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "net").eval()(images).logits
    assert torch.equal(expected, model.logits(images))


def test_it_has_cuts(tmp_path):
    """The residual network is captured, and its stages are cuts."""
    names = [cut.name for cut in isplit.list_cuts(f"hf:{save(tmp_path / 'net')}").cuts]
    assert "resnet.encoder.stages.0.layers.0.activation" in names


@pytest.mark.parametrize(
    ("processor", "image_size", "resize_size"),
    [
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            224,
            256,
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, 256),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 384, None),
        ({"size": {"height": 64, "width": 64}}, 64, None),
    ],
)
def test_sizes(tmp_path, processor, image_size, resize_size):
    """A shorter side with a crop, ConvNeXt's share, and a size that images are squashed to."""
    folder = save(tmp_path / "net")
    path = folder / "preprocessor_config.json"
    fields = json.loads(path.read_text()) | {"image_processor_type": "ConvNextImageProcessor"}
    path.write_text(json.dumps({**fields, **processor}))
    hints = build_hugging_face(str(folder), weights=None, num_classes=None).hints
    assert ((image_size, image_size), resize_size) == (tuple(hints["image_size"]), hints["resize_size"])


def test_no_normalisation(tmp_path):
    """A processor that does not normalise leaves pixels between 0 and 1."""
    hints = build_hugging_face(str(save(tmp_path / "net", do_normalize=False)), weights=None, num_classes=None).hints
    assert (0.0, 1.0) == (hints["mean"], hints["std"])


def test_other_number_of_outputs(tmp_path):
    """Another number of classes puts an untrained classifier in, and says so."""
    model = isplit.load_model(f"hf:{save(tmp_path / 'net')}", num_classes=5)
    assert (5, None) == (model.source.num_outputs, model.class_names)
    assert "untrained" in model.warnings[0]


def test_labels_without_names(tmp_path):
    """LABEL_0 and so on are no names of classes."""
    assert isplit.load_model(f"hf:{save(tmp_path / 'net', labels={0: 'LABEL_0', 1: 'LABEL_1'})}").class_names is None


def test_not_downloaded(tmp_path, monkeypatch):
    """A repository that is not in the cache is refused, with how to download it; the network is not asked."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"neither a folder nor a repository in the local cache.*weights=default"):
        isplit.load_model("hf:nobody/nothing")


def test_folder_without_a_model(tmp_path):
    """A folder that holds something else is refused by its name."""
    with pytest.raises(ModelError, match="is not an image classifier of transformers"):
        isplit.load_model(f"hf:{tmp_path}")


def test_other_scales_are_refused(tmp_path):
    """Pixels that are not scaled by 1/255 would silently be other inputs."""
    with pytest.raises(ModelError, match="scales pixels by"):
        isplit.load_model(f"hf:{save(tmp_path / 'net', rescale_factor=1.0)}")
