"""Every table of the command line in a terminal of 80 columns, with long names and numbers as wide as they come."""

import re
from types import SimpleNamespace

import pytest
import typer

from isplit.cli.analyze import show_ranking
from isplit.cli.auto import _show as show_auto
from isplit.cli.bench import show_runs
from isplit.cli.cuts import show_cuts
from isplit.cli.demo import _LinkPlan, _show_checks, _show_plans
from isplit.cli.export import show_bundle
from isplit.cli.fit import describe
from isplit.cli.plan import show_plan
from isplit.cli.predict import show_predictions
from isplit.cli.probe import show_link
from isplit.cli.profile import show_profile
from isplit.cli.verify import show_verification
from isplit.plan.links import load_link
from isplit.plan.planner import plan
from isplit.records import (
    Accuracy,
    Budget,
    BundleRecord,
    Candidate,
    CandidatesRecord,
    ClassGroup,
    Crossing,
    Cut,
    CutPlacement,
    ExportCheck,
    GraphRecord,
    ImageSetting,
    LocalPlacement,
    Measurement,
    ModelPartTime,
    Paired,
    PayloadBytes,
    PlacementRun,
    Prediction,
    PredictionsRecord,
    PredictorScore,
    ProbeDetails,
    ProfileRecord,
    RemoteImage,
    RemotePlacement,
    RunsRecord,
    SplitRecord,
    TimeFigure,
    Training,
    Verification,
    VerifiedCut,
)
from tests.plan.conftest import write_study

NAME = "features.denseblock4.denselayer16.conv2"
OTHER = "layers.3.blocks.1.mlp.fc2:gelu_12"
ACCURACY = Accuracy.from_counts(4375, 5000)
PAIRED = Paired(only_first=900, only_second=11, difference=-0.1778, stderr=0.0123)
PAYLOAD = PayloadBytes(mean=123_456, p95=234_567, max=345_678, images=5000)
MEASURED = {
    "part": "test",
    "accuracy": ACCURACY,
    "whole": ACCURACY,
    "against_whole": PAIRED,
    "per_class": {},
    "payload_bytes": PAYLOAD,
    "elements": 10_000,
    "clipped_share": 0.0,
    **dict.fromkeys("encoder_macs encoder_parameters decoder_macs decoder_parameters head_macs".split(), 10**9),
    "head_mac_share": 1.0,
}
MEASUREMENT = Measurement.model_validate(MEASURED)
BUDGET = Budget(payload_bytes=1_048_576)
CHECK = ExportCheck.model_construct(logits_difference_max=1.2e-5, latents_different_share=0.01234, classes_answered=9)


