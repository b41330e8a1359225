"""A model in segments: planned for a small memory, exported, and run one after the other with the model's answers."""

import json

import pytest

from isplit.plan import special_rows
from isplit.records import BundleRecord, PlanRecord
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.device import SEGMENTED
from isplit.runtime.profile.memory import measure_memory

RUNTIME_BYTES = 71_000_000
# The small model's largest step needs 12,288 bytes of activations beside its weights, and the whole model some more.
LIMIT_BYTES = RUNTIME_BYTES + 19_500


@pytest.fixture
def segmented(isplit, study, tmp_path):
    """A bundle of segments of the small model, and what the export printed."""
    planned = isplit("plan", study, "--max-device-memory", f"{LIMIT_BYTES}B")
    assert 0 == planned.code, planned.err
    bundle = tmp_path / "segments"
    result = isplit("export", study, "--segments", "--allow-code", "-o", bundle)
    assert 0 == result.code, result.err
    return bundle, result


def test_segments_answer_as_the_whole_model(isplit, segmented, study, tiny_data):
    """Each image gets the answer of the whole model, from files that were loaded one after the other."""
    bundle, exported = segmented
    record = BundleRecord.load(bundle)
    plan = PlanRecord.load(study)
    (placement,) = [placement for placement in plan.placements if placement.kind == "segmented"]
    assert len(placement.segments) > 1
    assert [part.end for part in placement.segments[:-1]] == list(record.segmented.bounds)
    assert record.check.top1_changed == 0
    assert f"{len(record.segmented.files)} segments" in exported.out
    whole = bundle.parent / "whole"
    assert 0 == isplit("predict", study, "--bytes", "64", "--images", "6", "--allow-code", "-q").code
    assert 0 == isplit("export", study, "--cut", "pool2", "--allow-code", "-o", whole, "-q").code
    pictures = tiny_data / "test"
    answers = [
        [json.loads(line) for line in isplit("run", place, pictures, "--placement", name, "--json").out.splitlines()]
        for place, name in ((bundle, "segmented"), (whole, "local"))
    ]
    expected = [(answer["image"], answer["class_name"]) for answer in answers[1]]
    assert 24 == len(expected)
    assert expected == [(answer["image"], answer["class_name"]) for answer in answers[0]]


def test_memory_is_measured_in_a_process_of_its_own(segmented):
    """The peak of a process that runs the segments is known, and above what it had before."""
    memory = measure_memory(segmented[0], SEGMENTED, threads=1, provider="cpu")
    assert memory.peak_bytes >= memory.baseline_bytes > 0


def test_segments_are_the_default_of_such_a_bundle(isplit, segmented, tiny_data):
    """Without --placement the device runs what the bundle has."""
    picture = next((tiny_data / "test" / "bars").iterdir())
    result = isplit("run", segmented[0], picture, "--json")
    assert (0, "segmented") == (result.code, json.loads(result.out)["placement"])


def test_a_missing_segment_is_refused(segmented):
    """The manifest vouches for every segment."""
    from isplit.errors import BundleError

    bundle, _ = segmented
    (bundle / BundleRecord.load(bundle).segmented.files[0]).unlink()
    with pytest.raises(BundleError, match="segment-01"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("plan", "options", "words"),
    [
        ([], ["--segments"], ["no plan", "--max-device-memory"]),
        (["--device", "pi4"], ["--segments"], ["no limit", "--max-device-memory"]),
        (["--max-device-memory", "1GB"], ["--segments"], ["whole model fits"]),
        (["--max-device-memory", "71MB"], ["--segments"], ["does not"]),
        ([], ["--segments", "--cut", "pool2"], ["--segments", "pool2"]),
    ],
)
def test_bad_input(isplit, bad_input, study, tmp_path, plan, options, words):
    """No plan, no limit, a limit that divides nothing, or two kinds of bundle end with a reason."""
    if plan:
        isplit("plan", study, *plan, "-q")
    bad_input("export", study, *options, "-o", tmp_path / "b", says=words)
    assert special_rows.RUNTIME_BYTES == RUNTIME_BYTES
