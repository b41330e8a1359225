"""From predicted and trained splits to what the page and the figure draw: accuracy over bytes, predicted, measured.

Pure, like plots.py: no plotting library. Texts for hovering are HTML, escaped here: plotly reads tags.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from isplit.records import Accuracy, Budget, Measurement, Prediction, PredictionsRecord, RemoteImage, SplitRecord
from isplit.report.placements import efficient, image_setting

_DESIGNS = {"linear": "", "pca": " (PCA)", "undercomplete": " (undercomplete)", "identity": " (identity)"}


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A measured placement: mean bytes, accuracy with its 95 % interval as distances, all in per cent."""

    bytes: float
    accuracy: float
    above: float
    below: float
    hover: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A cut over its budgets. `shade` is its place among the cuts, from 0 (first) to 1 (last)."""

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

    x: float
    x_above: float
    x_below: float
    y: float
    y_above: float
    y_below: float
    shade: float
    hover: str


@dataclass(frozen=True, kw_only=True)
class GroupSeries:
    """All that was measured for one set of classes.

    `images` are the compressed-image settings, `efficient` the indices of those that no other beats. `calibrated` says
    whether `pairs` hold predictions of trained accuracy, or the closed form's accuracy.
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
    """Return the series of every set of classes that anything was measured for.

    Args:
        predictions: What `predict` wrote.
        trained: Trained splits.
        order: All cuts of the model, in the order of computation.

    """
    rows = predictions.predictions if predictions else ()
    images = predictions.remote if predictions else ()
    shades = _shades([name for name in order if name in {one.cut for one in (*rows, *trained)}])
    names = dict.fromkeys(one.group for one in (*rows, *trained, *images))
    return tuple(
        _series(
            name,
            [one for one in rows if one.group == name],
            [one for one in trained if one.group == name],
            [one for one in images if one.group == name],
            shades,
        )
        for name in names
    )


def _shades(cuts: list[str]) -> dict[str, float]:
    return {name: number / max(len(cuts) - 1, 1) for number, name in enumerate(cuts)}


def _series(
    name: str,
    rows: list[Prediction],
    trained: list[SplitRecord],
    images: list[RemoteImage],
    shades: dict[str, float],
) -> GroupSeries:
    measured = [*(one.measurement for one in rows), *(one.measurement for one in trained)]
    best = {id(one) for one in efficient(images)}
    pairs = [_pair(one, _before(one, rows), shades) for one in trained]
    return GroupSeries(
        name=name,
        whole=_whole(max(measured, key=lambda one: one.whole.images).whole) if measured else None,
        lines=_lines([(one, _hover(one)) for one in rows], shades),
        trained=_lines([(one, _trained_hover(one)) for one in trained], shades),
        images=tuple(_dot(one.payload_bytes.mean, one.accuracy, _image_hover(one)) for one in images),
        efficient=tuple(
            sorted((n for n, one in enumerate(images) if id(one) in best), key=lambda n: images[n].payload_bytes.mean)
        ),
        pairs=tuple(pair for pair in pairs if pair is not None),
        calibrated=any(one.predicted_accuracy is not None for one in rows),
    )


def _whole(found: Accuracy) -> Whole:
    return Whole(accuracy=100 * found.accuracy, low=100 * found.low, high=100 * found.high)


def _dot(count_bytes: float, found: Accuracy, hover: str) -> Dot:
    return Dot(
        bytes=count_bytes,
        accuracy=100 * found.accuracy,
        above=100 * (found.high - found.accuracy),
        below=100 * (found.accuracy - found.low),
        hover=hover,
    )


def _lines(found: list[tuple[Prediction | SplitRecord, str]], shades: dict[str, float]) -> tuple[Line, ...]:
    """One line for each cut and design, its dots in the order of their bytes."""
    by_line: dict[tuple[str, str], list[Dot]] = defaultdict(list)
    for one, hover in found:
        measured = one.measurement
        by_line[one.cut, design_of(one)].append(_dot(measured.payload_bytes.mean, measured.accuracy, hover))
    return tuple(
        Line(
            label=escape(cut, quote=False) + _DESIGNS[design],
            shade=shades[cut],
            dashed=design != "linear",
            dots=tuple(sorted(dots, key=lambda dot: dot.bytes)),
        )
        for (cut, design), dots in sorted(by_line.items(), key=lambda item: (shades[item[0][0]], item[0][1]))
    )


