"""Predictions, trained splits and a plan of the invented study, and their reports, as fixtures."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from isplit.plan.devices import load_device
from isplit.plan.planner import plan
from isplit.records import (
    Accuracy,
    BottleneckSpec,
    Budget,
    GraphRecord,
    Measurement,
    Paired,
    PayloadBytes,
    Prediction,
    PredictionsRecord,
    ProfileRecord,
    RemoteImage,
    SplitRecord,
    Training,
)
from isplit.report import write_report
from tests.report.invented_study import CUTS, TITLES

IMAGES = 200
WHOLE = 160  # of them answered by the whole model


def _measurement(correct: int, count_bytes: float, share: float, classes: tuple[str, ...], part: str) -> Measurement:
    """A split that is right on `correct` of 200 images, all of which the whole model, right on 160, knows too."""
    right = np.arange(IMAGES) < correct
    count = len(classes)
    per_class = {name: Accuracy.from_counts(correct // count - n, IMAGES // count) for n, name in enumerate(classes)}
    figures = "elements encoder_macs encoder_parameters decoder_macs decoder_parameters head_macs".split()
    return Measurement.model_validate(
        {
            "part": part,
            "accuracy": Accuracy.from_counts(correct, IMAGES),
            "whole": Accuracy.from_counts(WHOLE, IMAGES),
            "against_whole": Paired.from_answers(np.arange(IMAGES) < WHOLE, right),
            "per_class": per_class,
            "payload_bytes": PayloadBytes(
                mean=count_bytes, p95=count_bytes + 8, max=int(count_bytes) + 20, images=IMAGES
            ),
            "clipped_share": 0.0,
            "head_mac_share": share,
            **dict.fromkeys(figures, 10),
        }
    )


def _prediction(cut: str, group: str, budget: Budget, correct: int, count_bytes: float, share: float) -> Prediction:
    cui, size = next((cui, 4 * int(np.prod(shape))) for name, shape, cui, _ in CUTS if name == cut)
    classes = TITLES if group == "all classes" else TITLES[:2]
    return Prediction(
        cut=cut,
        group=group,
        budget=budget,
        design="linear",
        cui=cui,
        bytes=size,
        measurement=_measurement(correct, count_bytes, share, classes, "select"),
    )


SMALL, LARGE = Budget(payload_bytes=128), Budget(payload_bytes=512)


def _image(name: str, quality: int, correct: int, count_bytes: float) -> RemoteImage:
    return RemoteImage.model_validate(
        {
            "group": "all classes",
            "format": name,
            "quality": quality,
            "scale": 1.0 if quality > 20 else 0.5,
            "part": "select",
            "accuracy": Accuracy.from_counts(correct, IMAGES),
            "against_whole": Paired.from_answers(np.arange(IMAGES) < WHOLE, np.arange(IMAGES) < correct),
            "payload_bytes": PayloadBytes(mean=count_bytes, p95=count_bytes, max=int(count_bytes), images=IMAGES),
        }
    )


@pytest.fixture(scope="session")
def predictions() -> PredictionsRecord:
    """Three cuts at two budgets, a subset, and four image settings of which one is beaten."""
    rows = (
        _prediction("features.4", "all classes", SMALL, 100, 127.5, 0.2),
        _prediction("features.4", "all classes", LARGE, 159, 510.0, 0.25),
        _prediction("features.13", "all classes", SMALL, 150, 126.0, 0.45),
        _prediction("features.13", "all classes", LARGE, 160, 500.0, 0.5),
        _prediction("features.28", "all classes", SMALL, 158, 120.0, 0.8),
        _prediction("features.28", "all classes", LARGE, 158, 200.0, 0.8),
        _prediction("features.4", "animals", SMALL, 120, 100.0, 0.2),
    )
    images = (_image("jpeg", 90, 160, 900), _image("webp", 80, 158, 600), _image("jpeg", 50, 150, 700))
    return PredictionsRecord(
        calibration=None,
        statistics_images=400,
        images=IMAGES,
        seconds=1.0,
        predictions=rows,
        remote=(*images, _image("webp", 5, 90, 150)),
    )


@pytest.fixture(scope="session")
def trained() -> tuple[SplitRecord, ...]:
    """One trained split at features.13 with 128 bytes, where 150 right became 156."""
    training = Training(
        start="closed-form",
        trained=("bottleneck", "tail"),
        part="fit",
        images=400,
        epochs=5,
        best_epoch=3,
        seconds=60.0,
        settings={},
    )
    spec = BottleneckSpec(design="linear", shape=(128, 8, 8), channel_axis=1, ranks=(4,))
    record = SplitRecord(
        isplit_version="0.1.0",
        versions={},
        model="b" * 64,
        cut="features.13",
        group="all classes",
        budget=SMALL,
        bottleneck=spec,
        statistics_images=400,
        samples_per_dimension=20.0,
        shrinkage=1e-3,
        training=training,
        seed=0,
        measurement=_measurement(156, 125.0, 0.45, TITLES, "test"),
    )
    return (record,)


@pytest.fixture(scope="session")
def splits_directory(
    tmp_path_factory: pytest.TempPathFactory,
    study_directory: Path,
    predictions: PredictionsRecord,
    trained: tuple[SplitRecord, ...],
) -> Path:
    """The study with predictions and a trained split, an untrained one beside it, and its report."""
    directory = tmp_path_factory.mktemp("splits") / "study"
    shutil.copytree(study_directory, directory)
    predictions.save(directory)
    for name, record in (("a", trained[0]), ("b", trained[0].model_copy(update={"training": None}))):
        (directory / "splits" / name).mkdir(parents=True)
        record.save(directory / "splits" / name)
    write_report(directory)
    return directory


@pytest.fixture(scope="session")
def planned_study(tmp_path_factory: pytest.TempPathFactory, splits_directory: Path, graph: GraphRecord) -> Path:
    """The study with splits, of a network so large that it matters where it runs: a hundred times the operations."""
    directory = tmp_path_factory.mktemp("plan") / "study"
    shutil.copytree(splits_directory, directory)
    cuts = tuple(
        cut.model_copy(update={"head_macs": 100 * cut.head_macs, "tail_macs": 100 * cut.tail_macs})
        for cut in graph.cuts
    )
    graph.model_copy(update={"macs": 100 * graph.macs, "cuts": cuts}).save(directory)
    return directory


@pytest.fixture(scope="session")
def fast_server() -> ProfileRecord:
    """A machine fifty times as fast as a Raspberry Pi 5."""
    return load_device("pi5", name="--server").scaled(0.02, name="a fast server")


@pytest.fixture(scope="session")
def plan_directory(planned_study: Path, fast_server: ProfileRecord) -> Path:
    """That study with a plan from a Raspberry Pi 4 over 4G to a fast server, and its report."""
    limits = {"max_latency_ms": 2000, "max_accuracy_loss": 0.05}
    plan(planned_study, device="pi4", link="4g", server=fast_server, limits=limits).save(planned_study)
    write_report(planned_study)
    return planned_study
