"""What a bottleneck costs: its work, its numbers and the size of its latent."""

import pytest

from isplit.design.bottleneck.sides import measure_work
from isplit.design.bottleneck.spec import build_bottleneck
from isplit.records import (
    BottleneckSpec,
)
from tests.design.bottleneck.small_specs import BUDGET, spec_of


@pytest.mark.parametrize(
    ("spec", "macs", "numbers"),
    [
        # 4 patches of 2·2·2 numbers: each to be standardised, and to be multiplied for 3 latents; 3 rows, 2 + 2 scales.
        (spec_of("linear", (2, 4, 4), 1, patch=2, ranks=(3,)), (4 * 8 * 4,) * 2, (3 * 8 + 4,) * 2),
        # Half-empty patches cost as much as whole ones.
        (spec_of("linear", (2, 3, 3), 1, patch=2, ranks=(3,)), (4 * 8 * 4,) * 2, (3 * 8 + 4,) * 2),
        # One token in front with 2 latents, four of the grid with 3.
        (
            spec_of("linear", (5, 6), -1, prefix=1, ranks=(2, 3)),
            (1 * 6 * 3 + 4 * 6 * 4,) * 2,
            (2 * 6 + 12 + 3 * 6 + 12,) * 2,
        ),
        (spec_of("identity", (5, 6), -1), (0, 0), (0, 0)),
        # 9×9 to 5×5 to 3×3; 8 channels to 1 to 2, kernels of 9. Four numbers a channel of a norm, 8 biases at the end.
        (
            BottleneckSpec(design="undercomplete", shape=(8, 9, 9), channel_axis=1, widths=(1, 2)),
            (25 * 9 * 8 + 9 * 9 * 2,) * 2,
            (16 + 72 + 4 + 18 + 8, 16 + 18 + 4 + 72 + 8),
        ),
        # Three tokens, kernels of one.
        (
            BottleneckSpec(design="undercomplete", shape=(3, 8), channel_axis=-1, widths=(1, 2)),
            (3 * 8 + 3 * 2,) * 2,
            (16 + 8 + 4 + 2 + 8, 16 + 2 + 4 + 8 + 8),
        ),
    ],
)
def test_work_is_counted(spec: BottleneckSpec, macs: tuple[int, int], numbers: tuple[int, int]) -> None:
    """MACs and numbers of each side, by hand."""
    work = measure_work(build_bottleneck(spec, BUDGET), spec.shape)

    assert macs == (work.encoder_macs, work.decoder_macs)
    assert numbers == (work.encoder_parameters, work.decoder_parameters)


@pytest.mark.parametrize(("side", "latent"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3), (7, 2), (8, 2), (9, 3)])
def test_strides_stop_below_four(side: int, latent: int) -> None:
    """9 → 5 → 3, but 6 → 3 → 3: a stride that would leave less than half of four is dropped."""
    built = build_bottleneck(spec_of("undercomplete", (16, side, side), 1), BUDGET)

    assert (latent, latent) == built.latent_shape[1:]
