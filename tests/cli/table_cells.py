"""The longest names and numbers that a table may hold."""

import re
from types import SimpleNamespace

from isplit.records import (
    Accuracy,
    Budget,
    Measurement,
    Paired,
    PayloadBytes,
    SplitRecord,
    Training,
)

NAME = "features.denseblock4.denselayer16.conv2"
OTHER = "layers.3.blocks.1.mlp.fc2:gelu_12"
ACCURACY = Accuracy.from_counts(4375, 5000)
PAIRED = Paired(only_first=900, only_second=11, difference=-0.1778, stderr=0.0123)
PAYLOAD = PayloadBytes(mean=123_456, p95=234_567, max=345_678, images=5000)
MEASURED = {
    "part": "test",
    "accuracy": ACCURACY,
    "whole": ACCURACY,
    "against_whole": PAIRED,
    "per_class": {},
    "payload_bytes": PAYLOAD,
    "elements": 10_000,
    "clipped_share": 0.0,
    **dict.fromkeys("encoder_macs encoder_parameters decoder_macs decoder_parameters head_macs".split(), 10**9),
    "head_mac_share": 1.0,
}


MEASUREMENT = Measurement.model_validate(MEASURED)
BUDGET = Budget(payload_bytes=1_048_576)


def columns_of(text):
    """The words of the first column, joined: a name that goes on in the next line is whole again."""
    return "".join(re.split(r"\s{2,}", line)[0] for line in text.splitlines())


def trained_split() -> SplitRecord:
    """Return a split that was trained on many images for long."""
    training = Training(
        start="closed-form",
        trained=("encoder",),
        part="fit",
        images=100_000,
        epochs=100,
        best_epoch=99,
        seconds=123_456,
        settings={},
        before=MEASUREMENT,
    )
    return SplitRecord.model_construct(
        cut="layer2.3",
        budget=BUDGET,
        measurement=MEASUREMENT,
        training=training,
        bottleneck=SimpleNamespace(design="linear"),
    )
