"""isplit.profile of a study: segments of the whole model, a few heads, and what follows for all the others."""

import json

import numpy as np
import pytest

import isplit
from isplit.plan.compute import ModelShape, machine_times
from isplit.records import GraphRecord, ProfileRecord, TimeFigure
from isplit.runtime.profile.measure import PartTimes
from isplit.runtime.profile.parts import PartKey
from isplit.workflows.profile_study import FEWEST_CUTS, HEADS_RUN, choose_heads, fit_correction, profile_study

QUICK = ("--runs", 6, "--no-memory", "--no-energy")

DEEP = """
from torch import nn

def build(num_classes=3):
    layers, width = [], 3
    for wider in (8, 8, 8, 12, 12, 12, 12, 12, 12, 12, 16, 16, 16, 16, 16, 16):
        layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()]
        width = wider
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    net.preprocessing = {"image_size": (16, 16), "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    return net
"""


@pytest.fixture(scope="module")
def study(tiny_data, tmp_path_factory):
    """A study of a network with more cuts than whole heads are run."""
    directory = tmp_path_factory.mktemp("deep")
    (directory / "deep.py").write_text(DEEP)
    model = isplit.load_model(f"{directory / 'deep.py'}:build")
    settings = isplit.AnalyzeSettings(images=6, test_images=6)
    return isplit.analyze(model, tiny_data, out=directory / "study", settings=settings, announce=print)


@pytest.fixture(scope="module")
def profile_file(isplit, study):
    """The profile that the command wrote."""
    path = study.directory.with_name("here.json")
    result = isplit("profile", study.directory, "--allow-code", "-o", path, *QUICK)
    assert 0 == result.code, result.err
    assert "segments between cuts give the time of every other head" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines() if "head to" in line)
    return path


def test_segments_cover_the_model(study, profile_file):
    """Segments run from the image over every cut to the logits, each timed in every third of six rounds."""
    record = ProfileRecord.from_json(profile_file.read_bytes())
    cuts = [cut.name for cut in study.cuts()]

    assert [None, *cuts] == [segment.start for segment in record.segments]
    assert [*cuts, None] == [segment.end for segment in record.segments]
    assert all(segment.time.median_ms > 0 and segment.time.runs == 2 for segment in record.segments[:-1])
    assert len(cuts) > len(record.heads)
    assert {*record.correction.fitted_heads, *record.correction.checked_heads} == {head.end for head in record.heads}
    assert record.preprocess.median_ms > 0
    assert 21 == len(record.images)


def test_a_plan_calls_every_cut_measured(isplit, study, profile_file):
    """A plan with the profile takes the times of all cuts from it, those that were never run whole included."""
    record = ProfileRecord.from_json(profile_file.read_bytes())
    shape = ModelShape.from_graph(GraphRecord.load(study.directory))
    times = machine_times(record, shape, model_fingerprint=record.model_fingerprint)

    places = [shape.index(cut.name) for cut in study.cuts()]
    assert times.exact[places].all()
    assert (np.diff(times.prefix_ms[places]) >= 0).all()
    result = isplit("plan", study.directory, "--device", profile_file, "--link", "wifi", "--json")
    assert 0 == result.code, result.err
    assert "local" == json.loads(result.out)["answer"]["chosen"]


def test_every_head_on_demand(study):
    """With `every_head` all heads are run, and there are neither segments nor a correction."""
    settings = isplit.ProfileSettings(runs=5, warm_up_runs=0)

    record = profile_study(study, name="all", settings=settings, every_head=True)

    assert [cut.name for cut in study.cuts()] == [head.end for head in record.heads]
    assert ((), None) == (record.segments, record.correction)


def test_heads_are_spread_and_the_largest_output_is_fitted(study):
    """The first head and the one with the most output for its time are fitted, and one between others checks them."""
    shape = ModelShape.from_graph(study.graph_record)
    cuts = [cut.name for cut in study.cuts()]

    fitted, checked = choose_heads(shape, cuts)

    assert len(cuts) >= FEWEST_CUTS
    assert (HEADS_RUN - 1, 1) == (len(fitted), len(checked))
    assert not {*fitted} & {*checked}
    assert cuts[0] in fitted
    assert cuts[-1] not in (*fitted, *checked)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_cuts_have_few_heads(study, count):
    """Each head is chosen once where there are fewer cuts than heads are run, and one alone has none to check it."""
    shape = ModelShape.from_graph(study.graph_record)
    cuts = [cut.name for cut in study.cuts()][:count]

    fitted, checked = choose_heads(shape, cuts)

    assert (cuts, min(count - 1, 1)) == (sorted((*fitted, *checked), key=cuts.index), len(checked))


def test_correction_by_hand(study):
    """Heads that take twice their segments, 0.5 ms and 3 ms for each MB are found again, and the check has no error."""
    shape = ModelShape.from_graph(study.graph_record)
    cuts = [cut.name for cut in study.cuts()]
    fitted, checked = choose_heads(shape, cuts)
    segments_ms = np.linspace(0.1, 0.4, len(cuts) + 1)[:, None].repeat(5, axis=1)

    def figure(boundary: int) -> TimeFigure:
        sum_ms = float(segments_ms[: boundary + 1, 0].sum())
        place = shape.end if boundary == len(cuts) else shape.index(cuts[boundary])
        head_ms = 2 * sum_ms + 0.5 + 3 * float(shape.tensor_bytes[place]) / 1e6
        return TimeFigure(median_ms=head_ms, p95_ms=head_ms, runs=5)

    timed = PartTimes(times={PartKey(kind="head", cut=cut): figure(number) for number, cut in enumerate(cuts)})
    timed.times[PartKey(kind="whole")] = figure(len(cuts))

    correction = fit_correction(shape, cuts, timed, segments_ms, fitted=fitted, checked=checked)

    assert (2.0, 0.5, 3.0) == pytest.approx(
        (correction.factor, correction.offset_ms, correction.output_ms_per_mb), rel=1e-6
    )
    assert pytest.approx(0, abs=1e-6) == correction.max_error_share
