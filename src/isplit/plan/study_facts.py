"""Read from a study what a plan needs: the graph, and bytes and accuracy of every split and compressed image."""

from dataclasses import dataclass
from pathlib import Path

from isplit.errors import InputError
from isplit.records import (
    MEASURED_WIRE_OVERHEAD,
    Accuracy,
    Budget,
    Compression,
    GraphRecord,
    Measurement,
    PlannedAccuracy,
    Prediction,
    PredictionsRecord,
    RemoteImage,
    SplitRecord,
    StudyRecord,
    WireOverhead,
    remote_records,
    wire_overhead,
)
from isplit.records.split_files import split_records


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """Describe a split at a cut: the added work of device and server, the bytes that cross, and the accuracy."""

    cut: str
    budget: Budget
    design: str
    encoder_macs: float
    decoder_macs: float
    encoder_parameters: float
    elements: float
    payload_bytes: float
    payload_p95_bytes: float
    accuracy: PlannedAccuracy


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Describe a compressed image as the server gets it, and the accuracy of the whole model on such images.

    `trained` says that the network was trained on images of this setting, and `trained_after` names the cut after which
    its layers learned (None: all of them).
    """

    compression: Compression
    trained: bool = False
    trained_after: str | None = None
    payload_bytes: float
    payload_p95_bytes: float
    accuracy: PlannedAccuracy


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Hold everything of a study that a plan needs."""

    directory: str
    model: str
    model_fingerprint: str
    group: str
    graph: GraphRecord
    whole: PlannedAccuracy
    splits: tuple[SplitFacts, ...]
    images: tuple[ImageFacts, ...]
    wire_overhead: WireOverhead = MEASURED_WIRE_OVERHEAD


def load_facts(directory: Path, *, group: str | None = None) -> StudyFacts:
    """Read a study's records: those of `analyze`, those of `predict` if it was run, and what was trained.

    A trained split replaces the untrained one of the same cut, budget and design. Networks that were trained on
    compressed images stand beside the network as it is, which may need fewer bytes at another setting. Cuts without any
    measured split are not planned.

    Raises:
        StudyError: the directory is not a study, or a record is damaged.
        InputError: the study has no set of classes of that name.

    """
    study, graph = StudyRecord.load(directory), GraphRecord.load(directory)
    names = [entry.name for entry in study.groups]
    chosen = group or names[0]
    if chosen not in names:
        msg = f"the study has no classes {chosen!r}; it has {', '.join(names)}"
        raise InputError(msg)
    predictions = PredictionsRecord.load(directory) if (directory / PredictionsRecord.file_name).exists() else None
    splits: dict[tuple[str, str, str], SplitFacts] = {}
    images: list[ImageFacts] = []
    if predictions is not None:
        for prediction in predictions.predictions:
            if prediction.group == chosen:
                key = (prediction.cut, prediction.budget.tag, prediction.design)
                splits[key] = _predicted(prediction)
        images = [_image(image) for image in predictions.remote if image.group == chosen]
    for record in split_records(directory).values():
        if record.training is not None and record.group == chosen:
            splits[record.cut, record.budget.tag, record.bottleneck.design] = _trained(record)
    for opponent in remote_records(directory):
        if (opponent.group, opponent.model) == (chosen, study.model.fingerprint):
            images.append(_image(opponent.measurement, trained=True, after=opponent.after))
    places = {cut.name for cut in graph.cuts}
    if strangers := sorted({split.cut for split in splits.values()} - places):
        msg = f"the records in {directory} are not of one study: graph.json has no cut {strangers[0]!r}"
        raise InputError(msg)
    return StudyFacts(
        directory=str(directory),
        model=study.model.spec,
        model_fingerprint=study.model.fingerprint,
        group=chosen,
        graph=graph,
        whole=_whole(study, list(splits.values()), chosen=chosen, first=names[0]),
        splits=tuple(splits.values()),
        images=tuple(images),
        wire_overhead=wire_overhead(next(len(entry.classes) for entry in study.groups if entry.name == chosen)),
    )


def _whole(study: StudyRecord, splits: list[SplitFacts], *, chosen: str, first: str) -> PlannedAccuracy:
    accuracy: Accuracy = study.base_accuracy
    part: str | None = "test"
    if chosen != first and splits:
        # The study has no accuracy of a class subset, so that of the whole model beside the first split is taken.
        beside = splits[0].accuracy
        share = beside.accuracy - (beside.difference or 0.0)
        images = beside.images or 0
        accuracy, part = Accuracy.from_counts(round(share * images), images), beside.part
    return PlannedAccuracy(
        accuracy=accuracy.accuracy,
        low=accuracy.low,
        high=accuracy.high,
        difference=0.0,
        stderr=0.0,
        source="whole",
        images=accuracy.images,
        part=part,
    )


def _measured(measurement: Measurement, *, trained: bool) -> PlannedAccuracy:
    accuracy, against = measurement.accuracy, measurement.against_whole
    return PlannedAccuracy(
        accuracy=accuracy.accuracy,
        low=accuracy.low,
        high=accuracy.high,
        difference=against.difference,
        stderr=against.stderr,
        largest_loss=against.largest_loss(accuracy.images),
        source="trained" if trained else "closed form",
        images=accuracy.images,
        part=measurement.part,
    )


def _predicted(prediction: Prediction) -> SplitFacts:
    accuracy = _measured(prediction.measurement, trained=False)
    if prediction.predicted_accuracy is not None:
        known = prediction.predicted_accuracy
        low, high = prediction.predicted_low, prediction.predicted_high
        whole = prediction.measurement.whole.accuracy
        accuracy = PlannedAccuracy(
            accuracy=known,
            low=known if low is None else low,
            high=known if high is None else high,
            difference=known - whole,
            stderr=prediction.predicted_stderr,
            largest_loss=None if low is None else whole - low,
            source="predicted",
        )
    return _split(prediction.cut, prediction.budget, prediction.design, prediction.measurement, accuracy)


def _trained(record: SplitRecord) -> SplitFacts:
    accuracy = _measured(record.measurement, trained=True)
    return _split(record.cut, record.budget, record.bottleneck.design, record.measurement, accuracy)


def _split(cut: str, budget: Budget, design: str, measurement: Measurement, accuracy: PlannedAccuracy) -> SplitFacts:
    return SplitFacts(
        cut=cut,
        budget=budget,
        design=design,
        encoder_macs=measurement.encoder_macs,
        decoder_macs=measurement.decoder_macs,
        encoder_parameters=measurement.encoder_parameters,
        elements=measurement.elements,
        payload_bytes=measurement.payload_bytes.mean,
        payload_p95_bytes=measurement.payload_bytes.p95,
        accuracy=accuracy,
    )


def _image(image: RemoteImage, *, trained: bool = False, after: str | None = None) -> ImageFacts:
    return ImageFacts(
        compression=Compression(format=image.format, quality=image.quality, scale=image.scale),
        trained=trained,
        trained_after=after,
        payload_bytes=image.payload_bytes.mean,
        payload_p95_bytes=image.payload_bytes.p95,
        accuracy=PlannedAccuracy(
            accuracy=image.accuracy.accuracy,
            low=image.accuracy.low,
            high=image.accuracy.high,
            difference=image.against_whole.difference,
            stderr=image.against_whole.stderr,
            largest_loss=image.against_whole.largest_loss(image.accuracy.images),
            source="trained" if trained else "decoded images",
            images=image.accuracy.images,
            part=image.part,
        ),
    )
