"""The demo, whole: what the README opens with."""

import json


def test_demo(isplit, tmp_path):
    """Trains a network that reads digits, finds interior maxima of its curve, and leaves a report."""
    result = isplit("demo", "-o", tmp_path / "demo")

    assert 0 == result.code, result.err
    study = tmp_path / "demo" / "study"
    record = json.loads((study / "study.json").read_text())
    ranking = json.loads((study / "candidates.json").read_text())
    assert record["base_accuracy"]["low"] > 0.9
    assert [] == record["warnings"]
    assert ranking["note"] is None
    assert "importance-maximum" in ranking["candidates"][0]["found_by"]
    assert all(candidate["cut"] in result.out for candidate in ranking["candidates"])
    assert str(study / "report.html") in result.out
    assert (study / "report.html").stat().st_size > 1_000_000
