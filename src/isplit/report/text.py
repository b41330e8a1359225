"""Write numbers and names as plain text, for the terminal's tables, the page and its figures; templates escape it."""

from collections.abc import Sequence

from isplit.records import Budget, Prediction, Predictor, Rule, SplitRecord

KIB = 1024

RULES: dict[Rule, str] = {
    "importance-maximum": "local maximum of the importance",
    "natural-bottleneck": "natural bottleneck",
    "size-minimum": "local minimum of the size",
    "above-trend": "point above the trend of the curve",
}
SHORT_RULES: dict[Rule, str] = {
    "importance-maximum": "importance maximum",
    "natural-bottleneck": "natural bottleneck",
    "size-minimum": "size minimum",
    "above-trend": "above trend",
}
"""The rules that find candidates, in a few words for tables."""

PREDICTOR_NAMES: dict[Predictor, str] = {
    "cui": "importance (CUI)",
    "size": "fewest bytes",
    "depth": "deepest",
    "closed-form": "closed form, untrained",
    "closeness": "closed form, closeness",
    "calibrated": "closed form, calibrated",
}
"""The rules by which cuts are ranked before training."""


def minus(number: str) -> str:
    """Return a number with a true minus sign."""
    return number.replace("-", "−")


def percent(share: float) -> str:
    """Return a share as per cent with one decimal."""
    return f"{100 * share:.1f}\u00a0%"


def kib(count_bytes: float) -> str:
    """Return bytes as KiB with four digits."""
    return f"{count_bytes / KIB:,.4g}\u00a0KiB"


def times(ratio: float) -> str:
    """Return a ratio with three digits and a multiplication sign."""
    return f"{ratio:.3g}\u00a0×"


def signed_points(difference: float, stderr: float) -> str:
    """Return a difference of two shares in points, with its sign and its standard error."""
    return minus(f"{100 * difference:+.1f}") + f" ± {100 * stderr:.1f}"


def budget_text(split: Prediction | SplitRecord) -> str:
    """Name a split's budget: "512 bytes" or "1 in 64 elements"."""
    return budget_words(split.budget)


def budget_words(budget: Budget) -> str:
    """Name a budget: "512 bytes" or "1 in 64 elements"."""
    if budget.payload_bytes is not None:
        return f"{budget.payload_bytes:,} bytes"
    return f"1 in {budget.element_ratio:g} elements"


def found_by(rules: Sequence[Rule]) -> str:
    """Return the kind of a candidate in words: "local maximum of the importance and natural bottleneck"."""
    return join_words([RULES[rule] for rule in rules])


def join_words(items: Sequence[str]) -> str:
    """Join as prose: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
