"""A small invented study, its report, and a real browser to open it in."""

import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

from isplit.plan.devices import load_device
from isplit.plan.planner import plan
from isplit.records import (
    Accuracy,
    BottleneckSpec,
    Budget,
    Candidate,
    CandidatesRecord,
    ClassGroup,
    Crossing,
    CurvePoint,
    CurveRecord,
    Cut,
    DataSource,
    GraphRecord,
    Measurement,
    ModelSource,
    Overlays,
    Paired,
    PayloadBytes,
    Prediction,
    PredictionsRecord,
    Preprocessing,
    ProfileRecord,
    Ranking,
    RemoteImage,
    SplitRecord,
    StudyRecord,
    SubsetCurve,
    Training,
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium; CHROMIUM names the program where it is not on the path.

    For one module: while Playwright runs it has an event loop running in this thread, and no other can start in it.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium found: install it or set CHROMIUM to its path")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    arguments += ["--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        yield launched
        launched.close()


@contextmanager
def _opened(browser: Browser, directory: Path) -> Generator[tuple[Page, list[str]]]:
    """Open a report from its file without a network; whatever goes wrong in the page is kept as text."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []

    def keep_error(error: Error) -> None:
        complaints.append(f"page error: {error}")

    def keep_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"console: {message.text}")

    def keep_request(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            complaints.append(f"request: {request.url}")

    page.on("pageerror", keep_error)
    page.on("console", keep_message)
    page.on("request", keep_request)
    page.on("requestfailed", lambda request: complaints.append(f"failed request: {request.url[:200]}"))
    page.goto((directory / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page, complaints
    context.close()


@pytest.fixture(scope="module")
def opened_report(browser: Browser, study_directory: Path) -> Iterator[tuple[Page, list[str]]]:
    """Open the report of the study without splits, once."""
    with _opened(browser, study_directory) as opened:
        yield opened


@pytest.fixture(scope="module")
def opened_splits(browser: Browser, splits_directory: Path) -> Iterator[tuple[Page, list[str]]]:
    """Open the report of the study with splits, once."""
    with _opened(browser, splits_directory) as opened:
        yield opened


@pytest.fixture
def splits_page(opened_splits: tuple[Page, list[str]]) -> Iterator[Page]:
    """Hand out the report with splits; an error, a warning or a request fails the test."""
    page, complaints = opened_splits
    page.locator("#split-group").select_option(index=0)
    yield page
    assert not complaints


@pytest.fixture
def report_page(opened_report: tuple[Page, list[str]]) -> Iterator[Page]:
    """Hand out the open report as it first appears; an error, a warning or a request fails the test."""
    page, complaints = opened_report
    page.locator("#class-select").select_option(index=0)
    page.locator("input[name=heat][value=absolute]").check()
    page.locator("#candidates-only").uncheck()
    yield page
    assert not complaints
