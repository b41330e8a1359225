"""A bundle answers as torch does: from the image through bytes to the logits, and it describes itself rightly."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from isplit.design.export import export
from isplit.design.export_settings import ExportSettings
from isplit.design.fit_remote import fit_remote, load_remote
from isplit.design.onnx.compare import answer_whole, load_pixels
from isplit.design.onnx.recommended_image import recommend_image, remote_placement
from isplit.design.settings import FitSettings
from isplit.design.study import open_study
from isplit.errors import InputError
from isplit.records import Accuracy, Paired, PayloadBytes, PredictionsRecord, RemoteImage
from isplit.runtime.bundle import Bundle
from tests.design.exporting import CUTS, GROUPS

ROOT = Path(__file__).parents[3]


def test_answers_vary(exported):
    """Equal answers mean something here: the images get all three of them."""
    assert 3 == exported.record.check.classes_answered


@pytest.mark.parametrize("cut", CUTS)
def test_image_by_image(exported, answer_in_torch, run_onnx, cut):
    """Head, bytes and tail give torch's latent exactly, and its logits within the stated tolerance."""
    bundle, codec = exported.bundle, exported.bundle.codec(cut)
    for pixels in exported.pixels:
        latent, logits = answer_in_torch(exported.study, pixels, cut)
        symbols = run_onnx(bundle.head_path(cut), pixels[None])
        assert np.uint8 == symbols.dtype
        np.testing.assert_array_equal(latent, symbols[0])
        arrived = codec.decode_symbols(codec.encode_symbols(symbols[0]))
        answered = run_onnx(bundle.tail_path(cut), arrived[None])
        assert np.float32 == answered.dtype
        assert logits.argmax() == answered[0].argmax()
        assert np.abs(logits - answered[0]).max() <= bundle.record.cut(cut).logits_tolerance


def test_whole(exported, answer_in_torch, run_onnx):
    """The whole model's file answers as the model does."""
    answered = run_onnx(exported.bundle.local_path, exported.pixels)
    expected = np.stack([answer_in_torch(exported.study, pixels, None)[1] for pixels in exported.pixels])
    np.testing.assert_allclose(expected, answered, atol=1e-5)
    assert exported.bundle.local_path == exported.bundle.remote_path


@pytest.mark.parametrize("images", [1, 2, 7])
def test_any_batch(exported, run_onnx, images):
    """Every file takes any number of images, and the number does not change the answers."""
    bundle = exported.bundle
    for cut in CUTS:
        latents = run_onnx(bundle.head_path(cut), exported.pixels[:images])
        assert (images, *bundle.record.cut(cut).latent_shape) == latents.shape
        one_by_one = [run_onnx(bundle.head_path(cut), image[None])[0] for image in exported.pixels[:images]]
        np.testing.assert_array_equal(one_by_one, latents)
        assert (images, 3) == run_onnx(bundle.tail_path(cut), latents).shape
    assert (images, 3) == run_onnx(bundle.local_path, exported.pixels[:images]).shape


def test_batch_has_a_name(exported):
    """The first dimension of every input and output is called batch; no other is open."""
    for path in exported.bundle.directory.glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        for value in (*graph.input, *graph.output):
            first, *others = value.type.tensor_type.shape.dim
            assert "batch" == first.dim_param
            assert all(size.dim_value > 0 for size in others)


@pytest.mark.parametrize("group", GROUPS)
def test_class_subset(tiny_study, answer_in_torch, run_onnx, tmp_path, group):
    """A bundle of a subset gives the logits of its classes, merged ones joined, and nothing else."""
    record = export(tiny_study, ["pool2"], tmp_path / "subset", group=group, settings=ExportSettings(images=8))
    bundle = Bundle.open(tmp_path / "subset")
    view = tiny_study.view(group)
    assert view.group == record.group
    for pixels in load_pixels(view, "fit", limit=6):
        for cut in ("pool2", None):
            _, logits = answer_in_torch(tiny_study, pixels, cut, group)
            start = pixels[None] if cut is None else run_onnx(bundle.head_path(cut), pixels[None])
            answered = run_onnx(bundle.local_path if cut is None else bundle.tail_path(cut), start)
            assert (1, 2) == answered.shape
            np.testing.assert_allclose(logits, answered[0], atol=1e-5)


