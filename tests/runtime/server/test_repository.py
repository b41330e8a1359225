"""What Triton's clients ask about models."""

from types import SimpleNamespace

import numpy as np
import pytest
import tritonclient.grpc as triton

from isplit.runtime.server.repository import Statistics

NAMES = ["tiny.stage.1", "tiny.stage.2", "tiny.remote"]


@pytest.fixture
def client(running):
    with triton.InferenceServerClient(running.server.address) as client:
        yield client


def ask(client, tiny, rows):
    latents = tiny.latents["stage.1"][:rows]
    given = triton.InferInput("latent", list(latents.shape), "UINT8")
    given.set_data_from_numpy(latents)
    return client.infer("tiny.stage.1", [given])


def test_model_config(client):
    """The configuration names every input with its type and shape, without the batch, and the largest batch."""
    config = client.get_model_config("tiny.stage.2").config
    assert ("tiny.stage.2", "onnxruntime_onnx", "onnxruntime", 32) == (
        config.name,
        config.platform,
        config.backend,
        config.max_batch_size,
    )
    types = triton.model_config_pb2
    assert [("payload", types.TYPE_STRING, []), ("latent", types.TYPE_UINT8, [6, 2, 2])] == [
        (given.name, given.data_type, list(given.dims)) for given in config.input
    ]
    assert [("logits", types.TYPE_FP32, [5])] == [(out.name, out.data_type, list(out.dims)) for out in config.output]
    assert config.HasField("dynamic_batching")


@pytest.mark.parametrize("question", ["get_model_config", "get_model_metadata", "get_inference_statistics"])
def test_unknown_model(client, question):
    """A model or version that is not there is NOT_FOUND."""
    for name, version in (("tiny.stage.9", ""), ("tiny.stage.1", "7")):
        with pytest.raises(triton.InferenceServerException, match=r"NOT_FOUND.*tiny\.stage\.1"):
            getattr(client, question)(name, version)


def test_repository_index(client, gated):
    """The index lists every model with its version, and which of them take requests."""
    index = client.get_model_repository_index().models
    assert [(name, "1", "READY", "") for name in NAMES] == [
        (model.name, model.version, model.state, model.reason) for model in index
    ]
    running, _ = gated()
    running.drain().result(60)
    with triton.InferenceServerClient(running.server.address) as draining:
        index = draining.get_model_repository_index().models
        assert ["UNAVAILABLE"] * 3 == [model.state for model in index]


def test_statistics(tiny, gated):
    """A model's statistics count images, batches, answers and refusals, and how long the stages took."""
    running, engine = gated()
    for _ in range(3):
        engine.gate.release()
    with triton.InferenceServerClient(running.server.address) as client:
        for rows in (1, 3, 3):
            ask(client, tiny, rows)
        given = triton.InferInput("latent", [1, 4], "UINT8")
        given.set_data_from_numpy(np.zeros((1, 4), np.uint8))
        with pytest.raises(triton.InferenceServerException):
            client.infer("tiny.stage.1", [given])
        (statistics,) = client.get_inference_statistics("tiny.stage.1").model_stats
        assert ("tiny.stage.1", "1", 7, 3) == (
            statistics.name,
            statistics.version,
            statistics.inference_count,
            statistics.execution_count,
        )
        stages = statistics.inference_stats
        assert [3, 1, 3, 3, 3] == [
            getattr(stages, stage).count for stage in ("success", "fail", "queue", "compute_input", "compute_infer")
        ]
        assert stages.success.ns >= stages.compute_infer.ns > 0
        assert [(1, 1), (3, 2)] == [(batch.batch_size, batch.compute_infer.count) for batch in statistics.batch_stats]
        assert statistics.last_inference > 0
        everything = client.get_inference_statistics().model_stats
        assert [(name, 7 if name == "tiny.stage.1" else 0) for name in NAMES] == [
            (model.name, model.inference_count) for model in everything
        ]


def test_extensions(client):
    """The server says which extensions of the protocol it has."""
    assert {"model_configuration", "model_repository", "statistics"} == set(client.get_server_metadata().extensions)


def test_statistics_by_hand():
    """Milliseconds become nanoseconds; a model that nobody asked for says 0 as its last time."""
    statistics = Statistics()
    model = SimpleNamespace(name="m", batcher=SimpleNamespace(batches={2: 1}, batch_ns={2: 7}))
    assert (0, 0) == (statistics.message(model).last_inference, statistics.message(model).inference_count)

    statistics.answered(images=2, stages_ms={"server": 9.5, "queue": 1.25, "decode": 0.5, "infer": 7.000001})
    statistics.refused(0.125)

    message = statistics.message(model)
    stages = message.inference_stats
    expected = {"success": 9_500_000, "fail": 125_000, "queue": 1_250_000, "compute_input": 500_000}
    expected |= {"compute_infer": 7_000_001, "compute_output": 0}
    assert expected == {name: getattr(stages, name).ns for name in expected}
    assert (2, 1, 7) == (message.inference_count, message.execution_count, message.batch_stats[0].compute_infer.ns)
