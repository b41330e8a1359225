"""Say how long `predict` will take before it begins, from timed batches and from how many images each phase takes.

What scales with the network is counted in passes of it, and what scales with the length of vectors in products of
matrices. Both are timed on the machine, so that the estimate follows what else the machine is doing.
"""

import time
from collections.abc import Callable, Sequence
from math import inf

import torch

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.kept_gradients import kept_images
from isplit.design.closed_form.patch_size import possible_patches
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.measure.speed import FEW_IMAGES, ModelSpeed, measure_speed
from isplit.design.predict_quick import FIRST_IMAGES
from isplit.design.settings import PredictSettings
from isplit.design.study import StudyView
from isplit.records import Budget, Cut
from isplit.text import duration

_SIDE = 1024
"""The rows and columns of the matrices that are multiplied to time the machine."""
_CUBES = 10.0
"""What the moments of vectors with d entries and their solution take, in d³ multiplications of such a product: 4 for
the moments of 4·d samples, and the rest for the eigenvalue problem."""
_BUDGET_PRODUCTS = 20.0
"""What rank, step, tables, the joint map and the regression of one budget take at a cut, in products."""
_LATENT_PRODUCTS = 0.02
"""What latents of one image at one cut take, in products."""
_MEASURED_SETTINGS = 13
"""Settings of the compressed image that are measured on all images: 15 for photographs of objects, 8 for letters."""
_LIGHT_MACS = 2 * 10**9
"""Networks of fewer operations are timed with whole batches, others with few images, to begin soon."""
_DECODER_SHARE = 2 / 3
"""The share of the images for decoders that are mostly looked at where decoders are estimated again at all."""
_LATENT_PASSES = 2
"""Passes over the images: for the latents of positions, and for those that joint maps are solved from."""


def measure_product(*, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that a product of two matrices of 1,024 rows and columns takes on the processor, in float32.

    Args:
        clock: Returns seconds. Tests give a clock of their own.

    """
    matrix = torch.full((_SIDE, _SIDE), 0.5)
    times: list[float] = []
    for _ in range(3):
        start = clock()
        torch.mm(matrix, matrix)
        times.append(clock() - start)
    return min(times)


def timed_images(macs: int, *, batch_size: int) -> int:
    """Return how many images to time a network of so many operations with, which will compute in batches.

    Examples:
        >>> timed_images(10**9, batch_size=16), timed_images(15 * 10**9, batch_size=16)
        (16, 4)

    """
    return batch_size if macs < _LIGHT_MACS else min(batch_size, FEW_IMAGES)


def predict_seconds(
    speed: ModelSpeed,
    product_s: float,
    cuts: Sequence[Cut],
    budgets: Sequence[Budget],
    *,
    settings: PredictSettings,
    fit_images: int,
    select_images: int,
) -> float:
    """Estimate the seconds that predicting these cuts takes.

    Args:
        speed: How long the model takes for an image.
        product_s: How long the product of `measure_product` takes.
        cuts: The cuts; a split at a cut runs the model's operations behind it once more.
        budgets: The budgets of each cut.
        settings: How many images each phase takes.
        fit_images: Images of the fit part, which statistics are from.
        select_images: Images of the select part, where the settings take all of them.

    """
    statistics = min(settings.statistics_images, fit_images)
    others = fit_images - statistics
    decoders = min(settings.tuning.decoder_factor * statistics, others) * _DECODER_SHARE if cuts and others else 0
    images = select_images if settings.images is None else min(settings.images, select_images)
    remote = select_images if settings.remote_images is None else min(settings.remote_images, select_images)
    tails = len(budgets) * sum(map(_tail_share, cuts))
    lengths = {cut: vector_lengths(cut, statistics, settings.tuning) for cut in cuts}
    # Each size of patches at a cut becomes a split, whose tail is run on the images that sizes are compared on.
    compared_tails = len(budgets) * sum(len(of_cut) * _tail_share(cut) for cut, of_cut in lengths.items() if of_cut[1:])
    compared = min(settings.tuning.compared_images, others) * (1 + compared_tails) if compared_tails else 0
    # In a quick run every round has half of the splits on twice the images of the one before.
    rounds = sum(images > FIRST_IMAGES * 2**number for number in range(20))
    evaluated = images if not settings.quick else min(images, FIRST_IMAGES * (1 + rounds / 2))
    pilot = min(statistics, settings.tuning.pilot_images)
    repeated = pilot - kept_images(cuts, pilot, batch_size=settings.batch_size)
    passes_s = (statistics + repeated) * speed.gradient_s
    forward = _LATENT_PASSES * statistics + decoders + compared + evaluated * (1 + tails)
    forward += (1 + _MEASURED_SETTINGS) * remote
    cubes = sum((width / _SIDE) ** 3 for of_cut in lengths.values() for width in of_cut)
    products = _CUBES * cubes + len(cuts) * (
        _BUDGET_PRODUCTS * len(budgets) + _LATENT_PRODUCTS * _LATENT_PASSES * statistics
    )
    return passes_s + forward * speed.forward_s + products * product_s


def _tail_share(cut: Cut) -> float:
    """Return the share of the model's operations that the tail of a cut has."""
    return cut.tail_macs / max(cut.head_macs + cut.tail_macs, 1)


def vector_lengths(cut: Cut, images: int, tuning: ClosedFormTuning) -> list[int]:
    """Return the lengths of the vectors that a cut is solved for: one, or two where patches of two sizes are compared.

    The largest patch that a map has room for gives up channels where it has too many; whether that is worth it depends
    on the eigenvalues, so it is taken to be.

    Args:
        cut: The cut.
        images: The number of images that the statistics are from.
        tuning: How long a vector may be.

    """
    alike = [1.0] * PatchLayout.of(cut).channels
    patches = possible_patches(cut, images=images, eigenvalues=alike, loss=inf, tuning=tuning)
    return [patch * patch * channels for patch, channels in patches]


def timed_estimate(
    view: StudyView, cuts: Sequence[Cut], budgets: Sequence[Budget], *, settings: PredictSettings
) -> str:
    """Time a batch and a product of matrices on this machine, and return the sentence on how long it will take."""
    study = view.study
    images = timed_images(study.graph_record.macs, batch_size=settings.batch_size)
    seconds = predict_seconds(
        measure_speed(study.model, images=images),
        measure_product(),
        cuts,
        budgets,
        settings=settings,
        fit_images=len(view.images("fit")),
        select_images=len(view.images("select")),
    )
    return estimate_text(seconds, cuts=len(cuts), budgets=len(budgets))


def estimate_text(seconds: float, *, cuts: int, budgets: int) -> str:
    """Return an estimate as a sentence.

    Examples:
        >>> estimate_text(230.0, cuts=19, budgets=2)
        'Estimated time: about 4 min for 19 cuts x 2 budgets.'

    """
    return (
        f"Estimated time: {duration(seconds)} for {cuts} cut{'' if cuts == 1 else 's'} x {budgets} "
        f"budget{'' if budgets == 1 else 's'}."
    )
