"""Turn predicted and trained splits into what the figures draw: accuracy over bytes, and predicted against measured.

As in curve_series.py, there is no drawing and no markup. Each point has a text: a title, and lines below it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from isplit.plan.verdict import image_setting
from isplit.records import Accuracy, Measurement, Prediction, PredictionsRecord, RemoteImage, SplitRecord
from isplit.report.placements import efficient
from isplit.report.text import budget_text, signed_points

_DESIGNS = {"linear": "", "pca": " (PCA)", "undercomplete": " (undercomplete)", "identity": " (identity)"}


def _written(design: str) -> str:
    """Return a design as it appears after a cut's name; a user's own design has the name of its class."""
    return _DESIGNS.get(design, f" ({design})")


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A measured placement: mean bytes, and accuracy with its 95 % interval as distances, in per cent.

    `tip` is its text: the first line is its title.
    """

    bytes: float
    accuracy: float
    above: float
    below: float
    tip: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A cut over its budgets. `shade` is its place among the cuts, from 0 (first) to 1 (last)."""

    cut: str
    label: str
    shade: float
    dashed: bool
    dots: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The whole model's accuracy with its interval, in per cent."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A split before training (x) and after (y), each with its interval as distances, in per cent."""

    cut: str
    x: float
    x_above: float
    x_below: float
    y: float
    y_above: float
    y_below: float
    shade: float
    tip: str


@dataclass(frozen=True, kw_only=True)
class GroupSeries:
    """All measurements for one set of classes.

    `images` are the compressed-image settings, and `efficient` the indices of those that no other beats. `calibrated`
    says whether `pairs` hold predictions of trained accuracy, or the closed form's accuracy.
    """

    name: str
    whole: Whole | None
    lines: tuple[Line, ...]
    trained: tuple[Line, ...]
    images: tuple[Dot, ...]
    efficient: tuple[int, ...]
    pairs: tuple[Pair, ...]
    calibrated: bool


def group_series(
    predictions: PredictionsRecord | None, trained: Sequence[SplitRecord], *, order: Sequence[str]
) -> tuple[GroupSeries, ...]:
    """Return the series of every set of classes with measurements.

    Args:
        predictions: The record of `predict`.
        trained: Trained splits.
        order: All cuts of the model, in the order of computation.

    """
    rows = predictions.predictions if predictions else ()
    images = predictions.remote if predictions else ()
    measured_cuts = {split.cut for split in (*rows, *trained)}
    shades = _shades([name for name in order if name in measured_cuts])
    names = dict.fromkeys(item.group for item in (*rows, *trained, *images))
    return tuple(
        _series(
            name,
            [prediction for prediction in rows if prediction.group == name],
            [split for split in trained if split.group == name],
            [image for image in images if image.group == name],
            shades,
        )
        for name in names
    )


def _shades(cuts: list[str]) -> dict[str, float]:
    return {name: number / max(len(cuts) - 1, 1) for number, name in enumerate(cuts)}


def _series(
    name: str,
    predictions: list[Prediction],
    trained: list[SplitRecord],
    images: list[RemoteImage],
    shades: dict[str, float],
) -> GroupSeries:
    measurements = [split.measurement for split in (*predictions, *trained)]
    unbeaten = {id(image) for image in efficient(images)}
    pairs = [_pair(split, _before(split, predictions), shades) for split in trained]
    return GroupSeries(
        name=name,
        whole=_whole(max((m.whole for m in measurements), key=lambda whole: whole.images)) if measurements else None,
        lines=_lines([(prediction, _prediction_tip(prediction)) for prediction in predictions], shades),
        trained=_lines([(split, _trained_tip(split)) for split in trained], shades),
        images=tuple(_dot(image.payload_bytes.mean, image.accuracy, _image_tip(image)) for image in images),
        efficient=tuple(
            sorted(
                (index for index, image in enumerate(images) if id(image) in unbeaten),
                key=lambda index: images[index].payload_bytes.mean,
            )
        ),
        pairs=tuple(pair for pair in pairs if pair is not None),
        calibrated=any(prediction.predicted_accuracy is not None for prediction in predictions),
    )


def _whole(accuracy: Accuracy) -> Whole:
    return Whole(accuracy=100 * accuracy.accuracy, low=100 * accuracy.low, high=100 * accuracy.high)