@pytest.fixture
def printed(capsys, monkeypatch):
    """What a function prints at 80 columns, after a look that nothing is cut."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(function, *args, **options):
        function(*args, **options)
        text = capsys.readouterr().out
        assert "…" not in text
        # A command to copy stays in one line, however long.
        tables = [line for line in text.splitlines() if not line.startswith(("Report", "Note", "On the device:  "))]
        assert [] == [line for line in tables if len(line) > 80]
        return text

    return show


def columns_of(text):
    """The words of the first column, joined: a name that goes on in the next line is whole again."""
    return "".join(re.split(r"\s{2,}", line)[0] for line in text.splitlines())


def test_analyze(printed):
    """Ranked cuts with their rules."""
    candidates = tuple(
        Candidate(
            rank=rank,
            cut=cut,
            found_by=("importance-maximum", "natural-bottleneck", "size-minimum"),
            cui=1e-12,
            log10_cui=-12.34,
            settled=False,
            bytes=3_211_264,
            head_mac_share=1.0,
        )
        for rank, cut in ((1, NAME), (20, OTHER))
    )
    ranking = CandidatesRecord(
        method="gradient-activation", candidates=candidates, note=None, subsets=(), disagreement=None
    )

    text = printed(show_ranking, ranking, images=10_000)

    for words in ("10,000 images of the fit part", "-12.34", "3,136.0", "100%", "maximum", "(not settled)"):
        assert words in " ".join(text.split())


def predictions(calibration):
    split = {
        "group": "all classes",
        "design": "linear",
        "cui": 1.0,
        "bytes": 10,
        "measurement": MEASUREMENT.model_copy(update={"part": "select"}),
        "predicted_accuracy": 0.877 if calibration else None,
        "predicted_low": 0.754 if calibration else None,
        "predicted_high": 1.0 if calibration else None,
    }
    return PredictionsRecord(
        calibration=calibration,
        statistics_images=640,
        images=5000,
        seconds=1,
        predictions=tuple(
            Prediction(cut=cut, budget=budget, **split)
            for budget in (BUDGET, Budget(element_ratio=1024))
            for cut in (NAME, OTHER)
        ),
        remote=(
            RemoteImage(
                format="webp",
                quality=100,
                scale=0.75,
                group="all classes",
                part="select",
                accuracy=Accuracy.from_counts(175, 200),
                against_whole=PAIRED,
                payload_bytes=PAYLOAD.model_copy(update={"images": 200}),
            ),
        ),
    )


@pytest.mark.parametrize("calibration", [None, "two networks on tiny-imagenet-20 (66 splits)"])
def test_predict(printed, calibration):
    """Budget and bytes of every split; the images in a table of their own, which says how many they are."""
    record = predictions(calibration)
    text = printed(show_predictions, record, record.predictions, group="all classes")

    assert "Before any training, on 5,000 images of the select part" in text
    assert "1 of 1 JPEG/WebP settings is Pareto-optimal (200 images of the select part)" in text
    for words in ("1,048,576", "1in1024", "123,456", "87.5% (86.6–88.4)", "WebP quality 100, side × 0.75"):
        assert words in text
    assert ("87.7% (75–100)" in text) == bool(calibration)
    assert "234,567" not in text
    assert NAME in columns_of(text)


def test_predict_wide(capsys):
    """--wide adds the 95th percentile and the ranks, each row in one line."""
    record = predictions("some networks")
    show_predictions(record, record.predictions, group="all classes", wide=True)

    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(NAME))
    for words in ("1,048,576", "123,456", "234,567", "−17.8 ± 1.2", "87.7% (75–100)"):
        assert words in row


def test_cuts(printed):
    """What crosses, and the figures of both sides."""
    shape = (1024, 112, 112)
    cut = {
        "depth": 1,
        "kind": "other",
        "op": "conv2d",
        "crossing": tuple(Crossing(name=name, shape=shape, dtype="float32", bytes=51_380_224) for name in "ab"),
        "bytes": 102_760_448,
        "channel_axis": None,
        **dict.fromkeys("head_macs tail_macs head_parameters tail_parameters".split(), 138_357_544),
        **dict.fromkeys("head_peak_bytes tail_peak_bytes".split(), 2**30),
    }
    graph = GraphRecord(
        captured_by="torch.fx",
        input_shape=(3, 1024, 1024),
        input_bytes=12_582_912,
        output_shape=(1000,),
        macs=138_357_544,
        parameters=138_357_544,
        uncounted=(),
        cuts=(Cut(name=NAME, **cut), Cut(name=OTHER, **cut)),
        unavailable=(),
    )

    text = printed(show_cuts, graph)

    for words in ("100,352.0", "138M", "1024.00", "100%"):
        assert words in text


def trained_split() -> SplitRecord:
    """Return a split that was trained on many images for long."""
    training = Training(
        start="closed-form",
        trained=("encoder",),
        part="fit",
        images=100_000,
        epochs=100,
        best_epoch=99,
        seconds=123_456,
        settings={},
        before=MEASUREMENT,
    )
    return SplitRecord.model_construct(
        cut="layer2.3",
        budget=BUDGET,
        measurement=MEASUREMENT,
        training=training,
        bottleneck=SimpleNamespace(design="linear"),
    )


def test_fit(printed):
    """The lines of a trained split."""
    text = printed(lambda: typer.echo(describe(trained_split())))

    assert "on 5,000 images of the test part" in text
    assert "87.5% (86.6–88.4) before training, 87.5% (86.6–88.4) after it" in text


def test_verify(printed):
    """The cuts on the test part, and the rules; what was measured on the select part is not among them."""
    cut = {
        "cui": 1.0,
        "bytes": 9,
        "depth": 1,
        "closed_form": MEASUREMENT,
        "calibrated_accuracy": 0.9,
        "trained": MEASUREMENT,
    }
    scores = tuple(
        PredictorScore(
            predictor=name,
            cuts=20,
            kendall_tau=-0.12,
            top1=OTHER,
            top1_regret_points=12.3,
            top3_regret_points=10.1,
            mean_absolute_error_points=10.0,
        )
        for name in ("cui", "closed-form", "calibrated")
    )
    verification = Verification(
        group="all classes",
        budget=BUDGET,
        design="linear",
        cuts=(VerifiedCut(cut=NAME, **cut), VerifiedCut(cut=OTHER, **cut)),
        scores=scores,
        epochs=3,
        training_seconds=1,
    )

    text = printed(show_verification, verification)

    for words in ("on 5,000 images of the test part", "123,456", "−17.8 ± 1.2", "importance (CUI)", "−0.12", "12.3"):
        assert words in text
    assert "select part" not in text


def test_export(printed):
    """Placements, one table for each set of images."""
    remote = RemotePlacement.model_construct(
        recommended=ImageSetting(
            format="webp",
            quality=100,
            scale=0.75,
            accuracy=Accuracy.from_counts(175, 200),
            payload_bytes_mean=123_456,
            payload_bytes_p95=1,
        )
    )
    cut = CutPlacement.model_construct(
        name=NAME,
        accuracy=ACCURACY,
        payload_bytes_mean=123_456,
        head_mac_share=1.0,
        int8=True,
        check=CHECK,
        int8_cost=None,
    )
    record = BundleRecord.model_construct(
        name="bundle",
        files={},
        group=ClassGroup(name="all classes", classes=("a", "b"), members=(("a",), ("b",))),
        local=LocalPlacement.model_construct(accuracy=ACCURACY),
        remote=remote,
        cuts=(cut,),
        check=CHECK,
    )

    text = printed(show_bundle, record)

    assert text.index("Accuracy on 5,000 images") < text.index("Accuracy on 200 images")
    assert f"{NAME}(int8)" in columns_of(text).replace(" ", "")
    assert text.index("87.5% (82.2–91.4)") > text.index("Accuracy on 200 images")


def test_demo(printed, tmp_path):
    """What is best over each link, and predicted beside measured milliseconds."""
    study = write_study(tmp_path / "study")
    run = {
        "images": 60,
        "accuracy": Accuracy.from_counts(60, 60),
        "sources": {"split": 60},
        "payload_bytes": PAYLOAD,
        "total_median_ms": 12_345.6,
        "total_p95_ms": 123_456.7,
        "part_ms": {},
        "wire_up_bytes": 12_345.0,
        "predicted_ms": 12_345.6,
        "from_picture_median_ms": 12_346.7,
    }
    runs = RunsRecord(
        link="over a link", link_bits_per_s=None, shaping="proxy", runs=(PlacementRun(placement=NAME, **run),)
    )
    record = plan(study, device="pi4", server="pi5", link="nb-iot")
    entry = _LinkPlan(link=record.links[0], pi=record, here=record, runs=runs)

    text = printed(_show_plans, [entry])
    for words in ("estimated ms of an image", "NB-IoT", "<="):
        assert words in text
    text = printed(_show_checks, [entry])
    for words in ("links made by a proxy", "100.0% (94.0–100.0)", "12,345.6", "12,346.7"):
        assert words in text


def test_bench(printed):
    """Every figure of a placement over a link."""
    run = PlacementRun(
        placement=NAME,
        images=5000,
        accuracy=ACCURACY,
        sources={"split": 4990, "failed": 10},
        payload_bytes=PAYLOAD,
        total_median_ms=12_345.6,
        total_p95_ms=123_456.7,
        part_ms={"head": 1.0},
        wire_up_bytes=123_456.0,
        wire_down_bytes=12_345.0,
        device_cpu_ms=12_345.6,
        device_peak_bytes=2**33,
        predicted_ms=12_345.6,
        predicted_accuracy=0.8,
        from_picture_median_ms=12_346.7,
        from_picture_p95_ms=123_456.7,
    )
    text = printed(
        show_runs,
        RunsRecord(link="over 1 Mbit/s up, 1 Mbit/s down, 50 ms, made by a proxy", link_bits_per_s=None, runs=(run,)),
    )

    for words in ("123,456", "12345.6", "12346.7", "8590", "10 of 5000 images were not answered", "(-0%)"):
        assert words in " ".join(text.split())


def test_plan(printed, tmp_path):
    """Placements with long names, whether they are the answer or not."""
    study = write_study(tmp_path / "study")
    record = plan(study, device="pi4", server="pi5", link="lora")
    renamed = [
        placement.model_copy(update={"name": f"{NAME} @ 1048576B {number}"})
        for number, placement in enumerate(record.placements)
    ]

    text = printed(show_plan, record.model_copy(update={"placements": tuple(renamed)}), every=True)

    for words in (f"{len(renamed)} of {len(renamed)} placements, estimated", "B up", "acc. %"):
        assert words in text
    assert NAME in columns_of("\n".join(line.strip() for line in text.splitlines())).replace(" ", "")


def test_profile(printed):
    """The times of a model's parts at cuts with long names, of a bundle and of a study."""
    figure = TimeFigure(median_ms=123_456.78, p95_ms=234_567.89, runs=40)
    budget = "1048576B"
    record = ProfileRecord(
        isplit_version="0",
        name="board",
        title="A board with a long name",
        source="measured",
        model_fingerprint="f" * 64,
        whole=figure,
        preprocess=figure,
        request=figure,
        heads=(ModelPartTime(start=None, end=NAME, budget=budget, time=figure, weight_bytes=2**34),),
        tails=(ModelPartTime(start=OTHER, end=None, budget=budget, time=figure, weight_bytes=2**34),),
    )

    text = printed(show_profile, record)

    for words in ("123456.78", "234567.89", budget, "17179.9"):
        assert words in text
    assert f"headto{NAME}" in columns_of("\n".join(line.strip() for line in text.splitlines())).replace(" ", "")


