"""The server over a real socket, with tritonclient as the foreign client."""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

from isplit.errors import BundleError, InputError
from isplit.runtime.bundle import Bundle
from isplit.runtime.server import Server, ServerSettings, serving
from tests.runtime.server.conftest import SHAPE


@pytest.fixture(scope="module")
def client(running):
    with triton.InferenceServerClient(running.server.address) as client:
        yield client


def tensor(name, array, datatype):
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def payloads(tiny, cut, rows=slice(None)):
    codec = tiny.bundle.codec(cut)
    return np.array([codec.encode_symbols(latent) for latent in tiny.latents[cut][rows]], object)


def test_live_and_ready(client):
    """The server and each of its models say that they are there; a model that is not there is not ready."""
    assert client.is_server_live()
    assert client.is_server_ready()
    for name in ("tiny.stage.1", "tiny.stage.2", "tiny.remote"):
        assert client.is_model_ready(name)
    assert not client.is_model_ready("tiny.stage.9")
    assert not client.is_model_ready("tiny.stage.1", "7")


def test_server_metadata(client):
    """The server says what it is."""
    assert "isplit" == client.get_server_metadata().name


def test_model_metadata(client):
    """A model's metadata name every tensor that it takes, and the one that it gives."""
    metadata = client.get_model_metadata("tiny.stage.2", as_json=True)
    assert [
        {"name": "payload", "datatype": "BYTES", "shape": ["-1"]},
        {"name": "latent", "datatype": "UINT8", "shape": ["-1", "6", "2", "2"]},
    ] == metadata["inputs"]
    assert [{"name": "logits", "datatype": "FP32", "shape": ["-1", "5"]}] == metadata["outputs"]
    (image,) = client.get_model_metadata("tiny.remote").inputs
    assert ("image", "BYTES", [-1]) == (image.name, image.datatype, list(image.shape))


def test_metadata_of_unknown_model(client):
    """A model that is not there is NOT_FOUND, and the message names those that are."""
    with pytest.raises(triton.InferenceServerException, match=r"NOT_FOUND.*tiny\.stage\.1"):
        client.get_model_metadata("tiny.stage.9")


@pytest.mark.parametrize("cut", ["stage.1", "stage.2"])
def test_payloads(tiny, client, cut):
    """A batch of coded payloads gives the whole model's logits, bit for bit."""
    reply = client.infer(f"tiny.{cut}", [tensor("payload", payloads(tiny, cut), "BYTES")])
    np.testing.assert_array_equal(tiny.logits, reply.as_numpy("logits"))


@pytest.mark.parametrize("cut", ["stage.1", "stage.2"])
def test_latents(tiny, client, cut):
    """A batch of plain latents gives the same."""
    outputs = [triton.InferRequestedOutput("logits")]
    reply = client.infer(f"tiny.{cut}", [tensor("latent", tiny.latents[cut], "UINT8")], outputs=outputs)
    np.testing.assert_array_equal(tiny.logits, reply.as_numpy("logits"))


def test_images(tiny, client, wire):
    """Lossless image files give the same; a JPEG and a WebP are read too."""
    files = [wire.encoded(image) for image in tiny.images]
    reply = client.infer("tiny.remote", [tensor("image", np.array(files, object), "BYTES")])
    np.testing.assert_array_equal(tiny.logits, reply.as_numpy("logits"))
    lossless = wire.encoded(tiny.images[0], "WEBP", lossless=True)
    reply = client.infer("tiny.remote", [tensor("image", np.array([lossless], object), "BYTES")])
    np.testing.assert_array_equal(tiny.logits[:1], reply.as_numpy("logits"))
    jpeg = wire.encoded(tiny.images[0], "JPEG", quality=90)
    reply = client.infer("tiny.remote", [tensor("image", np.array([jpeg], object), "BYTES")])
    assert (1, 5) == reply.as_numpy("logits").shape


def test_typed_contents(tiny, running):
    """Content in the tensor itself, as clients without raw content send it, is as good."""
    request = service_pb2.ModelInferRequest(model_name="tiny.stage.1")
    given = request.inputs.add(name="latent", datatype="UINT8", shape=SHAPE)
    given.contents.uint_contents.extend(tiny.latents["stage.1"][0].ravel().tolist())
    first = running.stub.ModelInfer(request).raw_output_contents[0]
    request = service_pb2.ModelInferRequest(model_name="tiny.stage.1")
    given = request.inputs.add(name="payload", datatype="BYTES", shape=[1])
    given.contents.bytes_contents.append(payloads(tiny, "stage.1")[0])
    assert tiny.logits[:1].tobytes() == first == running.stub.ModelInfer(request).raw_output_contents[0]


