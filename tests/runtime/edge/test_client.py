"""The edge client on a server without a socket: right answers, and one for each image whatever fails."""

import io
import itertools
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import isplit
from isplit.errors import BundleError, EngineError, InputError, ServerError
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.device import Device
from isplit.runtime.edge.pictures import NoPicture
from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.session import Session
from tests.runtime.edge.conftest import PATIENT, InProcess, png

CUTS = ("stage.1", "stage.2")
ALWAYS = ["UNAVAILABLE"] * 1000


def failing(bundle, *script, **options):
    return EdgeClient(bundle, transport=InProcess(bundle, script), **(PATIENT | options))


def logits(answers):
    return np.array([answer.logits for answer in answers], np.float32)


# --- what is answered ---


@pytest.mark.parametrize("placement", [*CUTS, "local"])
def test_answers_are_the_whole_models(tiny, client, placement):
    """Split anywhere or not at all, the logits are the whole model's, bit for bit."""
    answers = [client.classify(image, placement=placement) for image in tiny.images]
    np.testing.assert_array_equal(tiny.logits, logits(answers))
    assert tiny.logits.argmax(1).tolist() == [answer.label for answer in answers]


@pytest.mark.parametrize("cut", CUTS)
def test_plain_latents(tiny, server, cut):
    """`wire="latent"` sends plain uint8, and the answers are the same."""
    with EdgeClient(tiny.bundle, transport=server, wire="latent") as client:
        answers = [client.classify(image, placement=cut) for image in tiny.images]
    np.testing.assert_array_equal(tiny.logits, logits(answers))
    assert {"latent"} == {request.tensor for request in server.asked}
    assert {(1, *tiny.bundle.record.cut(cut).latent_shape)} == {request.shape for request in server.asked}


def test_remote_lossless(tiny, server):
    """Sent as PNG, the server's answers are the device's, bit for bit."""
    remote = tiny.bundle.record.remote
    setting = remote.recommended.model_copy(update={"format": "png", "quality": None})
    record = tiny.bundle.record.model_copy(update={"remote": remote.model_copy(update={"recommended": setting})})
    bundle = type(tiny.bundle)(directory=tiny.directory, record=record)
    with EdgeClient(bundle, transport=server, placement="remote") as client:
        np.testing.assert_array_equal(tiny.logits, logits(map(client.classify, tiny.images)))


def test_remote_sends_the_recommended_format(tiny, client, server):
    """Remote sends a WebP file, as the bundle recommends, and no head runs."""
    answer = client.classify(tiny.images[0], placement="remote")
    assert ("remote", None) == (answer.source, answer.timings.head_ms)
    assert "WEBP" == Image.open(io.BytesIO(server.asked[0].content)).format
    assert ("tiny.remote", "image") == (server.asked[0].model, server.asked[0].tensor)


def test_answer_fields(tiny, client, server):
    """An answer says what it is, where it came from, and where the time went."""
    answer = client.classify(tiny.images[0], placement="stage.2", name="first")
    label = int(tiny.logits[0].argmax())
    assert ("first", 0, "stage.2", "split") == (answer.image, answer.index, answer.placement, answer.source)
    assert (label, tiny.bundle.record.group.classes[label]) == (answer.label, answer.class_name)
    exponentials = np.exp(tiny.logits[0].astype(np.float64) - tiny.logits[0].max())
    assert exponentials[label] / exponentials.sum() == pytest.approx(answer.probability)
    assert (None, False, 1, 1) == (answer.reason, answer.late, answer.attempts, answer.server_batch)
    assert len(server.asked[0].content) == answer.payload_bytes
    times = answer.timings
    assert (0.25, 0.5, 1.0, 2.0) == (
        times.server_queue_ms,
        times.server_decode_ms,
        times.server_infer_ms,
        times.server_ms,
    )
    assert (None, None) == (times.local_ms, times.retry_ms)
    device = (times.decode_image_ms, times.preprocess_ms, times.head_ms, times.encode_ms, times.wire_ms)
    assert all(time >= 0 for time in device)