def test_weights_are_there_once(exported):
    """What heads, tails and the whole model have in common is stored once, and every tensor is somewhere."""
    places = {}
    for path in exported.bundle.directory.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                assert "weights.bin" == entries["location"]
                places.setdefault(tensor.name.split(".", 1)[-1], set()).add((entries["offset"], entries["length"]))
    # In a head, in a tail, and in the whole model.
    assert 1 == len(places["conv2.weight"])
    content = (exported.bundle.directory / "weights.bin").read_bytes()
    spans = sorted({(int(offset), int(length)) for entries in places.values() for offset, length in entries})
    assert all(start + length <= after for (start, length), (after, _) in pairwise(spans))
    assert len(spans) == len({content[start : start + length] for start, length in spans})


def test_manifest(exported):
    """The manifest says what the study measured, and what the comparison with torch gave."""
    record, study = exported.record, exported.study
    predictions = {
        prediction.cut: prediction
        for prediction in PredictionsRecord.load(study.directory).predictions
        if prediction.group == "all classes"
    }
    assert ("tiny-net", study.record.model.fingerprint) == (record.name, record.model_fingerprint)
    assert study.record.base_accuracy == record.base_accuracy
    assert study.record.preprocessing == record.preprocessing
    assert {"torch", "onnx", "onnxscript", "onnxruntime", "opset"} <= record.versions.keys()
    for cut in record.cuts:
        measured = predictions[cut.name].measurement
        assert measured.accuracy == cut.accuracy
        assert measured.payload_bytes.mean == cut.payload_bytes_mean
        assert measured.head_mac_share == cut.head_mac_share
        assert measured.whole == record.local.accuracy
        assert (0, 0.0, 0) == (cut.check.latent_lsb_max, cut.check.latents_different_share, cut.check.top1_changed)
        assert 0 < cut.check.logits_difference_max == cut.check.tail_difference_max <= cut.logits_tolerance
        assert exported.bundle.codec(cut.name).shape == cut.latent_shape


def test_remote_setting(exported):
    """The recommended image is the smallest that surely costs at most a point, or else the most accurate."""
    setting = exported.record.remote.recommended
    measured = [
        image for image in PredictionsRecord.load(exported.study.directory).remote if image.group == "all classes"
    ]
    good = [row.payload_bytes.mean for row in measured if row.against_whole.largest_loss(row.accuracy.images) <= 0.01]
    assert setting.accuracy is not None
    if good:
        assert min(good) == setting.payload_bytes_mean
    else:
        assert max(row.accuracy.accuracy for row in measured) == setting.accuracy.accuracy
    assert "select" == setting.part
    assert setting.against_whole in [row.against_whole for row in measured]


def image(payload_bytes, *, losses, images=1000):
    """Return a compressed image that is wrong for so many images that the whole model gets right."""
    return RemoteImage(
        group="all classes",
        format="webp",
        quality=int(payload_bytes),
        part="select",
        accuracy=Accuracy.from_counts(images - losses, images),
        against_whole=Paired.from_answers([True] * images, [False] * losses + [True] * (images - losses)),
        payload_bytes=PayloadBytes.from_lengths([payload_bytes] * images),
    )


def test_recommended_image_by_hand():
    """8 of 1,000 images lost may be more than a point (the bound is 1.4); 4 are surely less (0.9)."""
    assert 30 == recommend_image([image(20, losses=8), image(30, losses=4), image(40, losses=0)]).quality
    assert 40 == recommend_image([image(20, losses=8), image(30, losses=7), image(40, losses=6)]).quality


def test_remote_setting_without_measurement(opened):
    """Where nothing was measured, a careful setting is recommended, with the bytes of the images at hand."""
    assert opened.predictions is None
    pixels = np.zeros((3, 16, 16, 3), np.uint8)
    setting = remote_placement(opened.view(), "whole.onnx", pixels=pixels).recommended
    assert ("jpeg", 90, None) == (setting.format, setting.quality, setting.accuracy)
    assert 100 < setting.payload_bytes_mean < 1000


