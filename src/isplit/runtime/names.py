"""Define names in requests and answers that device and server share, beyond those of the Open Inference Protocol."""

MODEL_SHA256 = "model_sha256"
"""A request's parameter (string): the SHA-256 of the ONNX file that is meant by the model's name.

Two bundles may use the same names for models. A server that runs another file refuses the request; servers that do not
know the parameter ignore it.
"""

PROVIDER = "provider"
"""An answer's parameter (string): the provider that ran the model ("cuda"); left out for the CPU if it was requested.
"""

PROBE_METHOD = "/isplit.Probe/Exchange"
"""The method that `isplit probe` calls. It exchanges bytes within the limits below."""

MAX_PROBE_BYTES = 60_000
"""The longest message of a probe in either direction; it fits into HTTP/2's first window."""

PROBE_SIZE_BYTES = 4
"""A probe's request begins with the number of bytes that it wants back, big endian; the rest is filler."""
