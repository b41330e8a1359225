"""isplit simulate: a table of at most 80 columns, a record, and reasons for what cannot be simulated."""

import json
from pathlib import Path

import numpy as np
import pytest

from isplit.plan.planner import plan
from isplit.plan.study_facts import load_facts
from isplit.records import Limits, SimulationRecord
from tests.plan.conftest import plain_link, rates_profile, write_study


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A study with its plan."""
    study = write_study(tmp_path / "study")
    record = plan(
        load_facts(study),
        device=rates_profile("board", 10.0),
        server=rates_profile("cloud", 1000.0),
        link=plain_link(),
        limits=Limits(max_accuracy_loss=0.05),
    )
    record.save(study)
    return study


def test_a_table_of_eighty_columns(isplit, planned, monkeypatch):
    """The plan's answer, local and an image, with what was missed and what was busiest."""
    monkeypatch.setenv("COLUMNS", "80")
    result = isplit("simulate", planned, "--devices", "5", "--duration", "20s", "--deadline", "150ms")
    assert (0, "") == (result.code, result.err)
    assert max(len(line.rstrip()) for line in result.out.splitlines()) <= 80
    for words in ("middle @ 256B", "local", "remote WebP q35", "missed", "estimated"):
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
        (["--devices", "0"], "--devices is 0; give a number from 1 to 5,000,000"),
        (["--devices", "1000000"], "take fewer devices, a longer period or a shorter duration"),
        (["--period", "0s"], "--period is 0 ms; give a time above 0"),
        (["--period", "1e-300ms"], "they make 6e+304 requests"),
        (["--deadline", "0s"], "--deadline is 0 ms; give a time above 0"),
        (["--arrivals", ""], "--arrivals is ''"),
        (["--images", "x"], "--bundle is missing"),
        (["-o", ""], "--out is '.', a directory"),
        (["--arrivals", "sometimes"], "--arrivals is 'sometimes'"),
        (["--period", "5"], "without a unit"),
        (["--duration", "0s"], "--duration is 0 s; give a time above 0"),
        (["--transport", "quic"], "tcp or udp"),
        (["--controller", "clever"], "static, oracle or adaptive"),
        (["--controller", "oracle"], "--controller is 'oracle', which needs a link that changes: give --trace FILE"),
        (["--rto", "0ms"], "--rto is 0 ms; give a time of at least"),
        (["--seed", "-1"], "--seed is -1; give 0 or more"),
        (["--workers", "111111111111"], "--workers is 111111111111; give a number from 1 to 1,000,000"),
        (["--packet-bytes", "20"], "--packet-bytes is 20; give a number from 68 to 65,535"),
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


def test_accuracy_on_latents_with_lost_packets(isplit, tmp_path):
    """The bundle's own head and tail run on images: without loss all are right, with every packet lost few are."""
    from PIL import Image

    from isplit.cli.lost_latents import with_loss_accuracy
    from isplit.plan.simulation_settings import SimulationSettings
    from isplit.plan.simulator import simulate
    from tests.runtime.conftest import CLASSES, run_onnx, write_tiny_bundle

    write_tiny_bundle(tmp_path / "bundle")
    pixels = np.random.default_rng(3).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    answers = run_onnx(tmp_path / "bundle" / "whole.onnx", pixels).argmax(axis=1)
    for number, (image, answer) in enumerate(zip(pixels, answers, strict=True)):
        folder = tmp_path / "images" / CLASSES[answer]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")

    facts = make_facts(tmp_path)
    record = plan(
        facts, device=rates_profile("b", 10.0), server=rates_profile("c", 1e3), link=plain_link(loss_up=1 / 4)
    )
    settings = SimulationSettings(duration_s=5, transport="udp", packet_bytes=68)
    simulated = simulate(record, placements=["middle @ 256B", "local"], settings=settings)
    measured = with_loss_accuracy(
        simulated, tmp_path / "bundle", tmp_path / "images", cuts={"middle @ 256B": "stage.1"}
    )
    split, local = measured.results
    assert () == local.accuracy_under_loss
    by_loss = {entry.packet_loss: entry for entry in split.accuracy_under_loss}
    assert (1.0, 24) == (by_loss[0.0].accuracy, by_loss[0.0].images)
    assert by_loss[0.25].accuracy <= 1.0
    assert by_loss[0.25].lost_share > 0


def make_facts(tmp_path: Path):
    return load_facts(write_study(tmp_path / "facts"))


def test_bundle_and_images_go_together(isplit, planned, tmp_path):
    """One without the other is refused."""
    result = isplit("simulate", planned, "--bundle", tmp_path)
    assert 2 == result.code
    assert "both --bundle and --images" in result.err
