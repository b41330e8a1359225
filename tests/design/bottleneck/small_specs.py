"""One small bottleneck of every kind."""

import numpy as np

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.undercomplete import undercomplete_widths
from isplit.records import (
    Accuracy,
    BottleneckSpec,
    Budget,
    Design,
    Measurement,
    Paired,
    PayloadBytes,
    SplitRecord,
)

MODEL = "f" * 64
BUDGET = Budget(payload_bytes=64)


def spec_of(design: Design, shape: tuple[int, ...], axis: int, **fields: object) -> BottleneckSpec:
    if design == "undercomplete":
        fields["widths"] = undercomplete_widths(PatchLayout(shape, axis), elements=max(1, int(np.prod(shape)) // 4))
    return BottleneckSpec.model_validate({"design": design, "shape": shape, "channel_axis": axis, **fields})


def specs() -> dict[str, BottleneckSpec]:
    by_name = {
        "linear map": spec_of("linear", (6, 4, 4), 1, ranks=(3,)),
        "linear map, channels last": spec_of("linear", (4, 6, 5), -1, ranks=(2,)),
        "linear patches": spec_of("linear", (3, 8, 8), 1, patch=4, ranks=(7,)),
        "linear patches that do not fit": spec_of("linear", (3, 7, 5), 1, patch=2, ranks=(4,)),
        "linear patches that do not fit, channels last": spec_of("linear", (5, 7, 3), -1, patch=4, ranks=(9,)),
        "linear of one position": spec_of("linear", (8, 1, 1), 1, ranks=(1,)),
        "linear tokens": spec_of("linear", (9, 6), -1, ranks=(4,)),
        "linear tokens, class token": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 2)),
        "linear tokens, more in front than fit a row": spec_of("linear", (7, 6), -1, prefix=3, ranks=(5, 2)),
        "linear tokens, class token only": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 0)),
        "linear tokens, grid only": spec_of("linear", (10, 6), -1, prefix=1, ranks=(0, 3)),
        "linear patches, joint": spec_of("linear", (3, 8, 8), 1, patch=4, ranks=(7,), joint=9),
        "linear map, channels last, joint": spec_of("linear", (4, 6, 5), -1, ranks=(2,), joint=3),
        "linear tokens, class token, joint": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 2), joint=6),
        "linear tokens, class token only, joint": spec_of("linear", (10, 6), -1, prefix=1, ranks=(5, 0), joint=4),
        "linear tokens, grid only, joint": spec_of("linear", (10, 6), -1, prefix=1, ranks=(0, 3), joint=5),
        "pca map": spec_of("pca", (6, 4, 4), 1, patch=2, ranks=(3,)),
        "pca tokens": spec_of("pca", (10, 6), -1, prefix=1, ranks=(2, 1)),
        "identity map": spec_of("identity", (6, 3, 5), 1),
        "identity map, channels last": spec_of("identity", (3, 5, 6), -1),
        "identity tokens": spec_of("identity", (9, 6), -1),
        "undercomplete tokens": spec_of("undercomplete", (9, 16), -1),
        "undercomplete map, channels last": spec_of("undercomplete", (9, 7, 16), -1),
        "undercomplete map 4x9": spec_of("undercomplete", (16, 4, 9), 1),
    }
    for side in range(1, 10):
        by_name[f"undercomplete map {side}x{side}"] = spec_of("undercomplete", (16, side, side), 1)
    return by_name


SPECS = specs()


def record_of(spec: BottleneckSpec) -> SplitRecord:
    """Return a record of a split that was measured on ten images."""
    accuracy = Accuracy.from_counts(9, 10)
    figures = "elements encoder_macs encoder_parameters decoder_macs decoder_parameters head_macs".split()
    measurement = Measurement(
        part="select",
        accuracy=accuracy,
        whole=accuracy,
        against_whole=Paired.from_answers([True] * 10, [True] * 9 + [False]),
        per_class={"a": accuracy},
        payload_bytes=PayloadBytes.from_lengths([30, 40]),
        clipped_share=0.0,
        head_mac_share=0.5,
        **dict.fromkeys(figures, 1),
    )
    return SplitRecord(
        isplit_version="0",
        versions={},
        model=MODEL,
        cut="layer.1",
        group="all classes",
        budget=Budget(payload_bytes=64),
        bottleneck=spec,
        statistics_images=10,
        samples_per_dimension=None,
        shrinkage=0.0,
        training=None,
        seed=0,
        measurement=measurement,
    )
