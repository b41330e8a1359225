"""Say how long `predict` will take before it begins, from a timed batch and from how many images each phase takes."""

from collections.abc import Sequence

from isplit.design.measure.speed import ModelSpeed
from isplit.design.predict_quick import FIRST_IMAGES
from isplit.design.settings import PredictSettings
from isplit.records import Budget, Cut
from isplit.text import duration

# Rough, from runs on one core: an estimate may be off by half.
_SOLVE_S = 2.5
_TABLES_S = 1.0
_LATENT_PASSES = 2
_MEASURED_SETTINGS = 8


def predict_seconds(
    speed: ModelSpeed, cuts: Sequence[Cut], budgets: Sequence[Budget], *, settings: PredictSettings, select_images: int
) -> float:
    """Estimate the seconds that predicting these cuts takes.

    Args:
        speed: How long the model takes for an image.
        cuts: The cuts; a split at a cut runs the model's operations behind it once more.
        budgets: The budgets of each cut.
        settings: How many images each phase takes.
        select_images: Images of the select part, where the settings take all of them.

    """
    statistics = settings.statistics_images
    images = select_images if settings.images is None else min(settings.images, select_images)
    remote = select_images if settings.remote_images is None else min(settings.remote_images, select_images)
    tails = len(budgets) * sum(cut.tail_macs / max(cut.head_macs + cut.tail_macs, 1) for cut in cuts)
    # In a quick run every round has half of the splits on twice the images of the one before.
    rounds = sum(images > FIRST_IMAGES * 2**number for number in range(20))
    evaluated = images if not settings.quick else min(images, FIRST_IMAGES * (1 + rounds / 2))
    passes_s = (statistics + min(statistics, settings.tuning.pilot_images)) * speed.gradient_s
    passes_s += (_LATENT_PASSES * statistics + evaluated * (1 + tails) + _MEASURED_SETTINGS * remote) * speed.forward_s
    return passes_s + len(cuts) * (_SOLVE_S + len(budgets) * _TABLES_S)


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
