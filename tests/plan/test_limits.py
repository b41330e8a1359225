"""Limits from arguments and files: what is read, and what is refused with the name under which it was given."""

import pytest

from isplit.errors import InputError
from isplit.plan.limits import check_objective, make_limits, read_limits


def test_objectives_have_names():
    """Another name is refused with those that there are."""
    assert "p95-latency" == check_objective("p95-latency")
    with pytest.raises(InputError, match="latency, p95-latency, energy"):
        check_objective("speed")


def test_limits_from_yaml(tmp_path):
    """Keys are the names of limits, and the objective may stand among them."""
    path = tmp_path / "limits.yaml"
    path.write_text("max_latency_ms: 100\nhide_image: true\nobjective: energy\n")
    limits, objective = read_limits(path)
    assert (100.0, True, "energy") == (limits.max_latency_ms, limits.hide_image, objective)
    assert limits == make_limits({"max_latency_ms": 100, "hide_image": True, "min_accuracy": None}, where="x")


def test_memory_with_a_unit():
    """`max_device_memory` takes what the option takes; beside the bytes it is refused."""
    assert 150_000_000 == make_limits({"max_device_memory": "150MB"}, where="x").max_device_memory_bytes
    with pytest.raises(InputError, match="give only one of them"):
        make_limits({"max_device_memory": "150MB", "max_device_memory_bytes": 5}, where="x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("max_latency_ms: true", "max_latency_ms is True; give a number of milliseconds above 0"),
        ("max_latency_ms: soon", "max_latency_ms is 'soon'; give a number of milliseconds above 0"),
        ("max_latency_ms: 100ms", "max_latency_ms is '100ms'; give a number of milliseconds"),
        ("max_latency_ms: 1:30", "max_latency_ms is '1:30'; give a number of milliseconds"),
        ("max_accuracy_loss: 0.999999", "max_accuracy_loss is 0.999999, which excludes next to nothing; give a share"),
        ("max_latency_ms: [100]", "max_latency_ms is [100]; give a number"),
        ("max_latency_ms: .nan", "max_latency_ms is nan; give a number"),
        ("max_latency_ms: 1.0e+200", "max_latency_ms is 1e+200; give a number of milliseconds above 0, up to 1e+15"),
        ("max_latency_ms: 5\nmax_latency_ms: 500", "it gives max_latency_ms twice"),
        ("--max-latency-ms: 100", "--max-latency-ms is no limit; write max_latency_ms"),
        ("max-latency-ms: 100", "max-latency-ms is no limit; write max_latency_ms"),
        ("speed: 100", "speed is no limit; limits are max_latency_ms"),
        ("max_device_memory: 150", "max_device_memory is '150', a number without a unit"),
        ("max_device_memory_bytes: 1.5", "give a whole number of bytes above 0"),
        ("min_accuracy: 85", "min_accuracy is 85; give a share from 0 to 1: 85 % is 0.85"),
        ("max_device_mac_share: 0", "give a share above 0 and up to 1"),
        ("hide_image: maybe", "hide_image is 'maybe'; give true or false"),
        ("objective: [latency]", "objective is ['latency']; choose one of latency"),
        ("a: &x [1]\nb: *x", "it holds an alias"),
        ("max_latency_ms: !!map [100]", "expected a mapping node"),
        ("hide_image: !!bool maybe", "a value does not fit the tag in front of it"),
        ("max_latency_ms: !!timestamp soon", "a value does not fit the tag in front of it"),
        ("max_latency_ms: !!int ''", "a value does not fit the tag in front of it"),
        ("max_latency_ms: 50\nmax_p95_latency_ms: 20", "contradict each other"),
        ("min_accuracy: 0.5\nmax_accuracy_loss: 0.1", "give only one of them"),
        ("hide_image: true\nmax_device_mac_share: 0.0001", "leave one of them out"),
    ],
)
def test_files_that_are_refused(tmp_path, content, words):
    """The message names the file, the key, what it holds, and what to write instead."""
    path = tmp_path / "limits.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as refusal:
        read_limits(path)
    assert words in str(refusal.value)
    assert str(path) in str(refusal.value)