def test_what_ran_it(tiny, server, without_provider):
    """Every answer says what ran its model here, and why that is not what was asked for."""
    with EdgeClient(tiny.bundle, transport=server) as client:
        plain = [client.classify(tiny.images[0], placement=where) for where in ("stage.1", "remote", "local")]
        assert () == client.provider_fallbacks
    assert ["cpu", None, "cpu"] == [answer.provider for answer in plain]
    assert [None] * 3 == [answer.provider_fallback for answer in plain]
    server.script.extend(["NOT_FOUND"] * 2)
    with EdgeClient(tiny.bundle, transport=server, provider="qnn") as client:
        assert () == client.provider_fallbacks  # nothing is loaded yet
        answers = [client.classify(tiny.images[0], placement=where) for where in ("stage.1", "remote", "stage.2")]
        assert (without_provider,) == client.provider_fallbacks
    assert ["local-fallback", "local-fallback", "split"] == [answer.source for answer in answers]
    assert [("cpu", without_provider)] * 3 == [(answer.provider, answer.provider_fallback) for answer in answers]


def test_what_ran_it_there(tiny, server):
    """An answer says what ran the tail, where the server does."""
    infer = server.infer
    server.infer = lambda request, *, timeout_s: replace(infer(request, timeout_s=timeout_s), provider="cuda")
    with EdgeClient(tiny.bundle, transport=server) as client:
        answers = [client.classify(tiny.images[0], placement=where) for where in ("stage.1", "local")]
    assert ["cuda", None] == [answer.server_provider for answer in answers]


def test_ids_are_unique(tiny, server):
    """No two requests of two clients share an id."""
    for _ in range(2):
        with EdgeClient(tiny.bundle, transport=server) as client:
            for image in tiny.images[:3]:
                client.classify(image)
    assert 6 == len({request.id for request in server.asked})


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "pil", "array"])
def test_kinds_of_image(tiny, client, tmp_path, kind):
    """An image may be a file, its content, or pixels."""
    path = tmp_path / "image.png"
    path.write_bytes(png(tiny.images[0]))
    image = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "pil": Image.fromarray(tiny.images[0]),
        "array": tiny.images[0],
    }[kind]
    answer = client.classify(image)
    assert tuple(tiny.logits[0].tolist()) == answer.logits
    assert (str(path) if kind in ("path", "text") else "image 0") == answer.image


# --- what fails ---


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


# --- streams ---


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_stream(tiny, client, depth):
    """A stream answers every image once, in order."""
    answers = list(client.run(tiny.images, depth=depth))
    np.testing.assert_array_equal(tiny.logits, logits(answers))
    assert list(range(24)) == [answer.index for answer in answers]


