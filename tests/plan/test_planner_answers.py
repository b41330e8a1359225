"""Which placement a plan recommends, under which limits, and how it says why."""

from pathlib import Path

import pytest

from isplit.errors import InputError
from isplit.plan.evaluate import Load
from isplit.plan.planner import PlanSettings, plan
from isplit.plan.study_facts import StudyFacts, load_facts
from isplit.records import (
    Limits,
    ProfileRecord,
)
from tests.plan.conftest import by_hand, make_predictions, plain_link, rates_profile


def test_the_answer_is_the_fastest_that_keeps_the_accuracy(
    facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord
):
    """Within two points, `middle` at 1,024 B is faster than local; it is untrained, so its training is advised."""
    answer = by_hand(facts, board, cloud, limits=Limits(max_accuracy_loss=0.02)).answer
    assert ("middle @ 1024B", True, True) == (answer.chosen, answer.worth_splitting, answer.estimated)
    assert answer.train is not None
    assert f"isplit fit {facts.directory} --cut middle --bytes 1024" == answer.train.command
    for words in ("split after middle at 1024 B", "On the device alone: 110 ms", "Sending WebP q80", "estimated"):
        assert words in answer.text


def test_a_split_that_leaves_the_server_little_is_never_recommended(facts: StudyFacts, cloud: ProfileRecord):
    """Of the splits only `last` loses at most 0.1 points; it leaves the server 5 %, so the answer is another."""
    slow = rates_profile("slow", 0.05)
    record = plan(facts, device=slow, server=cloud, link=plain_link(1e5), limits={"max_accuracy_loss": 0.001})
    last = record.placement("last @ 256B")
    assert (False, False) == (last.worth_considering, record.answer.worth_splitting)
    assert record.answer.chosen is not None
    assert not record.answer.chosen.startswith("last")


