"""What a notebook shows: fragments that need nothing around them."""

import re
from html.parser import HTMLParser

import pytest

from isplit.records import PredictionsRecord
from isplit.report import predictions_html, study_html
from isplit.report.colours import NOTEBOOK, contrast
from tests.report.invented_study import Records

VOID = {"br", "wbr", "img"}


class _Balance(HTMLParser):
    """Follow the tags that are open, and keep all tags and what attributes would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(fragment: str) -> _Balance:
    parser = _Balance()
    parser.feed(fragment)
    assert parser.open == []
    return parser


def rows_of(fragment: str) -> list[list[str]]:
    body = fragment.split("<tbody>")[1].split("</tbody>")[0]
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr>.*?</tr>", body, flags=re.DOTALL)
    ]


def test_fragments_stand_alone(records: Records, predictions: PredictionsRecord):
    """Tags are balanced; there is no script, no style sheet that would change the notebook, and nothing to fetch."""
    for fragment in (study_html(*records), predictions_html(predictions)):
        parser = parsed(fragment)
        assert not {"script", "style", "link", "html", "body", "iframe"} & parser.tags
        assert parser.fetched == []
        assert " class=" not in fragment
        assert len(fragment) < 100_000


def test_study_shows_its_candidates_and_its_curve(records: Records):
    """Candidates are a table, first choice first, with the figures of candidates.json; the curve is inline SVG."""
    fragment = study_html(*records)
    expected = [
        ["1", "features.13", "−3.80", "yes", "32\u00a0KiB", "41.7\u00a0%"],
        ["2", "features.4", "−4.00", "yes", "64\u00a0KiB", "16.7\u00a0%"],
        ["3", "features.28", "−3.29", "no", "32\u00a0KiB", "83.3\u00a0%"],
        ["4", "features.30", "−3.40", "–", "8\u00a0KiB", "91.7\u00a0%"],
    ]
    assert expected == [row[:6] for row in rows_of(fragment)]
    assert "svg" in parsed(fragment).tags
    assert "log₁₀ CUI" in fragment
    assert "answers 83.0\u00a0% of 100 images correctly" in fragment
    assert "Only 100 images measure the base accuracy" in fragment


def test_study_without_a_curve_or_candidates_says_so(records: Records):
    """A model of linear layers only has neither, and still shows what it is."""
    study, graph, curve, candidates = records
    bare = curve.model_copy(update={"points": (), "subsets": ()})
    fragment = study_html(study, graph, bare, candidates.model_copy(update={"candidates": (), "subsets": ()}))
    assert "No cut stands out" in fragment
    assert "svg" not in parsed(fragment).tags


def test_predictions_are_a_table_of_all_placements(predictions: PredictionsRecord):
    """Every split, the whole model for each set of classes, and every compressed image, with their numbers."""
    rows = rows_of(predictions_html(predictions))
    assert 7 + 2 + 4 == len(rows)
    expected = [
        "features.4",
        "all classes",
        "before training",
        "128 bytes",
        "20.0",
        "127.5",
        "136",
        "136",
        "30",
        "50.0",
        "43.1–56.9",
    ]
    assert expected == rows[0][:11]
    expected = ["whole model", "all classes", "local", "", "100.0", "0", "0", "0", "0", "80.0", "73.9–85.0"]
    assert expected == rows[7][:11]
    assert "WebP quality 5, side × 0.5" == rows[-1][0]


def test_long_tables_are_cut_off_and_say_so(predictions: PredictionsRecord):
    """A notebook is no place for a thousand rows."""
    many = predictions.model_copy(update={"predictions": predictions.predictions * 20})
    fragment = predictions_html(many)
    expected = 100
    assert expected == len(rows_of(fragment))
    assert f"{7 * 20 + 2 + 4 - 100} more rows are not shown." in fragment
    assert "more rows" not in predictions_html(predictions)


def test_names_are_escaped(records: Records, predictions: PredictionsRecord):
    """A name that looks like a tag is text in both fragments."""
    study, graph, curve, candidates = records
    data = study.data.model_copy(update={"spec": "<script>alert(1)</script>"})
    odd = predictions.predictions[0].model_copy(update={"cut": "<img src=x>"})
    fragment = study_html(study.model_copy(update={"data": data}), graph, curve, candidates)
    fragment += predictions_html(predictions.model_copy(update={"predictions": (odd,)}))
    assert not {"script", "img"} & parsed(fragment).tags


@pytest.mark.parametrize("ground", ["#ffffff", "#1e1e1e"])
def test_lines_stand_out_on_light_and_on_dark_notebooks(ground: str):
    """WCAG AA asks for 3 between graphics and what is behind them; words have the notebook's own colour."""
    assert {"currentColor"} == {NOTEBOOK["ink"], NOTEBOOK["soft"]}
    assert [name for name in ("blue", "accent", "slate", "edge") if contrast(NOTEBOOK[name], ground) < 3.0] == []
