"""The edge client on a server without a socket: right answers, and what it may be asked."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import isplit
from isplit.errors import InputError, ServerError
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.policy import Retry
from tests.runtime.edge.conftest import InProcess, png
from tests.runtime.edge.scripted_clients import CUTS, logits


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