def test_answer_says_what_it_took(tiny, client):
    """Each answer carries its request's id, the size of its batch, and what every part took."""
    latents = tiny.latents["stage.1"][:3]
    reply = client.infer("tiny.stage.1", [tensor("latent", latents, "UINT8")], request_id="a-7").get_response()
    assert ("tiny.stage.1", "1", "a-7") == (reply.model_name, reply.model_version, reply.id)
    assert {"queue_ms", "decode_ms", "infer_ms", "server_ms", "batch_size"} == set(reply.parameters)
    parts = [reply.parameters[f"{part}_ms"].double_param for part in ("queue", "decode", "infer")]
    assert min(parts) >= 0
    assert reply.parameters["server_ms"].double_param >= sum(parts)
    assert 3 == reply.parameters["batch_size"].int64_param


def test_many_clients(tiny, running):
    """Eight clients at once, with all three ways of asking: every answer is the one to its own image."""
    codec = tiny.bundle.codec("stage.2")

    def ask(number):
        row = number % len(tiny.images)
        with triton.InferenceServerClient(running.server.address) as client:
            latent = tensor("latent", tiny.latents["stage.1"][row : row + 1], "UINT8")
            first = client.infer("tiny.stage.1", [latent], request_id=str(number))
            payload = np.array([codec.encode_symbols(tiny.latents["stage.2"][row])], object)
            second = client.infer("tiny.stage.2", [tensor("payload", payload, "BYTES")], request_id=str(number))
        same = all((tiny.logits[row] == reply.as_numpy("logits")).all() for reply in (first, second))
        return same and {str(number)} == {reply.get_response().id for reply in (first, second)}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


def test_batches_across_clients(tiny, gated, wire):
    """Requests of several clients that come while the engine works are computed together."""
    running, engine = gated()
    requests = [
        wire.infer_request("tiny.stage.1", "latent", "UINT8", SHAPE, latent.tobytes())
        for latent in tiny.latents["stage.1"][:4]
    ]
    first = running.stub.ModelInfer.future(requests[0])
    engine.wait_entered()
    others = [running.stub.ModelInfer.future(request) for request in requests[1:]]
    wire.until(lambda: 3 == running.metric('isplit_waiting_images{model="tiny.stage.1"}'))
    for _ in range(2):
        engine.gate.release()
    assert 1 == first.result().parameters["batch_size"].int64_param
    assert {3} == {other.result().parameters["batch_size"].int64_param for other in others}
    assert [1, 3] == [len(batch) for batch in engine.batches]


def test_full_queue(tiny, gated, wire):
    """Beyond the queue's bound a request is refused at once, and those before it are answered."""
    running, engine = gated(max_batch=2, max_queue=2)
    request = wire.infer_request("tiny.stage.1", "latent", "UINT8", SHAPE, tiny.latents["stage.1"][0].tobytes())
    first = running.stub.ModelInfer.future(request)
    engine.wait_entered()
    others = [running.stub.ModelInfer.future(request) for _ in range(2)]
    wire.until(lambda: 2 == running.metric('isplit_waiting_images{model="tiny.stage.1"}'))
    code, details = running.status(request)
    assert "RESOURCE_EXHAUSTED" == code
    assert "2 images are waiting" in details
    for _ in range(2):
        engine.gate.release()
    for future in (first, *others):
        future.result(timeout=wire.limit_s)
    assert 1 == running.metric('isplit_requests_total{model="tiny.stage.1",status="RESOURCE_EXHAUSTED"}')


def test_late_work_is_dropped(tiny, gated, wire):
    """A request whose deadline passes in the queue is not computed; those around it are."""
    running, engine = gated()
    latents = tiny.latents["stage.1"]
    requests = [wire.infer_request("tiny.stage.1", "latent", "UINT8", SHAPE, latents[i].tobytes()) for i in range(3)]
    first = running.stub.ModelInfer.future(requests[0])
    engine.wait_entered()
    assert "DEADLINE_EXCEEDED" == running.status(requests[1], timeout=0.2)[0]
    wire.until(lambda: 0 == running.metric('isplit_waiting_images{model="tiny.stage.1"}'))
    last = running.stub.ModelInfer.future(requests[2])
    for _ in range(2):
        engine.gate.release()
    for future in (first, last):
        future.result(timeout=wire.limit_s)
    np.testing.assert_array_equal(latents[[0, 2]], np.concatenate(engine.batches))


def test_engine_fails(tiny, gated, wire, caplog):
    """A fault of the engine is INTERNAL, says nothing of the server's insides, and is in the log."""
    running, engine = gated()
    engine.outputs = -1  # np.zeros raises
    engine.gate.release()
    request = wire.infer_request("tiny.stage.1", "latent", "UINT8", SHAPE, tiny.latents["stage.1"][0].tobytes())
    code, details = running.status(request)
    assert ("INTERNAL", "the server failed (ValueError); its log says more") == (code, details)
    assert "a request failed" in caplog.text


