"""Traces of operators: read from the profiler's file, complete, and added up by segment."""

import json

import numpy as np
import pytest

from isplit.errors import BundleError, EngineError
from isplit.runtime.profile.trace import TracedModel, read_trace, sum_by_segment


def test_every_run_of_every_operator_is_timed(tiny, tmp_path):
    """A traced head gives the bundle's output, and one time of each operator for each run."""
    path = tiny.bundle.head_path("stage.1")
    size = tiny.bundle.record.preprocessing.image_size
    pixels = np.zeros((1, *size, tiny.bundle.record.preprocessing.channels), np.uint8)
    traced = TracedModel(path, tmp_path, threads=1)

    outputs = [traced.run(pixels) for _ in range(4)]
    times_ms = traced.finish()

    assert np.array_equal(outputs[0], outputs[3])
    assert times_ms
    assert {4} == {len(values) for values in times_ms.values()}
    assert traced.optimised.is_file()


def test_runs_that_the_file_lacks_are_left_out(tmp_path):
    """Only runs that are complete count; events that are no kernels do not."""
    events = [{"cat": "Node", "name": f"{name}_kernel_time", "dur": dur} for name, dur in (("a", 1000), ("b", 500))]
    events += [{"cat": "Session", "name": "model_run", "dur": 9}, events[0] | {"dur": 2000}]
    (tmp_path / "trace.json").write_text(json.dumps(events))

    times_ms = read_trace(tmp_path / "trace.json")

    assert {"a": [1.0], "b": [0.5]} == {name: values.tolist() for name, values in times_ms.items()}


def test_sums_of_segments():
    """Operators are added up by segment and run; one without a segment is left out and named."""
    operators_ms = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0]), "c": np.array([5.0, 6.0])}

    sums_ms, left_out = sum_by_segment(operators_ms, {"a": 0, "b": 2}, count=3)

    assert [[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]] == sums_ms.tolist()
    assert ("c",) == left_out


def test_files_and_inputs_that_do_not_fit(tiny, tmp_path):
    """A file that is no model, and pixels of another size, are errors of ours."""
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match="cannot load"):
        TracedModel(tmp_path / "no.onnx", tmp_path, threads=1)
    traced = TracedModel(tiny.bundle.head_path("stage.1"), tmp_path, threads=1)
    with pytest.raises(EngineError, match="cannot run"):
        traced.run(np.zeros((1, 2, 2, 1), np.uint8))