def _dot(mean_bytes: float, accuracy: Accuracy, tip: str) -> Dot:
    return Dot(
        bytes=mean_bytes,
        accuracy=100 * accuracy.accuracy,
        above=100 * (accuracy.high - accuracy.accuracy),
        below=100 * (accuracy.accuracy - accuracy.low),
        tip=tip,
    )


def _lines(splits: list[tuple[Prediction | SplitRecord, str]], shades: dict[str, float]) -> tuple[Line, ...]:
    """Return a line for each cut and design, its dots in the order of their bytes."""
    by_line: dict[tuple[str, str], list[Dot]] = defaultdict(list)
    for split, tip in splits:
        measurement = split.measurement
        dot = _dot(measurement.payload_bytes.mean, measurement.accuracy, tip)
        by_line[split.cut, design_of(split)].append(dot)
    return tuple(
        Line(
            cut=cut,
            label=cut + _written(design),
            shade=shades[cut],
            dashed=design != "linear",
            dots=tuple(sorted(dots, key=lambda dot: dot.bytes)),
        )
        for (cut, design), dots in sorted(by_line.items(), key=lambda item: (shades[item[0][0]], item[0][1]))
    )


def design_of(split: Prediction | SplitRecord) -> str:
    """Return the name of the bottleneck's design."""
    return split.design if isinstance(split, Prediction) else split.bottleneck.design


def _before(trained: SplitRecord, predictions: list[Prediction]) -> Prediction | None:
    """Return the prediction for a trained split: that of its own design if there is one."""
    same = [row for row in predictions if (row.cut, row.budget) == (trained.cut, trained.budget)]
    return min(same, key=lambda row: row.design != trained.bottleneck.design, default=None)


def _pair(trained: SplitRecord, before: Prediction | None, shades: dict[str, float]) -> Pair | None:
    if before is None:
        return None
    x, y = before.measurement.accuracy, trained.measurement.accuracy
    predicted, above, below = x.accuracy, x.high - x.accuracy, x.accuracy - x.low
    if before.predicted_accuracy is not None:
        predicted = before.predicted_accuracy
        above = below = 0.0
        if before.predicted_low is not None and before.predicted_high is not None:
            above, below = max(before.predicted_high - predicted, 0.0), max(predicted - before.predicted_low, 0.0)
    return Pair(
        cut=trained.cut,
        x=100 * predicted,
        x_above=100 * above,
        x_below=100 * below,
        y=100 * y.accuracy,
        y_above=100 * (y.high - y.accuracy),
        y_below=100 * (y.accuracy - y.low),
        shade=shades[trained.cut],
        tip=f"{_trained_tip(trained)}\nbefore: {_share(x)} on the {before.measurement.part} part",
    )


# ---- the texts of points ----


def _share(accuracy: Accuracy) -> str:
    interval = f"{100 * accuracy.low:.1f}–{100 * accuracy.high:.1f}"
    return f"{accuracy.accuracy:.1%} ({interval}, {accuracy.images:,} images)"


def _measured(measurement: Measurement) -> str:
    payload, against = measurement.payload_bytes, measurement.against_whole
    return (
        f"{_share(measurement.accuracy)}"
        f"\n{signed_points(against.difference, against.stderr)} points against the whole model"
        f"\nbytes: mean {payload.mean:,.1f}, 95 % up to {payload.p95:,.0f}, at most {payload.max:,}"
        f"\ndevice: {measurement.head_mac_share:.1%} of the MACs, encoder included; latent of {measurement.elements:,}"
    )


def _prediction_tip(prediction: Prediction) -> str:
    title = f"{prediction.cut}{_written(prediction.design)}, budget {budget_text(prediction)}"
    after = prediction.predicted_accuracy
    last = "" if after is None else f"\nafter training, predicted: {after:.1%}"
    return f"{title}\nbefore training: {_measured(prediction.measurement)}{last}"


def _trained_tip(split: SplitRecord) -> str:
    epochs = f", {split.training.epochs} epochs" if split.training else ""
    title = f"{split.cut}{_written(split.bottleneck.design)}, budget {budget_text(split)}, trained{epochs}"
    return f"{title}\n{split.measurement.part} part: {_measured(split.measurement)}"


def _image_tip(image: RemoteImage) -> str:
    payload = image.payload_bytes
    return (
        f"remote: {image_setting(image)}\n{_share(image.accuracy)}"
        f"\nbytes: mean {payload.mean:,.0f}, 95 % up to {payload.p95:,.0f}, at most {payload.max:,}"
    )
