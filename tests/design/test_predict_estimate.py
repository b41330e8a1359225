"""How long predict will take: in passes of the network and in products of matrices, both timed on the machine."""

import itertools

import pytest

from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.measure.speed import ModelSpeed
from isplit.design.predict_estimate import measure_product, predict_seconds, vector_lengths
from isplit.design.settings import PredictSettings
from isplit.design.study import open_study
from isplit.records import Budget
from tests.design.conftest import make_cut


def test_estimates_follow_the_work(analysed) -> None:
    """More budgets and images take longer, and a quick run takes less."""
    cuts = open_study(analysed, allow_code=True).cuts()
    speed = ModelSpeed(forward_s=1.0, gradient_s=2.0)

    def seconds(budgets: int, **settings) -> float:
        wanted = [Budget(payload_bytes=100 + number) for number in range(budgets)]
        chosen = PredictSettings(**settings)
        return predict_seconds(speed, 0.1, cuts, wanted, settings=chosen, fit_images=5000, select_images=1000)

    assert seconds(1) < seconds(2) < seconds(2, images=None)
    assert seconds(1, images=256, quick=True) < seconds(1, images=256)


def test_the_parts_by_hand() -> None:
    """One cut without positions, 100 images of each kind, no compressed images: passes and products are counted."""
    cut = make_cut((64,)).model_copy(update={"head_macs": 75, "tail_macs": 25})
    settings = PredictSettings(statistics_images=100, images=100, remote_images=0)

    def seconds(*, forward_s: float, gradient_s: float, product_s: float) -> float:
        return predict_seconds(
            ModelSpeed(forward_s=forward_s, gradient_s=gradient_s),
            product_s,
            [cut],
            [Budget(payload_bytes=100)],
            settings=settings,
            fit_images=100,
            select_images=1000,
        )

    # Two passes for latents, none for decoders as no image is left, and the whole network and a quarter of it.
    assert 2 * 100 + 100 * 1.25 == pytest.approx(seconds(forward_s=1.0, gradient_s=0.0, product_s=0.0))
    # All statistics images, and those of the pilot, as many here, that are in no whole batch of 16.
    assert 100 + 4 == pytest.approx(seconds(forward_s=0.0, gradient_s=1.0, product_s=0.0))
    # The budget's products, those of the latents, and next to none to solve for 64 entries.
    assert 20 + 4 == pytest.approx(seconds(forward_s=0.0, gradient_s=0.0, product_s=1.0), abs=0.01)


def test_patches_of_two_sizes_are_compared_on_images_of_their_own() -> None:
    """Two sizes of patches at each of two budgets run a quarter of the network on 50 images more, and it runs once."""
    cut = make_cut((64, 32, 32)).model_copy(update={"head_macs": 75, "tail_macs": 25})

    def passes(compared_images: int) -> float:
        tuning = ClosedFormTuning(compared_images=compared_images)
        return predict_seconds(
            ModelSpeed(forward_s=1.0, gradient_s=0.0),
            0.0,
            [cut],
            [Budget(payload_bytes=100), Budget(payload_bytes=200)],
            settings=PredictSettings(statistics_images=640, remote_images=0, tuning=tuning),
            fit_images=1500,
            select_images=1000,
        )

    assert 50 * (1 + 2 * 2 * 0.25) == pytest.approx(passes(50) - passes(0))


@pytest.mark.parametrize(
    ("shape", "images", "expected"),
    [
        ((512,), 640, [512]),
        ((16, 32, 32), 640, [1024]),
        ((64, 32, 32), 640, [2048, 1024]),
        ((512, 8, 8), 640, [2048, 2048]),
        ((8, 3, 3), 640, [32]),
        ((8, 3, 3), 1, [4, 8]),
        ((8, 1, 1), 640, [8]),
        ((64, 8, 8), 4, [64, 256]),
    ],
)
def test_vector_lengths(shape: tuple[int, ...], images: int, expected: list[int]) -> None:
    """The largest patch with all channels, or two sizes where it has to give channels up; few images allow less."""
    assert expected == vector_lengths(make_cut(shape), images, ClosedFormTuning())


def test_the_fastest_of_three_products_counts() -> None:
    """A product that something else delayed does not count."""
    ticks = itertools.accumulate([0.0, 0.5, 0.0, 0.25, 0.0, 1.0])
    assert 0.25 == measure_product(clock=lambda: next(ticks))
