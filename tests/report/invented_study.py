"""A small invented study and its report, as fixtures."""

from pathlib import Path

import numpy as np
import pytest

from isplit.records import (
    Accuracy,
    Candidate,
    CandidatesRecord,
    ClassGroup,
    Crossing,
    CurvePoint,
    CurveRecord,
    Cut,
    DataSource,
    GraphRecord,
    ModelSource,
    Overlays,
    Preprocessing,
    Ranking,
    StudyRecord,
    SubsetCurve,
)
from isplit.report import write_report

CLASSES = ("n01", "n02", "n03", "n04")
TITLES = ("goldfish", "<b>&cat", "school bus", "espresso")
# (name, shape, CUI, its standard error); the last cut has no positions and is in the table only.
CUTS: tuple[tuple[str, tuple[int, ...], float | None, float | None], ...] = (
    ("features.1", (64, 32, 32), 2.0e-5, 4e-7),
    ("features.4", (64, 16, 16), 1.0e-4, 3e-6),
    ("features.7", (128, 16, 16), 4.0e-5, 1e-6),
    ("features.10", (128, 16, 16), 3.6e-5, 2e-5),
    ("features.13", (128, 8, 8), 1.6e-4, 5e-6),
    ("features.16", (256, 8, 8), 6.0e-5, 2e-6),
    ("features.19", (256, 8, 8), None, None),
    ("features.22:cat_2", (256, 4, 4), 7.0e-4, 2e-5),
    ("features.25", (512, 4, 4), 5.0e-4, 2e-5),
    ("features.28", (512, 4, 4), 5.1e-4, 3e-5),
    ("features.30", (512, 2, 2), 4.0e-4, 1e-5),
    ("classifier.1", (4096,), None, None),
)
FACTORS = (1.0, 0.5, 2.0, 0.8)
MACS = 120_000_000


def _crossing(name: str, shape: tuple[int, ...]) -> Crossing:
    return Crossing(name=name, shape=shape, dtype="float32", bytes=4 * int(np.prod(shape)))


Records = tuple[StudyRecord, GraphRecord, CurveRecord, CandidatesRecord]


