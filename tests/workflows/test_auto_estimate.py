"""isplit.workflows.auto_estimate: seconds from a timed batch and numbers of images; what is done costs nothing."""

import pytest

from isplit.design.measure.speed import ModelSpeed
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.records import Budget
from isplit.text import duration
from isplit.workflows.auto_estimate import TimeEstimate, estimate_time
from tests.plan.conftest import make_graph, make_predictions

IMAGES = {"fit": 1000, "select": 200, "test": 300}


def graph():
    """The graph of the planner's tests, whose tensors get positions: a curve has only cuts with some."""
    record = make_graph()
    cuts = [
        cut.model_copy(
            update={"crossing": tuple(part.model_copy(update={"shape": (8, 4, 4)}) for part in cut.crossing)}
        )
        for cut in record.cuts
    ]
    return record.model_copy(update={"cuts": tuple(cuts)})


def estimate(study, *, forward_s=0.01, epochs=3, budgets=2):
    return estimate_time(
        ModelSpeed(forward_s=forward_s, gradient_s=3 * forward_s),
        graph(),
        product_s=0.01,
        images=IMAGES,
        budgets=[Budget(payload_bytes=256 * (number + 1)) for number in range(budgets)],
        settings=(AnalyzeSettings(), PredictSettings(), FitSettings(epochs=epochs)),
        most_trainings=3,
        study=study,
    )


def test_a_slower_model_takes_longer(tmp_path):
    """Ten times the time for an image is about ten times the time of every phase that runs the model."""
    fast, slow = estimate(tmp_path), estimate(tmp_path, forward_s=0.1)
    for name in ("analyze_s", "predict_s", "training_s"):
        assert 5 < getattr(slow, name) / getattr(fast, name) <= 10


def test_analysis_counts_curve_and_test_images(tmp_path):
    """1,000 images with gradients of 30 ms and 300 test images of 10 ms, beside the start."""
    assert pytest.approx(3.0 + 30.0 + 3.0) == estimate(tmp_path).analyze_s


def test_training_by_hand(tmp_path):
    """Features, three epochs, the judgements before and after them, the test, and the start, each from its images."""
    graph_record = graph()
    tails = [cut.tail_macs / graph_record.macs for cut in graph_record.curve_cuts]
    tail = (sum(tails) / len(tails) + max(tails)) / 2
    features, epoch = 1200 * 0.01, tail * (1000 * 1.5 * 0.03 + 200 * 0.01)
    tested = (300 * (1 + tail) + 200 * (1 + 2 * tail)) * 0.01
    assert pytest.approx(3.0 + features + 3 * epoch + tested) == estimate(tmp_path).training_s


def test_more_budgets_and_epochs_take_longer(tmp_path):
    """Each budget is measured at each cut, and each epoch sees all images."""
    assert estimate(tmp_path, budgets=4).predict_s > estimate(tmp_path).predict_s
    assert estimate(tmp_path, epochs=6).training_s > estimate(tmp_path).training_s


def test_what_is_done_costs_nothing(tmp_path):
    """A study that was analysed and partly predicted leaves less to do."""
    before = estimate(tmp_path)
    (tmp_path / "candidates.json").write_text("{}")
    make_predictions().save(tmp_path)
    for number in range(2):
        (tmp_path / "splits" / str(number)).mkdir(parents=True)
        (tmp_path / "splits" / str(number) / "split.json").write_text("{}")
    after = estimate(tmp_path)
    assert 0 == after.analyze_s
    assert after.predict_s < before.predict_s


def test_words():
    """One sentence with every phase, in durations that do not pretend to be exact."""
    text = TimeEstimate(analyze_s=36, predict_s=700, training_s=4, export_s=8, most_trainings=1).text
    assert (
        "Rough estimate of the time, which may be off by a factor of two: "
        "analyze about 35 s, predict about 12 min, export about 10 s, together about 12 min; "
        "where the plan asks for it, training of under 5 s." == text
    )
    assert "about 2 h" == duration(7000)
