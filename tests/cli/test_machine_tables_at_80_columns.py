"""What is printed about machines, links, plans and bundles fits 80 columns, whatever names and numbers it holds."""

from types import SimpleNamespace

from isplit.cli.auto import _show as show_auto
from isplit.cli.bench import show_runs
from isplit.cli.demo import _LinkPlan, _show_checks, _show_plans
from isplit.cli.export import show_bundle
from isplit.cli.plan import show_plan
from isplit.cli.probe import show_link
from isplit.cli.profile import show_profile
from isplit.plan.links import load_link
from isplit.plan.planner import plan
from isplit.records import (
    Accuracy,
    BundleRecord,
    ClassGroup,
    CutPlacement,
    ExportCheck,
    ImageSetting,
    LocalPlacement,
    ModelPartTime,
    PlacementRun,
    ProbeDetails,
    ProfileRecord,
    RemotePlacement,
    RunsRecord,
    StudyRecord,
    TimeFigure,
)
from tests.cli.table_cells import ACCURACY, NAME, OTHER, PAYLOAD, columns_of, trained_split
from tests.plan.conftest import write_study

CHECK = ExportCheck.model_construct(logits_difference_max=1.2e-5, latents_different_share=0.01234, classes_answered=9)


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
        study=SimpleNamespace(directory=study, record=StudyRecord.load(study)),
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
