"""Show a study and its predictions in a notebook, as HTML without scripts, style sheets or outer files.

A fragment looks the same on a light and on a dark page, because its text takes the colour of the page.
"""

from isplit.records import CandidatesRecord, CurveRecord, GraphRecord, PredictionsRecord, StudyRecord
from isplit.report.curve_series import method_label
from isplit.report.figures.curve import notebook_svg
from isplit.report.tables import placements_table
from isplit.report.templating import render

MOST_CANDIDATES = 8
MOST_ROWS = 100
"""Most rows of predictions that are shown; a notebook has the record itself for the others."""


def study_html(study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> str:
    """Return a study as a fragment: the network's accuracy, the ranked candidates, and the curve as inline SVG.

    Args:
        study: The study's record.
        graph: The cuts.
        curve: Their importance.
        candidates: The ranking.

    """
    context = {
        "study": study,
        "graph": graph,
        "candidates": candidates,
        "shown": candidates.candidates[:MOST_CANDIDATES],
        "method": method_label(curve.method),
        "figure": notebook_svg(study, graph, curve, candidates) if curve.points else "",
    }
    return render("fragments/study.html", context)


def predictions_html(record: PredictionsRecord) -> str:
    """Return predictions as a fragment: a table of every split, of the whole model, and of compressed images.

    At most 100 rows are shown, and the fragment says how many there are.
    """
    table = placements_table(record, (), cut_numbers={})
    context = {
        "record": record,
        "columns": table.columns,
        "rows": table.rows[:MOST_ROWS],
        "left_out": max(0, len(table.rows) - MOST_ROWS),
    }
    return render("fragments/predictions.html", context)