def design_of(one: Prediction | SplitRecord) -> str:
    """Return the name of the bottleneck's design."""
    return one.design if isinstance(one, Prediction) else one.bottleneck.design


def _before(trained: SplitRecord, rows: list[Prediction]) -> Prediction | None:
    """Return what was predicted for a trained split: of its own design if there is one."""
    same = [one for one in rows if (one.cut, one.budget) == (trained.cut, trained.budget)]
    return min(same, key=lambda one: one.design != trained.bottleneck.design, default=None)


def _pair(trained: SplitRecord, before: Prediction | None, shades: dict[str, float]) -> Pair | None:
    if before is None:
        return None
    x, y = before.measurement.accuracy, trained.measurement.accuracy
    predicted, above, below = x.accuracy, x.high - x.accuracy, x.accuracy - x.low
    if before.predicted_accuracy is not None:
        predicted = before.predicted_accuracy
        above = below = 2 * (before.predicted_stderr or 0.0)
    return Pair(
        x=100 * predicted,
        x_above=100 * above,
        x_below=100 * below,
        y=100 * y.accuracy,
        y_above=100 * (y.high - y.accuracy),
        y_below=100 * (y.accuracy - y.low),
        shade=shades[trained.cut],
        hover=f"{_trained_hover(trained)}<br>before: {_share(x)} on the {before.measurement.part} part",
    )


# ---- hover ----


def budget_text(one: Prediction | SplitRecord) -> str:
    """Name a split's budget: "512 bytes" or "1 in 64 elements"."""
    return budget_words(one.budget)


def budget_words(budget: Budget) -> str:
    """Name a budget: "512 bytes" or "1 in 64 elements"."""
    return (
        f"{budget.payload_bytes:,} bytes"
        if budget.payload_bytes is not None
        else f"1 in {budget.element_ratio:g} elements"
    )


def _share(found: Accuracy) -> str:
    return f"{found.accuracy:.1%} ({100 * found.low:.1f}–{100 * found.high:.1f}, {found.images:,} images)"


def _measured(found: Measurement) -> str:
    payload, against = found.payload_bytes, found.against_whole
    difference = f"{100 * against.difference:+.1f} ± {100 * against.stderr:.1f}".replace("-", "−")
    return (
        f"{_share(found.accuracy)}<br>{difference} points against the whole model"
        f"<br>bytes: mean {payload.mean:,.1f}, 95 % up to {payload.p95:,.0f}, at most {payload.max:,}"
        f"<br>device: {found.head_mac_share:.1%} of the MACs, encoder included; latent of {found.elements:,}"
    )


def _hover(one: Prediction) -> str:
    head = f"<b>{escape(one.cut, quote=False)}</b>{_DESIGNS[one.design]}, budget {budget_text(one)}"
    after = "" if one.predicted_accuracy is None else f"<br>after training, predicted: {one.predicted_accuracy:.1%}"
    return f"{head}<br>before training: {_measured(one.measurement)}{after}"


def _trained_hover(one: SplitRecord) -> str:
    epochs = f", {one.training.epochs} epochs" if one.training else ""
    design = _DESIGNS[one.bottleneck.design]
    head = f"<b>{escape(one.cut, quote=False)}</b>{design}, budget {budget_text(one)}, trained{epochs}"
    return f"{head}<br>{one.measurement.part} part: {_measured(one.measurement)}"


def _image_hover(one: RemoteImage) -> str:
    payload = one.payload_bytes
    return (
        f"<b>remote: {image_setting(one)}</b><br>{_share(one.accuracy)}"
        f"<br>bytes: mean {payload.mean:,.0f}, 95 % up to {payload.p95:,.0f}, at most {payload.max:,}"
    )
