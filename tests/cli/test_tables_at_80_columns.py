"""Every table of the command line in a terminal of 80 columns, with long names and numbers as wide as they come."""

import pytest
import typer

from isplit.cli.analyze import show_ranking
from isplit.cli.cuts import show_cuts
from isplit.cli.fit import describe
from isplit.cli.predict import show_predictions
from isplit.cli.verify import show_verification
from isplit.records import (
    Accuracy,
    Budget,
    Candidate,
    CandidatesRecord,
    Crossing,
    Cut,
    GraphRecord,
    Prediction,
    PredictionsRecord,
    PredictorScore,
    RemoteImage,
    Verification,
    VerifiedCut,
)
from tests.cli.table_cells import BUDGET, MEASUREMENT, NAME, OTHER, PAIRED, PAYLOAD, columns_of, trained_split


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