def test_probe(printed):
    """The figures of a slow and a lossy link, and the sentence about the loss, which goes on in a second line."""
    details = ProbeDetails(
        server="192.168.100.200:8001",
        up_bytes=2**24,
        down_bytes=2**24,
        round_trips=1000,
        seconds=600.0,
        started_unix_s=1.7e9,
        loss_method="estimated from the retransmissions that the kernel counted on both sides of the connection",
    )
    link = load_link("123.4kbit/s:1.234Gbit/s,12345ms,12%", name="--link")

    text = printed(show_link, link.model_copy(update={"jitter_ms": 1234.56, "probe": details}))

    lines = text.splitlines()
    assert ["up 123 kbit/s, down 1.23 Gbit/s", "round trip 12345.00 ms, jitter 1234.56 ms, loss 12.00%"] == lines[:2]
    assert f"Loss: {details.loss_method}." == " ".join(" ".join(lines[2:]).split())
    assert len(lines) > 3


def test_auto(printed, tmp_path):
    """What was trained, the plan with long names, its answer, and the commands that serve and run it."""
    study = write_study(tmp_path / "study")
    record = plan(study, device="pi4", server="pi5", link="lora", limits={"max_latency_ms": 1})
    renamed = tuple(
        placement.model_copy(update={"name": f"{NAME} @ 1048576B {number}"})
        for number, placement in enumerate(record.placements)
    )
    result = SimpleNamespace(
        trained=(trained_split(),),
        plan=record.model_copy(update={"placements": renamed}),
        study=SimpleNamespace(directory=study),
        serve_command="isplit serve auto/bundle",
        run_command=f"isplit run auto/bundle IMAGES --server HOST:8001 --placement {NAME}",
        bundle=None,
    )

    text = printed(show_auto, result)

    assert record.answer.text in " ".join(text.split())
    assert "87.5% (86.6–88.4) after it" in text
    serve, run = text.splitlines()[-2:]
    assert ("On the server:  isplit serve auto/bundle", f"On the device:  {result.run_command}") == (serve, run)
    result.run_command = None
    assert printed(show_auto, result).splitlines()[-1].startswith("No bundle was written: loosen a limit")
