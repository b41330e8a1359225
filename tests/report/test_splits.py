"""The page's sections about splits, without a browser; with predictions, with trained splits, and without either."""

import re
from pathlib import Path

import pytest

from isplit.errors import StudyError
from isplit.records import PredictionsRecord, SplitRecord
from isplit.report import FurtherRecords, report_html, write_report
from isplit.report.split_series import group_series
from tests.report.invented_study import Records


@pytest.fixture(scope="session")
def html(splits_directory: Path) -> str:
    """Read the page with splits."""
    return (splits_directory / "report.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.replace("<wbr>", "")).split())


def section(html: str, identity: str) -> str:
    match = re.search(rf'<section aria-labelledby="{identity}".*?</section>', html, flags=re.DOTALL)
    assert match is not None, identity
    return match[0]


def test_series_by_hand(predictions: PredictionsRecord, trained: tuple[SplitRecord, ...]):
    """Lines in the order of computation, dots in that of bytes, intervals as distances, pairs of before and after."""
    order = ["features.28", "unknown", "features.13", "features.4"]
    everything, animals = group_series(predictions, trained, order=order)

    assert ["all classes", "animals"] == [everything.name, animals.name]
    assert [("features.28", 0.0), ("features.13", 0.5), ("features.4", 1.0)] == [
        (line.label, line.shade) for line in everything.lines
    ]
    dots = everything.lines[2].dots
    assert [(127.5, 50.0), (510.0, 79.5)] == [(dot.bytes, dot.accuracy) for dot in dots]
    measured = predictions.predictions[0].measurement.accuracy
    assert (measured.low, measured.high) == pytest.approx(
        ((dots[0].accuracy - dots[0].below) / 100, (dots[0].accuracy + dots[0].above) / 100)
    )
    assert everything.whole is not None
    assert 80.0 == everything.whole.accuracy
    assert (3, 1, 0) == everything.efficient
    (pair,) = everything.pairs
    assert (75.0, 78.0) == (pair.x, pair.y)
    assert not everything.calibrated
    assert ((), ()) == (animals.pairs, animals.images)


def test_calibrated_predictions_are_compared(predictions: PredictionsRecord, trained: tuple[SplitRecord, ...]):
    """Where the accuracy after training was predicted, that is what is held against the measured one."""
    rows = [
        row.model_copy(update={"predicted_accuracy": 0.77, "predicted_low": 0.70, "predicted_high": 0.79})
        for row in predictions.predictions
    ]
    record = predictions.model_copy(update={"predictions": tuple(rows), "calibration": "ours"})
    (pair,) = group_series(record, trained, order=["features.4", "features.13", "features.28"])[0].pairs

    assert (77.0, 2.0, 7.0) == pytest.approx((pair.x, pair.x_above, pair.x_below))


def test_a_point_says_what_it_is(predictions: PredictionsRecord):
    """The first line is its title; names are plain text, which the page escapes."""
    odd = predictions.predictions[0].model_copy(update={"cut": "<b>"})
    record = predictions.model_copy(update={"predictions": (odd,), "remote": ()})
    (series,) = group_series(record, (), order=["<b>"])

    assert "<b>" == series.lines[0].label
    assert series.lines[0].dots[0].tip.startswith("<b>, budget 128 bytes\nbefore training: 50.0% (43.1–56.9")


def test_page_says_whether_splitting_is_worth_it(html: str):
    """The sentence stands before the figures, for the study's classes and for the subset."""
    text = text_of(html[html.index('id="verdict"') : html.index('id="figure-curve"')])
    assert "all classes: Within 1 point of the whole model, no split is sure to stay at these budgets" in text
    assert "whether 129 bytes up (payload 120) after features.28" in text
    assert "Within 3 points of the whole model, a split sends 509 bytes up (payload 500) after features.13" in text
    assert "animals: Within 1 point of the whole model, no split" in text


def test_commands_of_the_verdict_are_code(
    records: Records, predictions: PredictionsRecord, monkeypatch: pytest.MonkeyPatch
):
    """Text between backticks is shown as code, as in the plan's answer."""
    monkeypatch.setattr("isplit.report.page.verdict_texts", lambda *args, **options: ["Train one: `isplit fit`."])
    page = report_html(*records, FurtherRecords(predictions=predictions))
    assert "Train one: <code>isplit fit</code>." in page


def test_sections_are_numbered_after_the_overlays(html: str, records: Records, predictions: PredictionsRecord):
    """Figures 4 to 6 with overlays, from 3 on without."""
    numbers = re.findall(r'<span class="number">(\w+ \d)</span>', html)
    assert ["Figure 1", "Figure 2", "Table 1", "Figure 3", "Figure 4", "Figure 5", "Figure 6", "Table 2"] == numbers
    page = report_html(*records, FurtherRecords(predictions=predictions))
    numbers = re.findall(r'<span class="number">(\w+ \d)</span>', page)
    assert ["Figure 1", "Figure 2", "Table 1", "Figure 3", "Figure 4", "Table 2"] == numbers


def test_figures_have_text_alternatives(html: str):
    """Each plot is an image with a label; the table with its numbers is named."""
    assert 'role="group" aria-roledescription="chart" aria-label="Accuracy of each split' in html
    assert 'role="group" aria-roledescription="chart" aria-label="Accuracy of each trained split' in html
    text = text_of(section(html, "bytes-title"))
    assert "on 200 images of the select part" in text
    assert "Nothing is calibrated here, so accuracy after training is not predicted." in text
    assert "Stars are trained splits, on the test part." in text


def test_table_has_every_placement(html: str):
    """Trained and untrained splits, the whole model per set of classes, and every image setting, with their numbers."""
    body = section(html, "splits-title")
    rows = [text_of(row) for row in re.findall(r"<tr[ >].*?</tr>", body.split("<tbody>")[1], flags=re.DOTALL)]
    assert 1 + 7 + 2 + 4 == len(rows)
    assert "features.13 all classes trained 128 bytes 45.0 125.0 133 134 30 78.0 71.8–83.2 −2.0 ± 1.0" == rows[0]
    assert (
        "features.4 all classes before training 128 bytes 20.0 127.5 136 136 30 50.0 43.1–56.9 −30.0 ± 3.2 3 3 3"
        == rows[1]
    )
    assert "whole model all classes local 100.0 0 0 0 0 80.0 73.9–85.0 0.0" == rows[8]
    assert rows[9].startswith("whole model animals local")
    assert rows[-1].startswith("WebP quality 5, side × 0.5 all classes remote 0.0 150.0 150 159 30 45.0")


def test_columns_that_say_nothing_are_left_out(records: Records, predictions: PredictionsRecord):
    """One set of classes needs no column for it; a prediction of trained accuracy gets one."""
    head = section(report_html(*records, FurtherRecords(predictions=predictions)), "splits-title").split("</thead>")[0]
    assert "Classes" in head
    assert "After training" not in head
    rows = tuple(
        row.model_copy(update={"predicted_accuracy": 0.7})
        for row in predictions.predictions
        if row.group == "all classes"
    )
    calibrated = predictions.model_copy(update={"predictions": rows, "calibration": "40 splits of <two> networks"})
    page = report_html(*records, FurtherRecords(predictions=calibrated))
    assert "predicted by a curve fitted to 40 splits of &lt;two&gt; networks." in page
    head = section(page, "splits-title").split("</thead>")[0]
    assert "Classes" not in head
    assert "After training" in head


def test_classes_of_the_best_splits(html: str):
    """A table per set of classes: the best of each budget and state, a row for each class."""
    body = section(html, "split-classes-title")
    everything, animals = body.split("<table")[1:]
    heads = [text_of(head) for head in re.findall(r'<th scope="col">.*?</th>', everything)]
    assert [
        "features.13 512 bytes, before training",
        "features.28 128 bytes, before training",
        "features.13 128 bytes, trained",
    ] == heads
    assert "&lt;b&gt;&amp;cat" in everything
    assert ["goldfish", "&lt;b&gt;&amp;cat"] == re.findall(r'<th scope="row">(.*?)</th>', animals)
    assert 'title="40 of 50">80</td>' in everything


def test_study_without_splits_has_none_of_it(records: Records):
    """An older study's page has no empty sections."""
    page = report_html(*records)
    for absent in ('id="figure-bytes"', 'id="splits-table"', 'id="verdict"', "Is splitting worth it"):
        assert absent not in page


def test_trained_splits_alone(records: Records, trained: tuple[SplitRecord, ...]):
    """Splits that were trained without a prediction before are shown, without a verdict and without pairs."""
    page = report_html(*records, FurtherRecords(trained=trained))
    assert 'id="figure-bytes"' in page
    assert 'id="figure-pairs"' not in page
    assert 'id="verdict"' not in page
    assert "features.13" in section(page, "splits-title")


def test_predictions_of_another_study(splits_directory: Path, predictions: PredictionsRecord, tmp_path: Path):
    """A prediction for a cut that the graph does not have is refused in words."""
    for path in splits_directory.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    stranger = predictions.predictions[0].model_copy(update={"cut": "layer9"})
    predictions.model_copy(update={"predictions": (stranger,)}).save(tmp_path)
    with pytest.raises(StudyError, match=r"graph\.json has no cut 'layer9'"):
        write_report(tmp_path)


def test_damaged_predictions(splits_directory: Path, tmp_path: Path):
    """A predictions.json that was cut short is named."""
    for path in splits_directory.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "predictions.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StudyError, match=r"predictions\.json is damaged"):
        write_report(tmp_path)
