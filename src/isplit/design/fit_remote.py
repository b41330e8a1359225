"""isplit fit --remote: train the model on compressed images, measure it and save it beside the splits."""

import hashlib
import json
from importlib import metadata
from pathlib import Path
from zlib import crc32

from safetensors.torch import load, save

from isplit.design.devices import describe_device, device_of, placed, resolve_device
from isplit.design.measure.compressed_images import measure_remote
from isplit.design.remote_settings import SPLIT_SETTINGS, check_remote_settings, read_compression
from isplit.design.running import chosen_precision, evaluating
from isplit.design.settings import FitSettings
from isplit.design.study import Study, StudyView, open_study, open_to_write
from isplit.design.study_lock import split_lock
from isplit.design.training.checkpoint import Checkpoint
from isplit.design.training.remote import RemoteNetwork, RemoteTraining, TrainedNetwork
from isplit.errors import StudyError
from isplit.progress import Progress, silent
from isplit.records import Compression, Cut, TrainedRemote, write_whole
from isplit.records.files import read_limited
from isplit.records.remote import REMOTES
from isplit.records.splits import SplitFile


def fit_remote(
    study: Study | str | Path,
    compression: Compression | str,
    *,
    after: str | None = None,
    group: str | None = None,
    settings: FitSettings | None = None,
    progress: Progress = silent,
) -> TrainedRemote:
    """Train the model on compressed images, measure it on the test part, and save it in the study.

    It learns from the labels and from the whole model's answers to the uncompressed images, with the losses, rates,
    epochs and patience of `fit`. Settings that are about splits alone are refused. What was trained before with the
    same settings is returned as it is, and a run that was interrupted goes on after its last whole epoch.

    Args:
        study: A study, or its directory; the model itself is not changed.
        compression: A `Compression`, or its text, such as "webp:50@0.5".
        after: The cut after which the layers learn; None trains all layers.
        group: A class subset of the study; None for all classes.
        settings: How to train.
        progress: Called as work goes on.

    Raises:
        InputError: a setting of the image that is not understood or not available here, an unknown cut or subset, or
            a setting that is about splits alone.
        NonFiniteError: the loss is not a number any more.

    """
    settings = settings or FitSettings()
    compression = read_compression(compression)
    check_remote_settings(settings)
    device = resolve_device(settings.device)
    with open_to_write(study) as opened:
        view = opened.view(group)
        (place,) = opened.cuts((after,)) if after is not None else (None,)
        directory = remote_directory(view, compression, after=after)
        known = _known(directory, view, settings)
        if known is not None:
            return known
        with split_lock(directory), placed(view.graph.module, device=device), evaluating(view.graph.module):
            return _trained(view, compression, place, directory, settings=settings, progress=progress)


def remote_directory(view: StudyView, compression: Compression, *, after: str | None) -> Path:
    """Return the folder of a trained opponent; two different ones never share one."""
    safe = compression.tag.replace(":", "-q").replace("@", "-x")
    if after is not None or not view.is_default:
        name = f"{view.name}/{after or ''}"
        safe += f"-{crc32(name.encode()):08x}"
    return view.directory / REMOTES / safe


def recorded(settings: FitSettings) -> dict[str, float | int | str | bool | None]:
    """Return the settings that a trained opponent depends on."""
    return {name: value for name, value in settings.recorded().items() if name not in SPLIT_SETTINGS}


def _known(directory: Path, view: StudyView, settings: FitSettings) -> TrainedRemote | None:
    """Return the record of a network that was trained in the same way before, if its weights are still there."""
    try:
        record = TrainedRemote.load(directory)
    except StudyError:  # there is none, or it is damaged and is trained again
        return None
    same = (record.model, record.group, record.settings) == (view.fingerprint, view.name, recorded(settings))
    weights = directory / record.weights.name
    return record if same and weights.exists() and weights.stat().st_size == record.weights.bytes else None