def test_a_loss_is_judged_by_its_bound(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """`middle` loses 0.5 points on 1,000 images, but more than 0.9 are not excluded."""
    record = by_hand(facts, board, cloud, limits=Limits(max_accuracy_loss=0.009))
    accuracy = record.placement("middle @ 1024B").accuracy
    assert accuracy is not None
    assert accuracy.largest_loss is not None
    assert accuracy.difference is not None
    assert -accuracy.difference < 0.009 < accuracy.largest_loss < 0.02
    assert accuracy.judged_loss == accuracy.largest_loss
    assert ("max_accuracy_loss",) == record.placement("middle @ 1024B").violates
    assert "local" == record.answer.chosen
    assert "loses 0.5 points untrained, but 1,000 images cannot tell whether it stays within 0.9" in record.answer.text


def test_a_predicted_loss_is_judged_by_the_end_of_its_interval(study: Path, board: ProfileRecord, cloud: ProfileRecord):
    """`middle` is predicted to lose 0.5 points of 85.0; its 90 % interval goes down to 82.0, so 3 are not excluded."""
    rows = [
        row.model_copy(update={"predicted_accuracy": 0.845, "predicted_low": 0.82, "predicted_high": 0.85})
        if (row.cut, row.budget.payload_bytes) == ("middle", 1024)
        else row
        for row in make_predictions().predictions
    ]
    make_predictions().model_copy(update={"predictions": tuple(rows)}).save(study)
    strict, lenient = (
        by_hand(load_facts(study), board, cloud, limits=Limits(max_accuracy_loss=loss)) for loss in (0.009, 0.035)
    )
    accuracy = strict.placement("middle @ 1024B").accuracy
    assert accuracy is not None
    assert ("predicted", pytest.approx(0.03)) == (accuracy.source, accuracy.judged_loss)
    assert ("max_accuracy_loss",) == strict.placement("middle @ 1024B").violates
    assert () == lenient.placement("middle @ 1024B").violates
    assert (
        "is predicted to lose 0.5 points, but the prediction cannot tell whether it stays within 0.9 (at most 3.0 with "
        "95 % confidence)"
    ) in strict.answer.text


def test_switching_points(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """At low rates the device alone is fastest; the rate found is where both take the same time, to 1 %."""
    limits = Limits(max_accuracy_loss=0.02)
    record = by_hand(facts, board, cloud, limits=limits)
    first, second, *_ = record.answer.switching
    assert ("local", 1e3) == (first.placement, first.from_bits_per_s)
    assert second.placement.startswith(("middle", "late"))
    rate = second.from_bits_per_s
    at_switch = plan(facts, device=board, server=cloud, link=plain_link(rate), limits=limits)
    split, local = at_switch.placement(second.placement), at_switch.placement("local")
    assert split.latency_ms == pytest.approx(local.latency_ms, rel=0.01)
    assert "elow" in record.answer.text


def test_impossible_limits_say_what_excludes_what(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """No placement takes 20 ms; the answer says how many that excludes and which comes closest."""
    record = by_hand(facts, board, cloud, limits=Limits(max_latency_ms=20))
    answer = record.answer
    assert (None, False) == (answer.chosen, answer.worth_splitting)
    assert answer.nearest is not None
    latency = next(entry for entry in answer.excluded_by if entry.limit == "max_latency_ms")
    assert (11, 20.0) == (latency.excludes + 2, latency.limit_value)  # the two `last` are never considered
    assert "no placement keeps the limits" in answer.text
    assert "A latency of at most 20 ms excludes 9 of 9 placements" in answer.text
    assert "A loss of at most 1.0 points (the default) excludes" in answer.text
    nearest = record.placement(answer.nearest)
    assert ("max_latency_ms", "max_accuracy_loss") == nearest.violates
    assert nearest.accuracy is not None
    assert nearest.accuracy.judged_loss is not None
    latency, loss = f"{nearest.latency_ms:.3g} ms", f"{100 * nearest.accuracy.judged_loss:.1f} points"
    broken = (
        f"the latency ({latency} instead of at most 20 ms) and the accuracy ({loss} instead of at most 1.0 points)."
    )
    assert f"It breaks the limit on {broken}" in answer.text


def test_the_figure_of_the_objective_is_in_the_answer(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Images per second or millijoules stand beside the latency where they decide, and only there."""
    for objective, unit in (("throughput", "images per second"), ("energy", "mJ")):
        record = by_hand(facts, board, cloud, settings=PlanSettings(objective=objective))  # pyright: ignore[reportArgumentType]
        assert record.answer.chosen is not None
        best = record.placement(record.answer.chosen)
        value = best.throughput.images_per_s if objective == "throughput" else best.device_energy_mj
        assert f"), {value:,.3g} {unit}, " in record.answer.text
        alternative = record.answer.text.split("worth it here. ")[1].split(". ")[0]
        assert unit in alternative
    assert "images per second" not in by_hand(facts, board, cloud).answer.text


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_latency_ms": 50, "max_p95_latency_ms": 40}, "contradict"),
        ({"min_accuracy": 0.8, "max_accuracy_loss": 0.1}, "give only one of them"),
        ({"max_latency_ms": 0}, "max_latency_ms is 0; give a number of milliseconds above 0"),
        ({"max_latency_ms": float("nan")}, "max_latency_ms"),
        ({"max_speed": 3}, "max_speed"),
        ({"min_accuracy": 80}, "give a share from 0 to 1"),
    ],
)
def test_limits_that_cannot_be_are_refused(facts: StudyFacts, limits: dict[str, float], words: str):
    """Contradictions, values that make no sense, and unknown names."""
    with pytest.raises(InputError, match=words):
        plan(facts, device="pi4", server="pi5", link="4g", limits=limits)


def test_what_the_server_may_see(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Hidden images exclude sending them; hidden answers leave local and placements that end on the device."""
    fast = plain_link(1e9)
    hidden = plan(facts, device=board, server=cloud, link=fast, limits={"hide_image": True})
    assert "hide_image" in hidden.placement("remote WebP q80").violates
    answers = plan(facts, device=board, server=cloud, link=fast, limits={"hide_answer": True, "max_accuracy_loss": 0.1})
    middle = [placement for placement in answers.placements if placement.kind == "middle"]
    assert all("hide_answer" in answers.placement(name).violates for name in ("middle @ 256B", "remote WebP q80"))
    assert middle
    assert not any("hide_answer" in placement.violates for placement in middle)
    assert {"combined"} == {placement.accuracy.source for placement in middle if placement.accuracy}


def test_overload_is_a_limit(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Two thousand requests a second are more than a server of 1 ms for an image can serve."""
    settings = PlanSettings(load=Load(arrivals_per_s=2000.0))
    record = plan(facts, device=board, server=cloud, link=plain_link(), settings=settings)
    assert "capacity" in record.placement("remote WebP q80").violates
    assert "capacity" not in record.placement("local").violates


def test_a_link_slower_than_every_switching_point(facts: StudyFacts):
    """At one bit a second the device computes alone, and the answer says from which rate on it need not."""
    record = plan(facts, device="pi4", server="pi5", link="1bit/s,20ms")
    assert "local" == record.answer.chosen
    assert "Above" in record.answer.text


def test_the_broken_limit_is_named(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """An alternative that breaks a limit says which; large numbers are written out."""
    record = by_hand(facts, board, cloud, limits={"max_bytes_per_day": 10})
    assert "(breaks the limit on the bytes of a day)" in record.answer.text
    record = by_hand(facts, board, cloud, limits={"min_images_per_s": 1_000_000})
    assert "At least 1,000,000 images per second excludes" in record.answer.text
