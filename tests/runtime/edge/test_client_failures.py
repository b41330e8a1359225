"""The edge client when pictures, models, servers and clocks fail: one answer for each image."""

import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isplit.errors import BundleError, EngineError
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.device import Device
from isplit.runtime.edge.pictures import NoPicture
from isplit.runtime.edge.policy import BreakerSettings
from isplit.runtime.session import Session
from tests.runtime.edge.conftest import PATIENT, InProcess
from tests.runtime.edge.scripted_clients import CUTS, failing, logits

ALWAYS = ["UNAVAILABLE"] * 1000


@pytest.mark.parametrize(
    "image", [b"no image", b"", np.zeros((8, 8, 3)), np.zeros((8, 8, 5), np.uint8), np.zeros((0, 8), np.uint8)]
)
def test_damaged_image(client, server, image):
    """What is no image is answered with the reason, and nothing is sent."""
    answer = client.classify(image, name="broken")
    assert ("failed", None, None, 0) == (answer.source, answer.label, answer.logits, answer.attempts)
    assert "broken" in answer.reason
    assert [] == server.asked


def test_missing_file(client, tmp_path):
    """A file that is not there is answered with the reason."""
    answer = client.classify(tmp_path / "gone.png")
    assert "failed" == answer.source
    assert "gone.png" in answer.reason


def truncated():
    """Return an image that Pillow has opened, and whose pixels it cannot read."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    return Image.open(io.BytesIO(file.getvalue()[:-40]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "is a NoneType"),
        (7, "is a int"),
        ([1, 2], "is a list"),
        (truncated(), "is damaged"),
        (Image.new("F", (8, 8)), "floats"),
        (NoPicture(reason="the video broke off"), "the video broke off"),
    ],
)
def test_objects_that_are_no_picture(client, server, image, words):
    """Whatever object a caller hands over, there is an answer that says what is wrong with it."""
    answer = client.classify(image, name="it")
    assert ("failed", None) == (answer.source, answer.label)
    assert words in answer.reason
    assert [] == server.asked


def test_a_fault_of_ours_is_one_images_answer(tiny, client, monkeypatch):
    """An exception that nobody foresaw fails one image, with its name, and the others are answered."""
    preprocess = Device.preprocess

    def fail_once(self, picture, *, name):
        monkeypatch.setattr(Device, "preprocess", preprocess)
        raise ZeroDivisionError

    monkeypatch.setattr(Device, "preprocess", fail_once)
    first, second = client.run(tiny.images[:2], depth=1)
    assert ("failed", "split") == (first.source, second.source)
    assert "this is a fault of isplit, please report it: ZeroDivisionError:" == first.reason


@pytest.mark.parametrize("fallback", [True, False])
def test_a_transport_that_raises_anything(tiny, server, fallback):
    """Whatever a transport raises, the fallback answers, or the answer says what it was."""

    def infer(request, *, timeout_s):
        raise LookupError("of the\ntransport")

    server.infer = infer
    with EdgeClient(tiny.bundle, transport=server, fallback=fallback) as client:
        answer = client.classify(tiny.images[0])
    assert ("local-fallback" if fallback else "failed") == answer.source
    assert answer.reason.endswith("LookupError: of the transport")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_server_that_gives_no_numbers(tiny, server, value):
    """Logits that are not finite are not believed, whoever brings them."""
    server.logits = lambda placement, request: np.array([[0, value, 1, 2, 3]], np.float32)
    with EdgeClient(tiny.bundle, transport=server, fallback=False) as client:
        answer = client.classify(tiny.images[0])
    assert ("failed", None) == (answer.source, answer.logits)
    assert answer.reason == "the server's tiny.stage.1 gives logits that are not finite for this image"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_server_that_reports_no_times(tiny, server, value):
    """A server's nonsense about its own times is left out; the answer counts."""
    infer = server.infer

    def report(request, *, timeout_s):
        reply = infer(request, timeout_s=timeout_s)
        return replace(reply, queue_ms=value, decode_ms=value, infer_ms=value, server_ms=value, batch_size=-1)

    server.infer = report
    with EdgeClient(tiny.bundle, transport=server) as client:
        answer = client.classify(tiny.images[0])
    times = answer.timings
    assert "split" == answer.source
    assert (None,) * 5 == (
        *(times.server_queue_ms, times.server_decode_ms, times.server_infer_ms, times.server_ms),
        answer.server_batch,
    )
    assert times.wire_ms >= 0