@pytest.fixture
def records(study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> Records:
    """Hold the four records in the order in which they are drawn."""
    return study, graph, curve, candidates


@pytest.fixture(scope="session")
def graph() -> GraphRecord:
    """Twelve cuts of an invented VGG; every cut adds ten million MACs to the head."""
    cuts = tuple(
        Cut(
            name=name,
            depth=depth,
            kind="default",
            op="relu",
            crossing=(_crossing(name, shape),),
            bytes=4 * int(np.prod(shape)),
            channel_axis=1,
            head_macs=MACS // 12 * depth,
            tail_macs=MACS - MACS // 12 * depth,
            head_parameters=1000 * depth,
            tail_parameters=13_000 - 1000 * depth,
            head_peak_bytes=524_288,
            tail_peak_bytes=262_144,
        )
        for depth, (name, shape, _, _) in enumerate(CUTS, start=1)
    )
    return GraphRecord(
        captured_by="torch.fx",
        input_shape=(3, 32, 32),
        input_bytes=12_288,
        output_shape=(4,),
        macs=MACS,
        parameters=13_000,
        uncounted=(),
        cuts=cuts,
        unavailable=(),
    )


def _points(scale: float) -> tuple[CurvePoint, ...]:
    """Return the curve times `scale`; class k is FACTORS[k] times it, and class n02 peaks at features.4 alone."""
    points: list[CurvePoint] = []
    for name, _, cui, stderr in CUTS[:-1]:
        per_class = {c: None if cui is None else scale * cui * f for c, f in zip(CLASSES, FACTORS, strict=True)}
        if name == "features.4":
            per_class["n02"] = 2e-3
        points.append(
            CurvePoint(
                cut=name,
                cui=None if cui is None else scale * cui,
                stderr=stderr,
                step_stderr=stderr,
                image_mean=cui,
                per_class=per_class,
                per_class_stderr=dict.fromkeys(CLASSES, stderr),
                non_finite=3 if cui is None else 0,
            )
        )
    return tuple(points)


@pytest.fixture(scope="session")
def curve() -> CurveRecord:
    """CUI with a gap at features.19 and a band that drops out at features.10."""
    return CurveRecord(
        method="cui",
        target="correct",
        precision="fp32",
        images=400,
        images_per_class=dict.fromkeys(CLASSES, 100),
        stopped="all 400 images were taken",
        points=_points(1.0),
        subsets=(
            SubsetCurve(name="animals", classes=("n01", "n02"), images=40, points=_points(0.7)),
            SubsetCurve(name="things", classes=("n03", "n04"), images=40, points=_points(1.4)),
        ),
    )


def _candidate(rank: int, cut: str, found_by: tuple[str, ...], settled: bool | None, graph: GraphRecord) -> Candidate:
    cui = {name: value for name, _, value, _ in CUTS}[cut]
    return Candidate(
        rank=rank,
        cut=cut,
        found_by=found_by,  # pyright: ignore[reportArgumentType]
        cui=cui,
        log10_cui=None if cui is None else float(np.log10(cui)),
        settled=settled,
        bytes=graph.cut(cut).bytes,
        head_mac_share=graph.cut(cut).head_macs / graph.macs,
    )


@pytest.fixture(scope="session")
def candidates(graph: GraphRecord) -> CandidatesRecord:
    """Three maxima, the last one not settled, and one cut that only its size found."""
    first = _candidate(1, "features.13", ("importance-maximum", "size-minimum"), True, graph)
    second = _candidate(2, "features.4", ("importance-maximum",), True, graph)
    third = _candidate(3, "features.28", ("importance-maximum",), False, graph)
    size = _candidate(4, "features.30", ("natural-bottleneck",), None, graph)
    animals = Ranking(
        name="animals", classes=("n01", "n02"), candidates=(second.model_copy(update={"rank": 1}),), note=None
    )
    things = Ranking(
        name="things", classes=("n03", "n04"), candidates=(first, third.model_copy(update={"rank": 2})), note=None
    )
    return CandidatesRecord(
        method="cui",
        candidates=(first, second, third, size),
        note="features.28 is not settled: more images may move it.",
        subsets=(animals, things),
        disagreement="The subsets disagree: animals chooses features.4, things chooses features.13.",
    )


def _group(name: str, classes: tuple[str, ...]) -> ClassGroup:
    return ClassGroup(name=name, classes=classes, members=tuple((member,) for member in classes))


@pytest.fixture(scope="session")
def study() -> StudyRecord:
    """Where the invented study says it came from; one class title looks like HTML."""
    return StudyRecord(
        isplit_version="0.1.0",
        versions={"python": "3.11.2", "torch": "2.14.0"},
        model=ModelSource(
            spec="torchvision:vgg16",
            weights="trunk.safetensors",
            weights_sha256="a" * 64,
            fingerprint="b" * 64,
            num_outputs=4,
            parameters=13_000,
        ),
        data=DataSource(
            spec="tiny-imagenet-4.zip",
            split=None,
            sha256="c" * 64,
            classes=CLASSES,
            class_titles=TITLES,
            class_outputs=(0, 1, 2, 3),
            part_images={"fit": 400, "select": 100, "test": 100},
            part_rule="val is test; 100 images of train are select, seeded and stratified",
        ),
        graph_sha256="e" * 64,
        preprocessing=Preprocessing(
            image_size=(32, 32),
            resize_size=None,
            interpolation="bilinear",
            channels=3,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        groups=(
            _group("all classes", CLASSES),
            _group("animals", CLASSES[:2]),
            _group("things", CLASSES[2:]),
        ),
        seed=7,
        base_accuracy=Accuracy.from_counts(83, 100),
        chance_accuracy=0.25,
        warnings=("Only 100 images measure the base accuracy: its interval is wide.",),
    )


@pytest.fixture(scope="session")
def overlays() -> Overlays:
    """Three images with a bright square that moves, and maps that point at it, at three cuts."""
    rows, columns = np.mgrid[0:32, 0:32]
    images = np.stack([np.stack([(rows * 8), (columns * 8), (rows + columns) * 4], -1) for _ in range(3)])
    maps: dict[str, np.ndarray] = {"features.4": np.zeros((3, 16, 16), np.float32)}
    maps["features.13"] = np.zeros((3, 8, 8), np.float32)
    maps["features.28"] = np.zeros((3, 4, 4), np.float32)
    for index in range(3):
        images[index, 8 * index : 8 * index + 8, 8:16] = 240
        maps["features.4"][index, 4 * index : 4 * index + 4, 4:8] = 0.01
        maps["features.13"][index, 2 * index : 2 * index + 2, 2:4] = 0.02
        maps["features.28"][index, index, 1] = 0.5
    return Overlays(images=images.astype(np.uint8), titles=TITLES[:3], maps=maps)


@pytest.fixture(scope="session")
def study_directory(
    tmp_path_factory: pytest.TempPathFactory,
    study: StudyRecord,
    graph: GraphRecord,
    curve: CurveRecord,
    candidates: CandidatesRecord,
    overlays: Overlays,
) -> Path:
    """Write a study directory with every record, and the report that was written from it."""
    directory = tmp_path_factory.mktemp("study")
    for record in (study, graph, curve, candidates, overlays):
        record.save(directory)
    write_report(directory)
    return directory
