"""An invented study of four cuts, written as records, for plans whose numbers can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from isplit.plan.planner import plan
from isplit.plan.study_facts import StudyFacts, load_facts
from isplit.records import (
    Accuracy,
    Budget,
    ClassGroup,
    ComputeRates,
    Crossing,
    Cut,
    DataSource,
    GraphRecord,
    LinkRecord,
    Machine,
    Measurement,
    ModelSource,
    Paired,
    PayloadBytes,
    PlanRecord,
    Power,
    Prediction,
    PredictionsRecord,
    Preprocessing,
    ProfileRecord,
    RemoteImage,
    StudyRecord,
)

MACS = 1_000_000_000
PARAMETERS = 10_000_000
# Name, elements, share of MACs and of parameters before it, and the loss of its split in points at 256 and 1024 B.
CUTS: tuple[tuple[str, int, float, float, float, float], ...] = (
    ("early", 64_000, 0.05, 0.02, 9.0, 4.0),
    ("middle", 32_000, 0.30, 0.10, 2.0, 0.5),
    ("late", 16_000, 0.60, 0.40, 0.8, 0.2),
    ("last", 4_000, 0.95, 0.70, 0.1, 0.0),
)
IMAGES = 1000


def whole() -> Accuracy:
    return Accuracy.from_counts(850, IMAGES)


def paired(loss_points: float) -> Paired:
    wrong = round(loss_points / 100 * IMAGES)
    return Paired(only_first=wrong + 10, only_second=10, difference=-wrong / IMAGES, stderr=0.004)


def measurement(loss_points: float, *, payload: float, elements: int, head_share: float) -> Measurement:
    right = 850 - round(loss_points / 100 * IMAGES)
    return Measurement(
        part="select",
        accuracy=Accuracy.from_counts(right, IMAGES),
        whole=whole(),
        against_whole=paired(loss_points),
        per_class={},
        payload_bytes=PayloadBytes(mean=payload, p95=payload * 1.1, max=int(payload * 1.5), images=IMAGES),
        elements=elements,
        clipped_share=0.0,
        encoder_macs=1_000_000,
        encoder_parameters=1000,
        decoder_macs=1_000_000,
        decoder_parameters=1000,
        head_macs=int(head_share * MACS) + 1_000_000,
        head_mac_share=head_share + 0.001,
    )


def make_graph() -> GraphRecord:
    cuts = tuple(
        Cut(
            name=name,
            depth=depth,
            kind="default",
            op="relu",
            crossing=(Crossing(name=name, shape=(elements,), dtype="float32", bytes=4 * elements),),
            bytes=4 * elements,
            channel_axis=1,
            head_macs=int(share * MACS),
            tail_macs=MACS - int(share * MACS),
            head_parameters=int(parameters * PARAMETERS),
            tail_parameters=PARAMETERS - int(parameters * PARAMETERS),
            head_peak_bytes=1_000_000,
            tail_peak_bytes=500_000,
        )
        for depth, (name, elements, share, parameters, *_) in enumerate(CUTS, start=1)
    )
    return GraphRecord(
        captured_by="torch.fx",
        input_shape=(3, 100, 100),
        input_bytes=120_000,
        output_shape=(10,),
        macs=MACS,
        parameters=PARAMETERS,
        uncounted=(),
        cuts=cuts,
        unavailable=(),
    )


def make_predictions() -> PredictionsRecord:
    predictions = [
        Prediction(
            cut=name,
            group="all classes",
            budget=Budget(payload_bytes=size),
            design="linear",
            cui=None,
            bytes=4 * elements,
            measurement=measurement(loss, payload=size - 6, elements=elements // 64, head_share=share),
        )
        for name, elements, share, _, *losses in CUTS
        for size, loss in zip((256, 1024), losses, strict=True)
    ]
    remote = [
        RemoteImage(
            format="webp",
            quality=quality,
            group="all classes",
            part="select",
            accuracy=Accuracy.from_counts(850 - 10 * loss, IMAGES),
            against_whole=paired(loss),
            payload_bytes=PayloadBytes(mean=size, p95=1.2 * size, max=2 * size, images=IMAGES),
        )
        for quality, size, loss in ((35, 1500, 3), (80, 4000, 0))
    ]
    return PredictionsRecord(
        calibration=None,
        statistics_images=640,
        images=IMAGES,
        seconds=1.0,
        predictions=tuple(predictions),
        remote=tuple(remote),
    )


def make_study() -> StudyRecord:
    names = ("cat", "dog")
    return StudyRecord(
        isplit_version="0",
        versions={},
        model=ModelSource(
            spec="torchvision:invented",
            weights=None,
            weights_sha256=None,
            fingerprint="a" * 64,
            num_outputs=10,
            parameters=PARAMETERS,
        ),
        data=DataSource(
            spec="folder",
            split=None,
            sha256="b" * 64,
            classes=names,
            class_titles=names,
            class_outputs=(0, 1),
            part_images={"fit": 100, "select": IMAGES, "test": IMAGES},
            part_rule="invented",
        ),
        preprocessing=Preprocessing(
            image_size=(100, 100), resize_size=None, interpolation="bilinear", channels=3, mean=(0.5,), std=(0.5,)
        ),
        graph_sha256="c" * 64,
        groups=(ClassGroup(name="all classes", classes=names, members=(("cat",), ("dog",))),),
        seed=0,
        base_accuracy=whole(),
        chance_accuracy=0.1,
    )


def write_study(directory: Path) -> Path:
    """Write the records of the invented study into a new directory."""
    directory.mkdir()
    for record in (make_study(), make_graph(), make_predictions()):
        record.save(directory)
    return directory


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


@pytest.fixture
def facts(study: Path) -> StudyFacts:
    return load_facts(study)


def rates_profile(name: str, gmacs_per_s: float, **changes: object) -> ProfileRecord:
    """A machine limited by its operations alone, without the cost of a call or any spread."""
    rates = ComputeRates(
        macs_per_s=gmacs_per_s * 1e9,
        memory_bytes_per_s=1e15,
        pixels_per_s=1e6,
        symbols_per_s=1e6,
        load_bytes_per_s=1e8,
        overhead_ms=0.0,
        spread=1.0,
    )
    base = ProfileRecord(
        isplit_version="0",
        name=name,
        title=name,
        source="estimated",
        machine=Machine(processor="x", architecture="x", system="x"),
        power=Power(meter="stated", active_w=5.0, idle_w=1.0),
        rates=rates,
    )
    return base.model_copy(update=changes)


@pytest.fixture
def board() -> ProfileRecord:
    """10 GMAC/s: the whole model takes 100 ms."""
    return rates_profile("board", 10.0)


@pytest.fixture
def cloud() -> ProfileRecord:
    """1,000 GMAC/s: the whole model takes 1 ms."""
    return rates_profile("cloud", 1000.0)


def plain_link(bits_per_s: float = 1e6, *, rtt_ms: float = 20.0, **changes: object) -> LinkRecord:
    fields = {
        "name": "test",
        "title": "a test link",
        "source": "estimated",
        "up_bits_per_s": bits_per_s,
        "down_bits_per_s": bits_per_s,
        "rtt_ms": rtt_ms,
        **changes,
    }
    return LinkRecord.model_validate(fields)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def by_hand(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord, **kwargs: object) -> PlanRecord:
    """Return a plan over a link without losses, whose numbers can be worked out by hand."""
    return plan(facts, device=board, server=cloud, link=plain_link(), **kwargs)  # type: ignore[arg-type]
