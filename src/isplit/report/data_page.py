"""Make the page of `isplit data`: parts, classes beside the model's outputs, and samples, in one small HTML file."""

from markupsafe import Markup

from isplit.records import DataCheckRecord
from isplit.report.templating import asset, render


def data_html(check: DataCheckRecord) -> str:
    """Return the page as text; it needs no network and runs no script."""
    return render("data.html", {"check": check, "style": Markup(asset("data.css"))})
