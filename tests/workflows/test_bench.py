"""isplit.bench and its command: every placement of a real bundle, over loopback, a proxy and namespaces."""

import json

import numpy as np
import pytest
from PIL import Image

import isplit as package
from isplit.errors import DataError, InputError
from isplit.records import ProfileRecord, RunsRecord, TimeFigure
from isplit.runtime.bench.images import read_labelled_images
from isplit.runtime.bench.proxy import ProxyShape, proxied
from isplit.runtime.bundle import Bundle
from isplit.workflows.bench import BenchSettings, bench
from isplit.workflows.correct import corrected_profile
from tests.runtime.conftest import CLASSES, write_tiny_bundle

QUICK = BenchSettings(warm_up=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The small bundle of the runtime's tests, whose placements all answer alike."""
    directory = tmp_path_factory.mktemp("bench") / "tiny"
    write_tiny_bundle(directory)
    return Bundle.open(directory)


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    """Six images in the folders of the classes that the bundle's whole model gives them, so that it is always right."""
    directory = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    with package.EdgeClient(bundle) as client:
        for number in range(6):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            answer = client.classify(pixels)
            (directory / answer.class_name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(directory / answer.class_name / f"{number}.png")
    return directory


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
    with package.serving(bundle) as server:
        address = f"127.0.0.1:{server.port}"
        record = bench(
            bundle, folder, server=address, link="1Mbit/s,20ms", placements=["stage.1", "local"], settings=QUICK
        )

    assert "proxy" == record.shaping
    assert 20 < record.runs[0].from_picture_median_ms < 300
    assert record.runs[0].accuracy.accuracy == 1.0


def test_the_proxy_keeps_the_rate():
    """A message of 25 kB over 1 Mbit/s takes at least its 200 ms, with half the round trip on top."""
    import socket
    import threading
    import time

    with socket.create_server(("127.0.0.1", 0)) as listening:
        received: list[float] = []

        def take():
            connection, _ = listening.accept()
            with connection:
                left = 25_000
                while left and (content := connection.recv(65536)):
                    left -= len(content)
                received.append(time.monotonic())

        thread = threading.Thread(target=take)
        thread.start()
        shape = ProxyShape(up_bits_per_s=1e6, rtt_ms=40)
        with proxied(f"127.0.0.1:{listening.getsockname()[1]}", shape) as (address, counted):
            begun_s = time.monotonic()
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as connection:
                connection.sendall(bytes(25_000))
                thread.join(10)
        assert 25_000 == counted.up_bytes
    assert received[0] - begun_s > 0.22


def test_corrected_profile(bundle, folder):
    """A benchmark's times take the place of a profile's: 95th percentiles keep their ratio."""
    record = bench(bundle, folder, placements=["local"], settings=QUICK)
    before = ProfileRecord(
        isplit_version="0",
        name="x",
        title="x",
        source="measured",
        model="tiny",
        model_fingerprint=bundle.record.model_fingerprint,
        whole=TimeFigure(median_ms=100.0, p95_ms=200.0, runs=3),
    )

    after = corrected_profile(before, record, bundle.record)

    assert record.runs[0].part_ms["local"] == after.whole.median_ms
    assert pytest.approx(2.0) == after.whole.p95_ms / after.whole.median_ms
    with pytest.raises(InputError, match="another model"):
        corrected_profile(before.model_copy(update={"model_fingerprint": "0" * 64}), record, bundle.record)


def test_command(isplit, bundle, folder, tmp_path):
    """The command prints a table of at most 80 columns, writes the record, and refuses bad input with exit 2."""
    out = tmp_path / "runs.json"
    options = ("--warm-up", 1, "--images", 3, "--placement", "local", "-o", out)
    result = isplit("bench", bundle.directory, folder, *options)

    assert 0 == result.code, result.err
    assert 3 == RunsRecord.from_json(out.read_text()).runs[0].images
    assert all(len(line) <= 80 for line in result.out.splitlines() if not line.startswith("record"))
    bad = {
        ("--placement", "nowhere"): "no placement 'nowhere'",
        ("--link", "12mb/s,1ms"): "--link",
        ("--images", "0"): "--images is 0",
        ("--server", "127.0.0.1:1", "--placement", "stage.1"): "UNAVAILABLE",
        ("--plan", str(out)): "isplit.plan/1",
    }
    for extra, message in bad.items():
        refused = isplit("bench", bundle.directory, folder, "-o", tmp_path / "no.json", *extra)
        assert (2, True) == (refused.code, message in refused.err), (extra, refused.err)


def test_labelled_images(tmp_path):
    """Classes take turns; a folder without labels or with a strange one is refused."""
    for name, count in (("ant", 3), ("bee", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.png").touch()
    images = read_labelled_images(tmp_path, CLASSES, limit=3)
    assert ["ant", "bee", "ant"] == [images.classes[path] for path in images.paths]
    (tmp_path / "yak").mkdir()
    with pytest.raises(DataError, match="'yak', which is no class"):
        read_labelled_images(tmp_path, CLASSES)
    with pytest.raises(DataError, match="no subfolder"):
        read_labelled_images(tmp_path / "ant", CLASSES)
    with pytest.raises(InputError, match="cannot read"):
        read_labelled_images(tmp_path / "none", CLASSES)


def test_json(isplit, bundle, folder, tmp_path):
    """--json prints the record and nothing else."""
    options = ("--warm-up", 0, "--images", 2, "--placement", "local", "-o", tmp_path / "r.json", "--json")
    result = isplit("bench", bundle.directory, folder, *options)

    assert "isplit.runs/1" == json.loads(result.out)["schema"]