def test_times_that_are_nothing_are_times(tiny, server):
    """A server that takes no measurable time at all says so, with 0."""
    infer = server.infer

    def report(request, *, timeout_s):
        return replace(infer(request, timeout_s=timeout_s), queue_ms=0.0, server_ms=1e9, batch_size=1)

    server.infer = report
    with EdgeClient(tiny.bundle, transport=server) as client:
        answer = client.classify(tiny.images[0])
    assert (0.0, 1e9, 0.0, 1) == (
        *(answer.timings.server_queue_ms, answer.timings.server_ms, answer.timings.wire_ms),
        answer.server_batch,
    )


@pytest.mark.parametrize(
    "logits", [np.zeros((1, 4), np.float32), np.zeros((1, 5), np.float64), np.full((1, 5), np.inf, np.float32)]
)
def test_a_model_here_that_gives_no_logits(tiny, monkeypatch, logits):
    """A model here that gives too few numbers, or of another kind, or none that are finite, fails the image."""
    monkeypatch.setattr(Session, "run", lambda self, array: logits)
    with EdgeClient(tiny.bundle) as client:
        answer = client.classify(tiny.images[0])
    assert ("failed", None) == (answer.source, answer.logits)
    assert "the model on this device gives" in answer.reason


@pytest.mark.parametrize("latent", [np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4, 4), np.float32)])
def test_a_head_that_gives_no_latent(tiny, client, monkeypatch, latent):
    """A head whose output is not what the manifest says is not encoded; the fallback answers."""
    run = Session.run
    monkeypatch.setattr(
        Session, "run", lambda self, array: latent if self.output_name == "latent" else run(self, array)
    )
    answer = client.classify(tiny.images[0])
    assert "local-fallback" == answer.source
    assert "the head of stage.1 gives" in answer.reason


def test_names_of_any_bytes(tiny, client):
    """A name that is not UTF-8 is written so that it is; so is one in a reason."""
    name = "ni\udcf1o.png"
    answer = client.classify(tiny.images[0], name=name)
    assert ("split", "ni\\xf1o.png") == (answer.source, answer.image)
    failed = client.classify(Path(name))
    assert ("failed", "ni\\xf1o.png") == (failed.source, failed.image)
    assert "there is no file ni\\xf1o.png" in failed.reason


def test_a_clock_that_jumps(tiny, client, monkeypatch):
    """The date may be set back a day in the middle: no duration is taken from it, and nothing is late for it."""
    dates = itertools.count(1e9, -86_400)
    monkeypatch.setattr("time.time", lambda: next(dates))
    answers = list(client.run(tiny.images[:3], deadline_ms=1e6))
    assert [1e9, 1e9 - 86_400, 1e9 - 2 * 86_400] == [answer.started_unix_s for answer in answers]
    assert [False] * 3 == [answer.late for answer in answers]
    assert all(0 <= answer.timings.total_ms < 1e6 for answer in answers)


def test_retried(tiny):
    """Two failures and an answer are an answer, after three attempts."""
    with failing(tiny.bundle, "UNAVAILABLE", "RESOURCE_EXHAUSTED") as client:
        answer = client.classify(tiny.images[0])
    assert ("split", 3, tuple(tiny.logits[0].tolist())) == (answer.source, answer.attempts, answer.logits)
    assert answer.timings.retry_ms is not None


@pytest.mark.parametrize("placement", [*CUTS, "remote"])
def test_fallback(tiny, placement):
    """When the server fails, the whole model answers here; the answer says so and why."""
    with failing(tiny.bundle, *ALWAYS) as client:
        answer = client.classify(tiny.images[0], placement=placement)
    assert ("local-fallback", placement, 3) == (answer.source, answer.placement, answer.attempts)
    assert tuple(tiny.logits[0].tolist()) == answer.logits
    assert "UNAVAILABLE: as scripted" == answer.reason
    assert answer.timings.local_ms is not None


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "NOT_FOUND", "INVALID_ARGUMENT"])
def test_fallback_after_a_refusal(tiny, status):
    """A refusal is not tried again, and falls back too."""
    with failing(tiny.bundle, status) as client:
        answer = client.classify(tiny.images[0])
    assert ("local-fallback", 1, f"{status}: as scripted") == (answer.source, answer.attempts, answer.reason)


def test_no_fallback(tiny):
    """Without a fallback, the answer is that there is none, and why."""
    with failing(tiny.bundle, *ALWAYS, fallback=False) as client:
        answer = client.classify(tiny.images[0])
    assert ("failed", None, "UNAVAILABLE: as scripted") == (answer.source, answer.label, answer.reason)


