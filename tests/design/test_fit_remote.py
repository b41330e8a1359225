"""The model trained on compressed images: what learns, what is kept, and what is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import features

from isplit.design.fit_remote import fit_remote, load_remote, remote_directory
from isplit.design.inputs.batches import normalise
from isplit.design.inputs.weights import fingerprint
from isplit.design.measure.compressed_images import measure_remote
from isplit.design.study import open_study
from isplit.design.training.remote import RemoteNetwork, RemoteTraining, WithMirrored
from isplit.errors import InputError, StudyError
from isplit.progress import silent
from isplit.records import Compression, TrainedRemote, remote_records

SETTING = Compression(format="webp", quality=5, scale=0.5)


@pytest.fixture
def settings(fast):
    """One epoch at a rate that moves the small network."""
    return fast(epochs=1, bottleneck_rate=None)


def test_record_is_of_the_network_that_is_saved(study, settings):
    """Trained and untrained network are measured on the same compressed test images; loaded again it answers alike."""
    before = fingerprint(study.graph.module)
    record = fit_remote(study, "webp:5@0.5", settings=settings)

    view = study.view()
    assert before == fingerprint(study.graph.module)
    assert (SETTING, "test", None, 1) == (record.compression, record.measurement.part, record.after, record.epochs)
    assert len(view.images("test")) == record.measurement.accuracy.images == record.before.accuracy.images
    assert record.before.payload_bytes == record.measurement.payload_bytes
    (again,) = measure_remote(
        view, images=view.images("test"), part="test", compressions=[SETTING], network=load_remote(study, record)
    )
    assert again == record.measurement
    assert (record,) == remote_records(study.directory)


def test_what_was_trained_is_not_trained_again(study, settings, monkeypatch):
    """The same settings find the record; other settings, or lost weights, train anew."""
    record = fit_remote(study, SETTING, settings=settings)
    trained = []
    train = RemoteTraining.__call__
    monkeypatch.setattr(RemoteTraining, "__call__", lambda *arguments: trained.append(1) or train(*arguments))
    assert record == fit_remote(study, SETTING, settings=settings)
    assert [] == trained
    fit_remote(study, SETTING, settings=replace(settings, seed=1))
    assert [1] == trained
    directory = remote_directory(study.view(), SETTING, after=None)
    (weights,) = directory.glob("weights-*")
    weights.unlink()
    with pytest.raises(StudyError, match="damaged"):
        load_remote(study, TrainedRemote.load(directory))
    fit_remote(study, SETTING, settings=replace(settings, seed=1))
    assert [1, 1] == trained


def test_only_layers_after_a_cut_learn(study, settings):
    """What comes before the cut keeps its weights; what comes after does not."""
    view, (cut,) = study.view(), study.cuts(("pool1",))
    network = RemoteNetwork(view, cut)
    heads = {name: value.clone() for name, value in network.head.state_dict().items()}
    tails = {name: value.clone() for name, value in network.tail.named_parameters()}
    training = RemoteTraining(view, SETTING, settings, progress=silent)
    optimiser = torch.optim.Adam([value for value in network.parameters() if value.requires_grad], lr=1e-3)
    losses = training._epoch(network, optimiser, training._teacher(), 1)

    assert 0 < losses["loss"]
    assert all(torch.equal(heads[name], value) for name, value in network.head.state_dict().items())
    assert all(not torch.equal(tails[name], value) for name, value in network.tail.named_parameters())
    assert "pool1" == fit_remote(study, SETTING, after="pool1", settings=settings).after


def test_the_best_epoch_is_kept(study, settings, monkeypatch):
    """Epochs that lose on the select part are not kept; patience ends the training."""
    accuracies = iter([0.5, 0.7, 0.6, 0.6])
    monkeypatch.setattr(RemoteTraining, "_judge", lambda run, network: (next(accuracies), 1.0))
    record = fit_remote(study, SETTING, settings=replace(settings, epochs=9, patience=2))
    assert (1, 3) == (record.best_epoch, record.epochs)
    assert [0.5, 0.7, 0.6, 0.6] == [epoch.select_accuracy for epoch in record.curve]


class Interrupt:
    """Progress that interrupts in the middle of an epoch, and remembers what it was called with."""

    def __init__(self, where=None):
        self.where, self.seen = where, set()

    def __call__(self, what, done, total):
        self.seen.add(what)
        if self.where is not None and self.where in what and done == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("after", "epoch"), [(None, 1), (None, 3), ("pool1", 2)])
def test_resumed_run_ends_the_same(study, settings, tmp_path, after, epoch):
    """A run that was interrupted goes on after its last whole epoch, and ends with the same bytes of weights."""
    other = open_study(shutil.copytree(study.directory, tmp_path / "other"), allow_code=True)
    options = {"after": after, "settings": replace(settings, epochs=3, flip=after is not None)}
    straight = fit_remote(study, SETTING, **options)
    directory = remote_directory(other.view(), SETTING, after=after)
    with pytest.raises(KeyboardInterrupt):
        fit_remote(other, SETTING, progress=Interrupt(f"epoch {epoch} of 3"), **options)
    assert (epoch > 1) == (directory / "checkpoint.json").exists()
    assert not (directory / TrainedRemote.file_name).exists()

    again = Interrupt()
    resumed = fit_remote(open_study(other.directory, allow_code=True), SETTING, progress=again, **options)
    assert {f"epoch {number} of 3" for number in range(epoch, 4)} == {
        what.partition(": ")[2] for what in again.seen if what.startswith("compressed images: ")
    }
    assert straight.weights == resumed.weights
    assert straight.measurement == resumed.measurement
    assert [row.losses for row in straight.curve] == [row.losses for row in resumed.curve]
    assert [row.select_accuracy for row in straight.curve] == [row.select_accuracy for row in resumed.curve]
    assert [] == list(directory.glob("checkpoint*"))


def test_another_runs_checkpoint_is_not_gone_on_with(study, settings):
    """With another seed, training begins with its first epoch."""
    settings = replace(settings, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        fit_remote(study, SETTING, settings=settings, progress=Interrupt("epoch 2 of 2"))
    seen = Interrupt()
    fit_remote(study, SETTING, settings=replace(settings, seed=1), progress=seen)
    assert "compressed images: epoch 1 of 2" in seen.seen


def test_mirrored_images(study, settings):
    """Some images of an epoch are mirrored before they are compressed, and learn from answers to the mirrored ones."""
    view, settings = study.view(), replace(settings, precision="fp32")
    training = RemoteTraining(view, SETTING, replace(settings, flip=True), progress=silent)
    count = len(training.images)
    teacher, plain = training._teacher(), RemoteTraining(view, SETTING, settings, progress=silent)._teacher()
    assert (2 * count, count) == (len(teacher), len(plain))
    pixels = torch.from_numpy(view.data.pixels(int(training.images[0]), view.preprocessing)[:, ::-1].copy())
    with torch.no_grad():
        answer = view.classes(study.graph.module(normalise(pixels[None], view.preprocessing)).float())
    torch.testing.assert_close(answer[0], teacher[count])

    mirrored = fit_remote(study, SETTING, settings=replace(settings, flip=True))
    straight = fit_remote(study, SETTING, settings=settings)
    assert (True, False) == (mirrored.settings["flip"], straight.settings["flip"])
    assert mirrored.images == straight.images == count
    assert mirrored.curve[1].losses != straight.curve[1].losses


def test_copies_are_mirrored(study):
    """Behind the images stand their mirrored copies, with the same classes."""
    view = study.view()
    pictures = WithMirrored(view.data)
    (copy,) = pictures.mirrored(np.array([3]))
    assert view.data.labels[3] == pictures.labels[3] == pictures.labels[copy]
    pixels = pictures.pixels(3, view.preprocessing)
    assert np.array_equal(pixels, view.data.pixels(3, view.preprocessing))
    assert np.array_equal(pixels[:, ::-1], pictures.pixels(int(copy), view.preprocessing))


@pytest.mark.parametrize(
    ("compression", "changes", "says"),
    [
        ("webp;50", {}, r"webp:50@0\.5"),
        (SETTING, {"coder": "zstd"}, "`coder=zstd`: such settings are about splits"),
        (SETTING, {"bottleneck_rate": 0.1, "train_tail": False}, "`train_tail=False`, `bottleneck_rate=0.1`: such"),
    ],
)
def test_refused(study, settings, compression, changes, says):
    """What is no setting of an image, and settings that are about splits alone."""
    with pytest.raises(InputError, match=says):
        fit_remote(study, compression, settings=replace(settings, **changes))
    assert not list(study.directory.glob("remotes/*"))


def test_unknown_cut(study, settings):
    """A cut that the study lacks is refused."""
    with pytest.raises(StudyError, match="no cut 'nowhere'"):
        fit_remote(study, SETTING, after="nowhere", settings=settings)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif(study, settings):
    """AVIF is a format like the others where Pillow has it."""
    record = fit_remote(study, "avif:30", settings=replace(settings, epochs=0))
    assert ("avif", 30) == (record.measurement.format, record.measurement.quality)
    assert 0 < record.measurement.payload_bytes.mean
    assert record.before.accuracy == record.measurement.accuracy


def test_jpeg_xl_needs_its_plugin(study, settings):
    """Without the plugin the message names it; with it, images are compressed."""
    try:
        import pillow_jxl  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError:
        with pytest.raises(InputError, match="pillow-jxl-plugin"):
            fit_remote(study, "jxl:50", settings=settings)
    else:
        assert "jxl" == fit_remote(study, "jxl:50", settings=replace(settings, epochs=0)).measurement.format
