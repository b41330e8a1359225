"""isplit.bench and its command: every placement of a real bundle, over loopback, a proxy and namespaces."""

import json
from types import SimpleNamespace

import pytest

from isplit.records import Compression, RunsRecord, write_shared
from isplit.runtime.server import serving
from isplit.workflows.bench import BenchSettings, bench, planned_placement
from tests.plan.conftest import rates_profile

QUICK = BenchSettings(warm_up=1)


def test_every_placement_is_measured(bundle, folder):
    """Accuracy, latency, wire bytes, processor time and memory of each placement are there and fit each other."""
    record = bench(bundle, folder, settings=QUICK)

    runs = {run.placement: run for run in record.runs}
    assert ["stage.1", "stage.2", "remote", "local"] == list(runs)
    for name in ("stage.1", "stage.2", "local"):
        assert (6, 1.0) == (runs[name].images, runs[name].accuracy.accuracy)
    for run in runs.values():
        assert 0 < run.from_picture_median_ms <= run.total_median_ms
        assert run.device_cpu_ms > 0
        assert run.device_peak_bytes > 2**24
    assert (0.0, 0.0) == (runs["local"].wire_up_bytes, runs["local"].wire_down_bytes)
    assert runs["stage.1"].payload_bytes.mean < runs["stage.1"].wire_up_bytes < runs["stage.1"].payload_bytes.mean + 30
    assert 20 < runs["stage.1"].wire_down_bytes < 60
    assert (None, "over loopback") == (record.shaping, record.link)


def test_a_link_is_made_and_named(bundle, folder):
    """With a link, every request takes at least its round trip, and the record says how the link was made."""
    record = bench(bundle, folder, link="2Mbit/s,30ms", placements=["stage.2"], settings=QUICK)

    assert record.shaping in ("namespaces", "proxy")
    assert "2 Mbit/s up" in record.link
    assert 30 < record.runs[0].from_picture_median_ms < 300


def test_a_server_that_runs_is_reached_through_a_proxy(bundle, folder):
    """With a server and a link, a proxy of ours makes the link, and the record says so."""
    with serving(bundle) as server:
        address = f"127.0.0.1:{server.port}"
        record = bench(
            bundle, folder, server=address, link="1Mbit/s,20ms", placements=["stage.1", "local"], settings=QUICK
        )

    assert "proxy" == record.shaping
    assert 20 < record.runs[0].from_picture_median_ms < 300
    assert record.runs[0].accuracy.accuracy == 1.0


def test_command(isplit, bundle, folder, tmp_path):
    """The command prints a table of at most 80 columns, writes the record, and refuses bad input with exit 2."""
    out = tmp_path / "runs.json"
    options = ("--warm-up", 1, "--images", 3, "--placement", "local", "-o", out)
    result = isplit("bench", bundle.directory, folder, *options)

    assert 0 == result.code, result.err
    assert 3 == RunsRecord.from_json(out.read_text()).runs[0].images
    assert all(len(line) <= 80 for line in result.out.splitlines() if not line.startswith("record"))
    bad = {
        ("--placement", "nowhere"): "--placement is 'nowhere', which this bundle does not have",
        ("--link", "12mb/s,1ms"): "--link",
        ("--images", "0"): "--images is 0",
        ("--server", "127.0.0.1:1", "--placement", "stage.1"): "UNAVAILABLE",
        ("--plan", str(out)): "isplit.plan/1",
        ("--threads", "99999"): "--threads is 99999; give a number from 1 to 256",
        ("--pause-ms", "nan"): "--pause-ms is nan; give a number from 0 to 60,000",
        ("--server", "localhost:70000", "--placement", "local"): "the server is 'localhost:70000'; give HOST:PORT",
        ("-o", str(tmp_path)): "a directory; give the name of a file to write",
        ("-o", str(tmp_path / "none" / "r.json")): "make it first",
    }
    for extra, message in bad.items():
        refused = isplit("bench", bundle.directory, folder, "-o", tmp_path / "no.json", *extra)
        assert (2, True) == (refused.code, message in refused.err), (extra, refused.err)


def test_a_profile_of_another_model_is_refused_before_the_work(isplit, bundle, folder, tmp_path):
    """Nothing is measured and written where the profile to correct is of another model."""
    profile = rates_profile("board", 10.0).model_copy(update={"model": "other", "model_fingerprint": "0" * 64})
    path = write_shared(profile, tmp_path / "board.json")
    before = path.read_bytes()
    result = isplit("bench", bundle.directory, folder, "--profile", path, "-o", tmp_path / "r.json")

    assert (2, True) == (result.code, "is of another model (other)" in result.err)
    assert before == path.read_bytes()
    assert not (tmp_path / "r.json").exists()


def test_json(isplit, bundle, folder, tmp_path):
    """--json prints the record and nothing else."""
    options = ("--warm-up", 0, "--images", 2, "--placement", "local", "-o", tmp_path / "r.json", "--json")
    result = isplit("bench", bundle.directory, folder, *options)

    assert "isplit.runs/1" == json.loads(result.out)["schema"]


@pytest.mark.parametrize(("trained", "expected"), [(False, "as it is"), (True, "all layers trained")])
def test_the_plan_of_the_network_that_is_in_the_bundle(trained, expected):
    """The network on the server is compared with its own row of the plan, trained on compressed images or not."""
    compression = Compression(format="webp", quality=50)

    def row(name, source, accuracy):
        figure = SimpleNamespace(source=source, accuracy=accuracy)
        return SimpleNamespace(name=name, kind="remote", compression=compression, accuracy=figure)

    rows = [
        row("last layers trained", "trained", 0.8),
        row("as it is", "decoded images", 0.7),
        row("all layers trained", "trained", 0.9),
    ]
    bundle = SimpleNamespace(remote=SimpleNamespace(recommended=compression, trained=trained))
    assert expected == planned_placement(SimpleNamespace(placements=rows), "remote", bundle).name
    assert planned_placement(None, "remote", bundle) is None
