"""The tails as a Triton model repository, for servers other than ours.

triton/NAME.CUT/config.pbtxt
triton/NAME.CUT/1/model.onnx     with its weights inside: a repository is copied model by model
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from isplit.design.onnx.files import save_onnx

# Its classes are made when it is imported: no type checker sees them.
_config: Any = model_config_pb2

TRITON = "triton"
_MAX_BATCH = 32


def write_tail(repository: Path, tail: onnx.ModelProto, *, name: str, latent_shape: Sequence[int]) -> None:
    """Write a tail and its configuration; `name` is the model's on the wire."""
    directory = repository / name
    (directory / "1").mkdir(parents=True)
    save_onnx(tail, directory / "1" / "model.onnx")
    classes = tail.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    (directory / "config.pbtxt").write_text(tail_config(name, latent_shape=latent_shape, classes=classes))


def tail_config(name: str, *, latent_shape: Sequence[int], classes: int) -> str:
    """Return a tail's config.pbtxt: batches of up to 32, put together by the server; shapes are of one image."""
    config = _config.ModelConfig(
        name=name,
        platform="onnxruntime_onnx",
        max_batch_size=_MAX_BATCH,
        input=[_config.ModelInput(name="latent", data_type="TYPE_UINT8", dims=latent_shape)],
        output=[_config.ModelOutput(name="logits", data_type="TYPE_FP32", dims=[classes])],
        dynamic_batching=_config.ModelDynamicBatching(),
    )
    return text_format.MessageToString(config)
