"""How results are worded on the command line."""

from isplit.records import Accuracy, Paired


def percent_with_interval(accuracy: Accuracy) -> str:
    """Write an accuracy in per cent with its 95 % interval.

    Examples:
        >>> percent_with_interval(Accuracy.from_counts(80, 100))
        '80.0% (71.1–86.7)'

    """
    return f"{accuracy.accuracy:.1%} ({100 * accuracy.low:.1f}–{100 * accuracy.high:.1f})"


def points_with_error(paired: Paired) -> str:
    """Write a difference of two accuracies in points with its standard error: "−1.2 ± 0.4"."""
    return f"{100 * paired.difference:+.1f} ± {100 * paired.stderr:.1f}".replace("-", "−")


def count_with_unit(number: float) -> str:
    """Write a large number with three digits and a unit.

    Examples:
        >>> count_with_unit(11_700_000)
        '11.7M'

    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"