def test_drain(tiny, gated, wire):
    """A draining server refuses what is new, says that it is not ready, and answers what it has taken."""
    running, engine = gated()
    request = wire.infer_request("tiny.stage.1", "latent", "UINT8", SHAPE, tiny.latents["stage.1"][0].tobytes())
    first = running.stub.ModelInfer.future(request)
    engine.wait_entered()
    drained = running.drain()
    wire.until(lambda: 1 == running.metric("isplit_draining"))
    assert "UNAVAILABLE" == running.status(request)[0]
    assert not running.stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert not running.stub.ModelReady(service_pb2.ModelReadyRequest(name="tiny.stage.1")).ready
    health = health_pb2_grpc.HealthStub(running.channel)
    assert health_pb2.HealthCheckResponse.NOT_SERVING == health.Check(health_pb2.HealthCheckRequest()).status
    engine.gate.release()
    assert drained.result(timeout=wire.limit_s)
    assert first.result(timeout=wire.limit_s).raw_output_contents


def test_drain_gives_up(tiny, gated, wire):
    """What the engine does not finish within the time for draining is refused, not waited for."""
    running, engine = gated(drain_seconds=0.05)
    request = wire.infer_request("tiny.stage.1", "latent", "UINT8", SHAPE, tiny.latents["stage.1"][0].tobytes())
    future = running.stub.ModelInfer.future(request)
    engine.wait_entered()
    assert not running.drain().result(timeout=wire.limit_s)
    running.stop()
    with pytest.raises(grpc.RpcError) as caught:
        future.result(timeout=wire.limit_s)
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()


def test_health(running):
    """The health service answers for the server and for the protocol's service, and knows no other."""
    health = health_pb2_grpc.HealthStub(running.channel)
    for service in ("", "inference.GRPCInferenceService"):
        reply = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert health_pb2.HealthCheckResponse.SERVING == reply.status
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nonsense"))
    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


def test_metrics(tiny, gated, wire):
    """Answers, images, batches and stages are counted per model, refusals per status."""
    running, engine = gated()
    engine.gate.release()
    latents = tiny.latents["stage.1"][:3]
    running.stub.ModelInfer(wire.infer_request("tiny.stage.1", "latent", "UINT8", [3, 4, 4, 4], latents.tobytes()))
    running.status(wire.infer_request("nonsense", "latent", "UINT8", SHAPE, b""))
    assert 1 == running.metric('isplit_requests_total{model="tiny.stage.1",status="OK"}')
    assert 3 == running.metric('isplit_images_total{model="tiny.stage.1"}')
    assert 3 == running.metric('isplit_batch_images_sum{model="tiny.stage.1"}')
    for stage in ("decode", "queue", "infer", "server"):
        assert 1 == running.metric(f'isplit_stage_seconds_count{{model="tiny.stage.1",stage="{stage}"}}')
    assert 1 == running.metric('isplit_requests_total{model="",status="NOT_FOUND"}')
    assert "nonsense" not in running.metrics()


def test_unimplemented(running):
    """Methods of the protocol that we do not offer say so."""
    with pytest.raises(grpc.RpcError) as caught:
        running.stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny"))
    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


def test_port_taken(tiny, running):
    """A port that another server has is refused with a word on it; two servers never share one unnoticed."""
    with pytest.raises(InputError, match="port taken"), serving(tiny.bundle, port=running.server.port):
        pass


def test_metrics_port_taken(tiny, running):
    """The same for the metrics."""
    port = running.server.metrics_port
    with pytest.raises(InputError, match="metrics_port=PORT"), serving(tiny.bundle, metrics_port=port):
        pass


@pytest.mark.parametrize(
    "changes", [{"max_batch": 0}, {"max_queue": 3}, {"port": 70000}, {"threads": 0}, {"token": ""}, {"token": "short"}]
)
def test_settings_out_of_range(changes):
    """Settings that make no sense are refused when they are made."""
    with pytest.raises(InputError, match=next(iter(changes))):
        ServerSettings(**changes)


def test_tail_is_not_what_the_manifest_says(own_bundle):
    """A tail that does not take the latent of its cut is found at the start, not at the first request."""
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    first, second = manifest["cuts"]
    first["tail"], second["tail"] = second["tail"], first["tail"]
    (own_bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="stage"), serving(Bundle.open(own_bundle)):
        pass


def test_several_bundles(tiny, wire, own_bundle):
    """One server answers for several bundles, each model under its bundle's name; two of one name are refused."""
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    manifest["name"] = "other"
    (own_bundle / "manifest.json").write_text(json.dumps(manifest))
    bundles = [tiny.bundle, Bundle.open(own_bundle)]
    with serving(bundles) as server, triton.InferenceServerClient(server.address) as client:
        assert 6 == len(server.models)
        for name in ("tiny", "other"):
            reply = client.infer(f"{name}.stage.1", [tensor("latent", tiny.latents["stage.1"], "UINT8")])
            np.testing.assert_array_equal(tiny.logits, reply.as_numpy("logits"))
    with pytest.raises(InputError, match="both named 'tiny'"), serving([tiny.bundle, tiny.bundle]):
        pass
    with pytest.raises(InputError, match="no bundle"), serving([]):
        pass


def test_repr(tiny):
    """A server shows its bundles and its address."""
    server = Server(tiny.bundle, ServerSettings(port=0))

    assert f"Server({str(tiny.directory)!r}, address='127.0.0.1:0')" == repr(server)
