"""isplit simulate: a table of at most 80 columns, a record, and reasons for what cannot be simulated."""

import json
from pathlib import Path

import pytest

from isplit.plan.planner import plan
from isplit.plan.study_facts import load_facts
from isplit.records import SimulationRecord
from tests.plan.conftest import make_graph, make_predictions, make_study, plain_link, rates_profile


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A study with its plan."""
    study = tmp_path / "study"
    study.mkdir()
    make_study().save(study)
    make_graph().save(study)
    make_predictions().save(study)
    record = plan(
        load_facts(study), device=rates_profile("board", 10.0), server=rates_profile("cloud", 1000.0), link=plain_link()
    )
    record.save(study)
    return study


def test_a_table_of_eighty_columns(isplit, planned, monkeypatch):
    """The plan's answer, local and an image, with what was missed and what was busiest."""
    monkeypatch.setenv("COLUMNS", "80")
    result = isplit("simulate", planned, "--devices", "5", "--duration", "20s", "--deadline", "150ms")
    assert (0, "") == (result.code, result.err)
    assert max(len(line.rstrip()) for line in result.out.splitlines()) <= 80
    for words in ("middle @ 1024B", "local", "remote WebP q35", "missed", "estimated"):
        assert words in result.out


def test_the_record(isplit, planned, tmp_path):
    """--json prints what -o writes; options reach the scenario."""
    options = ["--placement", "local", "--arrivals", "periodic", "--period", "2s", "--duration", "1min", "--link", "3g"]
    options += ["--transport", "tcp", "--rto", "200ms", "--packet-bytes", "1010", "--separate-links", "--seed", "4"]
    result = isplit("simulate", planned, *options, "-o", tmp_path / "s.json", "--json")
    assert (0, "") == (result.code, result.err)
    record = SimulationRecord.from_json((tmp_path / "s.json").read_bytes())
    assert json.loads(result.out) == json.loads(record.to_json())
    scenario = record.scenario
    assert (30, "3g", 1010, 200.0) == (
        record.results[0].requests,
        scenario.link.name,
        scenario.packet_bytes,
        scenario.retransmission_timeout_ms,
    )
    assert not scenario.shared_uplink


def test_controllers_over_a_trace(isplit, planned, tmp_path):
    """Which placements were used, and how often it switched, is said below the table."""
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,bits_per_s,rtt_ms,loss\n0,50e6,20,0\n10,20e3,20,0\n")
    times = tmp_path / "times.txt"
    times.write_text("\n".join(str(second / 2) for second in range(120)))
    result = isplit("simulate", planned, "--trace", trace, "--controller", "oracle", "--arrivals", times)
    assert (0, "") == (result.code, result.err)
    assert "switches" in result.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--devices", "0"], "at least one device"),
        (["--arrivals", "sometimes"], "--arrivals is 'sometimes'"),
        (["--period", "5"], "without a unit"),
        (["--duration", "0s"], "duration"),
        (["--transport", "quic"], "tcp or udp"),
        (["--controller", "clever"], "static, oracle or adaptive"),
        (["--controller", "oracle"], "give a trace"),
        (["--rto", "0ms"], "--rto is 0"),
        (["--packet-bytes", "20"], "68 to 65,535"),
        (["--engine", "ns2"], "isplit or ns3"),
        (["--placement", "nowhere"], "no placement 'nowhere'"),
        (["--link", "12MB"], "--link"),
        (["--trace", "none.csv"], "cannot read the trace"),
    ],
)
def test_bad_input(isplit, planned, options, words):
    """One line that says what was got and what to do."""
    result = isplit("simulate", planned, *options)
    assert (2, "") == (result.code, result.out)
    assert words in result.err


def test_without_a_plan(isplit, tmp_path):
    """The message names the command that makes one."""
    result = isplit("simulate", tmp_path)
    assert 2 == result.code
    assert "`isplit plan` writes such a file" in result.err
