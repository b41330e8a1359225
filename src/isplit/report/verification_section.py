"""The page's section about how well each rule had ranked the cuts before they were trained."""

from html import escape

from isplit.records import Predictor, PredictorScore, Verification, VerificationRecord
from isplit.report.markup import code, minus
from isplit.report.split_series import budget_words

PREDICTOR_NAMES: dict[Predictor, str] = {
    "cui": "importance (CUI)",
    "size": "fewest bytes",
    "depth": "deepest",
    "closed-form": "closed form, untrained",
    "calibrated": "closed form, calibrated",
}

_HEADS = ("Kendall τ", "Regret, first", "Regret, best of three", "Error of the accuracy")


def verification_section(record: VerificationRecord | None) -> str:
    """Return a table for every verification; nothing where none was made."""
    if record is None or not record.verifications:
        return ""
    tables = "".join(map(_table, record.verifications))
    return (
        '<section aria-labelledby="verified-title">'
        '<h2 id="verified-title"><span class="number">Table 3</span> Was it known beforehand?</h2>'
        f'<div class="scroll" role="region" aria-labelledby="verified-title" tabindex="0">{tables}</div>'
        '<p class="caption">Each rule ranked the cuts before any of them was trained. τ is 1 where the order is that '
        "of the accuracies after training, on the test part, and 0 where it is chance. Regrets are the points that the "
        "rule's first choice, or the best of its first three, stays below the best cut; the error is that of the "
        "predicted accuracy, a mean in points.</p></section>"
    )


def _table(one: Verification) -> str:
    heads = "".join(f'<th scope="col" class="number">{head}</th>' for head in _HEADS)
    rows = "".join(map(_row, one.scores))
    caption = (
        f"{escape(one.group)}, {budget_words(one.budget)}: {len(one.cuts)} cuts trained, at most {one.epochs} epochs "
        f"each, {one.training_seconds / 60:,.0f} minutes in all"
    )
    return (
        f'<table class="verified"><caption>{caption}</caption><thead><tr><th scope="col">Rule</th>'
        f'<th scope="col">Its first choice</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _row(one: PredictorScore) -> str:
    tau = "–" if one.kendall_tau is None else minus(f"{one.kendall_tau:.2f}")
    points = (one.top1_regret_points, one.top3_regret_points, one.mean_absolute_error_points)
    cells = "".join(
        f'<td class="number">{text}</td>'
        for text in (tau, *("–" if value is None else f"{value:.1f}" for value in points))
    )
    choice = "–" if one.top1 is None else code(one.top1)
    return f'<tr><th scope="row">{PREDICTOR_NAMES[one.predictor]}</th><td>{choice}</td>{cells}</tr>'