@given(
    script=st.lists(st.sampled_from(["OK", "OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "NOT_FOUND", "INTERNAL"])),
    depth=st.integers(1, 5),
    failures=st.sampled_from([1, 3, 1000]),
    fallback=st.booleans(),
)
def test_exactly_once(tiny, script, depth, failures, fallback):
    """Whatever fails and when: one answer per image, in order, right or marked as failed."""
    breaker = BreakerSettings(failures=failures, open_ms=1e9, max_open_ms=1e9)
    with failing(tiny.bundle, *script, breaker=breaker, fallback=fallback) as client:
        answers = list(client.run(tiny.images[:8], depth=depth))
    assert list(range(8)) == [answer.index for answer in answers]
    for answer, expected in zip(answers, tiny.logits, strict=False):
        if answer.source == "failed":
            assert (None, False) == (answer.logits, fallback)
            assert answer.reason
        else:
            assert tuple(expected.tolist()) == answer.logits


def test_damaged_image_in_a_stream(tiny, client):
    """A damaged image among others has its own answer, and the others have theirs."""
    answers = list(client.run([("a", tiny.images[0]), ("b", b"broken"), ("c", tiny.images[2])]))
    assert [("a", "split"), ("b", "failed"), ("c", "split")] == [(answer.image, answer.source) for answer in answers]


def test_placement_per_image(tiny, client, server):
    """A controller is asked before each image, and nothing is opened anew."""
    chosen = iter(["stage.1", "local", "stage.2", "remote"])
    answers = list(client.run(tiny.images[:4], placement=lambda: next(chosen)))
    assert ["split", "local", "split", "remote"] == [answer.source for answer in answers]
    assert ["tiny.stage.1", "tiny.stage.2", "tiny.remote"] == [request.model for request in server.asked]


def test_threads_share_a_client(tiny, client):
    """Several threads may classify with one client."""
    answers = [None] * 24

    def work(first):
        for index in range(first, 24, 4):
            answers[index] = client.classify(tiny.images[index])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(tiny.logits, logits(answers))


# --- options ---


def test_placements(client, without_local):
    """The bundle's cuts, then remote and local where it has them."""
    assert (*CUTS, "remote", "local") == client.placements
    with EdgeClient(without_local, transport=InProcess(without_local)) as other:
        assert (*CUTS, "remote") == other.placements


def test_without_a_server(tiny):
    """Without a server everything runs here, and a cut is refused at once."""
    with EdgeClient(tiny.directory) as client:
        answer = client.classify(tiny.images[0])
        assert ("local", "local") == (answer.placement, answer.source)
        with pytest.raises(InputError, match="needs a server"):
            client.classify(tiny.images[0], placement="stage.1")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"placement": "stage.9"}, "choose one of stage.1, stage.2, remote, local"),
        ({"wire": "json"}, "payload"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"deadline_ms": float("nan")}, "deadline_ms"),
        ({"attempt_timeout_ms": -1}, "attempt_timeout_ms"),
        ({"provider": "gpu"}, "provider is 'gpu'"),
    ],
)
def test_refused_options(tiny, server, options, match):
    """Options that do not fit are refused when the client is opened."""
    with pytest.raises(InputError, match=match):
        EdgeClient(tiny.bundle, transport=server, **options)


def test_refused_calls(tiny, client):
    """So are those of a call."""
    with pytest.raises(InputError, match=r"stage\.9"):
        client.classify(tiny.images[0], placement="stage.9")
    with pytest.raises(InputError, match="deadline_ms"):
        client.classify(tiny.images[0], deadline_ms=-1)
    with pytest.raises(InputError, match="depth"):
        list(client.run([], depth=0))


def test_closed(tiny, server):
    """Closing closes the transport; a closed client says that it is."""
    with EdgeClient(tiny.bundle, transport=server) as client:
        pass
    assert server.closed
    with pytest.raises(InputError, match="closed"):
        client.classify(tiny.images[0])


@pytest.mark.parametrize("placement", [*CUTS, "remote", "local"])
def test_warm_up(tiny, client, server, placement):
    """Warming up loads what a placement needs here, and asks the server nothing."""
    client.warm_up(placement)
    assert [] == server.asked


def test_public_name(tiny):
    """The client is isplit's, without a path."""
    assert EdgeClient is isplit.EdgeClient


def test_an_address_is_asked_at_once(tiny):
    """A server that is named has to be there when the client opens, unless that is not required."""
    nobody = {"server": "127.0.0.1:1", "retry": Retry(attempts=1)}
    with pytest.raises(ServerError, match="the server cannot be used"):
        EdgeClient(tiny.bundle, **nobody)
    with EdgeClient(tiny.bundle, require_server=False, **nobody) as client:
        assert "remote" in client.placements


def test_repr(tiny, server):
    """A client shows its bundle, its server and its placement."""
    with EdgeClient(tiny.bundle, transport=server, placement="remote") as client:
        assert f"EdgeClient('{tiny.directory}', None, placement='remote')" == repr(client)
