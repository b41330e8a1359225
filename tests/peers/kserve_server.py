"""KServe's Python model server with a bundle's tails as plain uint8 models. Runs in the peers' environment.

    .venv-peers/bin/python tests/peers/kserve_server.py BUNDLE GRPC_PORT HTTP_PORT

It runs until it is killed.
"""

import json
import sys
from pathlib import Path

import kserve
import onnxruntime


class Tail(kserve.Model):
    """One tail: `latent` UINT8 in, `logits` FP32 out. Knows nothing of isplit."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        latent = payload.inputs[0].as_numpy()
        (logits,) = self.session.run(["logits"], {"latent": latent})
        output = kserve.InferOutput("logits", list(logits.shape), "FP32")
        output.set_data_from_numpy(logits, binary_data=True)
        return kserve.InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


def main() -> None:
    """Serve until killed."""
    bundle, grpc_port, http_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    tails = [Tail(f"{manifest['name']}.{cut['name']}", bundle / cut["tail"]) for cut in manifest["cuts"]]
    kserve.ModelServer(grpc_port=grpc_port, http_port=http_port, workers=1).start(tails)


if __name__ == "__main__":
    main()