def test_no_whole_model(tiny, without_local):
    """A device without the whole model cannot fall back, and says what failed."""
    with failing(without_local, *ALWAYS) as client:
        answer = client.classify(tiny.images[0])
    assert ("failed", "UNAVAILABLE: as scripted") == (answer.source, answer.reason)


def test_circuit_open(tiny):
    """Once the breaker is open, images are answered here without asking the server."""
    breaker = BreakerSettings(failures=3, open_ms=1e9, max_open_ms=1e9)
    with failing(tiny.bundle, *ALWAYS, breaker=breaker) as client:
        answers = [client.classify(image) for image in tiny.images[:3]]
        assert ("open", "closed") == (client.breaker_state("stage.1"), client.breaker_state("stage.2"))
    assert [3, 0, 0] == [answer.attempts for answer in answers]
    assert "circuit open" in answers[1].reason
    np.testing.assert_array_equal(tiny.logits[:3], logits(answers))


def test_deadline_passed_before_the_wire(tiny, server):
    """A deadline that the head alone misses is marked; the server is not asked in vain."""
    with EdgeClient(tiny.bundle, transport=server, deadline_ms=1e-6) as client:
        answer = client.classify(tiny.images[0])
    assert ("local-fallback", True, 0) == (answer.source, answer.late, answer.attempts)
    assert "no time left" in answer.reason
    assert [] == server.asked


def test_deadline_met(tiny, client):
    """An answer in time is not late, and says what its deadline was."""
    answer = client.classify(tiny.images[0], deadline_ms=1e6)
    assert ("split", 1e6, False) == (answer.source, answer.deadline_ms, answer.late)


@pytest.mark.parametrize(("fallback", "most_s"), [(True, 60.0), (False, 100.0)])
def test_time_is_held_back_for_the_fallback(tiny, server, monkeypatch, fallback, most_s):
    """Of 100 s, the server may take the 60 that a fallback of 40 leaves; without a fallback it may take them all."""
    monkeypatch.setattr(Device, "time_whole", lambda self: [40_000.0 / (1 + 0.5 / 100)] * 100)
    with EdgeClient(
        tiny.bundle, transport=server, deadline_ms=100_000, attempt_timeout_ms=1e9, fallback=fallback
    ) as it:
        it.warm_up()
        it.classify(tiny.images[0])
    assert most_s - 30 < server.timeouts_s[0] <= most_s  # the head has taken a little


def test_an_attempt_ends_without_a_deadline(tiny, server):
    """Without a deadline an attempt still ends, after `attempt_timeout_ms`."""
    with EdgeClient(tiny.bundle, transport=server, attempt_timeout_ms=7000) as client:
        client.classify(tiny.images[0])
    assert [7.0] == server.timeouts_s


def test_another_bundles_server(tiny, server):
    """A server whose logits are not of this bundle's classes is not believed."""
    server.logits = lambda placement, request: np.zeros((1, 7), np.float32)
    with EdgeClient(tiny.bundle, transport=server, fallback=False) as client:
        answer = client.classify(tiny.images[0])
    assert "failed" == answer.source
    assert "7 logits" in answer.reason


def test_head_that_does_not_run(tiny, client, monkeypatch):
    """A head that fails (out of memory, say) is answered for by the fallback, which may work."""
    whole, run = str(tiny.bundle.local_path), Session.run

    def no_memory(self, array):
        if self.path == whole:
            return run(self, array)
        msg = "no memory"
        raise EngineError(msg)

    real = Session.__init__

    def remember(self, path, **options):
        self.path = str(path)
        real(self, path, **options)

    monkeypatch.setattr(Session, "__init__", remember)
    monkeypatch.setattr(Session, "run", no_memory)
    answer = client.classify(tiny.images[0])
    assert ("local-fallback", "no memory") == (answer.source, answer.reason)
    assert tuple(tiny.logits[0].tolist()) == answer.logits


def test_fallback_that_does_not_load(own_bundle, tiny):
    """When the fallback is damaged too, the answer gives both reasons."""
    (own_bundle / "whole.onnx").write_bytes(b"\0" * (own_bundle / "whole.onnx").stat().st_size)
    bundle = type(tiny.bundle)(directory=own_bundle, record=tiny.bundle.record)
    with EdgeClient(bundle, transport=InProcess(tiny.bundle, ALWAYS), **PATIENT) as client:
        answer = client.classify(tiny.images[0])
        assert "failed" == answer.source
        assert "UNAVAILABLE" in answer.reason
        assert "whole.onnx" in answer.reason
        with pytest.raises(BundleError):
            client.classify(tiny.images[0], placement="local")