def test_trained_opponents(own_study, tmp_path):
    """The manifest describes networks that were trained on compressed images of its classes, and of no others."""
    study = own_study
    settings = FitSettings(epochs=1, images=12, batch_size=6)
    options = ExportSettings(images=4, local=False, remote=False)
    assert () == export(study, ["pool2"], tmp_path / "without", settings=options).opponents
    trained = fit_remote(study, "webp:20@0.5", after="pool1", settings=settings)
    fit_remote(study, "jpeg:50", group=GROUPS[0], settings=settings)

    (opponent,) = export(study, ["pool2"], tmp_path / "bundle", settings=options).opponents
    assert (opponent,) == Bundle.open(tmp_path / "bundle").record.opponents
    assert ("webp", 20, 0.5, "pool1", 1) == (
        opponent.format,
        opponent.quality,
        opponent.scale,
        opponent.after,
        opponent.epochs,
    )
    measured = trained.measurement
    assert (measured.accuracy, "test", measured.against_whole) == (
        opponent.accuracy,
        opponent.part,
        opponent.against_whole,
    )
    assert measured.payload_bytes.mean == opponent.payload_bytes_mean


@pytest.fixture
def own_study(tiny_study, tmp_path):
    """A copy of the study with predicted splits, to be changed."""
    return open_study(shutil.copytree(tiny_study.directory, tmp_path / "study"), allow_code=True)


@pytest.mark.parametrize("after", [None, "pool1"])
def test_the_server_gets_the_network_trained_on_compressed_images(own_study, run_onnx, tmp_path, monkeypatch, after):
    """With `remote_network`, the remote placement is that network, which answers as it does in torch."""
    trained = fit_remote(own_study, "webp:20@0.5", after=after, settings=FitSettings(epochs=0, images=12, batch_size=6))
    network = load_remote(own_study, trained)
    with torch.no_grad():  # as if it had learned something
        for parameter in network.tail.parameters():
            parameter.mul_(1.5)
    monkeypatch.setattr("isplit.design.export.load_remote", lambda *_: network)
    options = ExportSettings(images=8, remote_network="webp:20@0.5", tolerance=1e-4)

    record = export(own_study, ["pool2"], tmp_path / "bundle", settings=options)

    bundle, remote = Bundle.open(tmp_path / "bundle"), record.remote
    assert remote is not None
    assert remote.check is not None
    assert (True, 3) == (remote.trained, remote.check.images)
    assert trained.measurement.accuracy == remote.recommended.accuracy
    assert ("webp", 20, 0.5) == (remote.recommended.format, remote.recommended.quality, remote.recommended.scale)
    assert bundle.remote_path != bundle.local_path
    pixels = load_pixels(own_study.view(), "test", limit=4)
    expected = answer_whole(own_study.view(), pixels, network=network).logits
    np.testing.assert_allclose(expected, run_onnx(bundle.remote_path, pixels), atol=1e-4)
    assert np.abs(expected - run_onnx(bundle.local_path, pixels)).max() > 1e-3


def test_the_whole_model_is_left_out_where_only_the_trained_network_is_served(own_study, tmp_path):
    """Without `local`, no placement needs the model itself."""
    fit_remote(own_study, "jpeg:50", settings=FitSettings(epochs=0, images=12, batch_size=6))
    options = ExportSettings(images=4, local=False, remote_network="jpeg:50")

    record = export(own_study, ["pool2"], tmp_path / "bundle", settings=options)

    assert record.remote is not None
    assert (None, "remote.onnx") == (record.check, record.remote.file)
    assert "whole.onnx" not in record.files


@pytest.mark.parametrize(
    ("setting", "says"),
    [("webp:30", "webp:30"), ("avif:40", "accepts jpeg, webp, png"), ("nothing", "nothing")],
)
def test_networks_that_are_not_there(own_study, tmp_path, setting, says):
    """A setting that no network was trained on, or that a server refuses, is refused before anything is written."""
    with pytest.raises(InputError, match=says):
        export(own_study, ["pool2"], tmp_path / "bundle", settings=ExportSettings(remote_network=setting))
    assert not (tmp_path / "bundle").exists()


def test_nothing_about_this_machine(exported):
    """No file of a bundle says where it was made."""
    for path in exported.bundle.directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in (str(ROOT), str(exported.study.directory), "site-packages", 'File "'):
                assert word.encode() not in content, (path.name, word)


def test_without_whole_model(tiny_study, tmp_path):
    """A device that need not answer alone, and a server that takes no images, get no whole model."""
    settings = ExportSettings(local=False, remote=False, images=4, name="small")
    record = export(tiny_study, ["pool1"], tmp_path / "small", settings=settings)
    assert (None, None, None) == (record.local, record.remote, record.check)
    assert "whole.onnx" not in record.files
    assert "small" == Bundle.open(tmp_path / "small").name