def _trained(
    view: StudyView,
    compression: Compression,
    after: Cut | None,
    directory: Path,
    *,
    settings: FitSettings,
    progress: Progress,
) -> TrainedRemote:
    """Train, measure before and after on the same images of the test part, and save."""
    training = RemoteTraining(view, compression, settings, progress=progress)
    checkpoint = Checkpoint(
        directory=directory, key=_key(view, compression, after, settings=settings, images=len(training.images))
    )
    trained = training(RemoteNetwork(view, after), checkpoint)
    before, measurement = (
        measure_remote(
            view,
            images=view.images("test"),
            part="test",
            compressions=[compression],
            network=network,
            precision=chosen_precision(settings.precision, device=device_of(view.graph.module)),
            progress=_labelled(progress, when),
        )[0]
        for network, when in ((None, "before training"), (trained.network, "after training"))
    )
    content = _packed(trained)
    record = TrainedRemote(
        isplit_version=metadata.version("isplit"),
        versions=view.study.versions,
        device=describe_device(device_of(view.graph.module)),
        model=view.fingerprint,
        group=view.name,
        compression=compression,
        after=None if after is None else after.name,
        part="fit",
        images=len(training.images),
        epochs=len(trained.curve) - 1,
        best_epoch=trained.best_epoch,
        seconds=sum(epoch.seconds for epoch in trained.curve),
        settings=recorded(settings),
        curve=trained.curve,
        before=before,
        measurement=measurement,
        weights=SplitFile.of(content, part="weights", suffix=".safetensors"),
    )
    record = _saved(directory, record, content)
    checkpoint.clear()
    return record


def _labelled(progress: Progress, when: str) -> Progress:
    """Return progress that says which of two measurements is meant."""
    return lambda what, done, total: progress(f"{what} of the test part, {when}", done, total)


def _key(view: StudyView, compression: Compression, after: Cut | None, *, settings: FitSettings, images: int) -> str:
    """Return a hash of all that a run depends on."""
    parts = [view.fingerprint, view.study.record.data.sha256, view.group.model_dump(), compression.tag]
    text = json.dumps([*parts, None if after is None else after.name, recorded(settings), images], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _packed(trained: TrainedNetwork) -> bytes:
    """Return the network's tensors as a safetensors file; tensors that share memory are written apart."""
    state = trained.network.state_dict()
    return save({name: value.detach().cpu().clone().contiguous() for name, value in state.items()})


def _saved(directory: Path, record: TrainedRemote, content: bytes) -> TrainedRemote:
    """Write weights and record: killed at any moment, the folder holds the old network or the new one."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / record.weights.name, content)
        record.save(directory)
        for path in directory.glob("weights-*.safetensors"):
            if path.name != record.weights.name:
                path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"cannot write {error.filename or directory}: {error.strerror or error}"
        raise StudyError(msg) from error
    return record


def load_remote(study: Study | str | Path, record: TrainedRemote) -> RemoteNetwork:
    """Rebuild a network that `fit_remote` saved.

    Raises:
        StudyError: the weights are missing or damaged, or the study's model is another.

    """
    opened = open_study(study)
    view = opened.view(record.group)
    directory = remote_directory(view, record.compression, after=record.after)
    if record.model != view.fingerprint:
        msg = f"{directory} was made from another model than the study's: train it again"
        raise StudyError(msg)
    (place,) = opened.cuts((record.after,)) if record.after is not None else (None,)
    network = RemoteNetwork(view, place)
    try:
        content = read_limited(
            directory / record.weights.name,
            limit_bytes=record.weights.bytes,
            kind="the weights of a trained opponent",
            ordinary=True,
        )
        if record.weights != SplitFile.of(content, part="weights", suffix=".safetensors"):
            raise ValueError(record.weights.name)
        network.load_state_dict(load(content))
    except (OSError, ValueError, RuntimeError) as error:
        msg = f"the trained opponent in {directory} is damaged; delete the folder and train it again"
        raise StudyError(msg) from error
    return network.requires_grad_(False)
