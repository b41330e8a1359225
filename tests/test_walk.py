"""The public API composes: from a model to answers on the device, with a study given in every way it can be given."""

from pathlib import Path

import pytest

import isplit

QUICK = isplit.PredictSettings(statistics_images=12, images=10, remote_images=0)
ONCE = isplit.FitSettings(epochs=1, images=12, select_images=10)
SPLIT_ALONE = isplit.ExportSettings(local=False, remote=False)


def test_ten_lines(tmp_path, monkeypatch):
    """Every step takes what the one before gives, and budgets are numbers, one or many."""
    monkeypatch.chdir(tmp_path)

    model = isplit.load_model("isplit.design.demo:compact_resnet")
    settings = isplit.AnalyzeSettings(images=10, test_images=20)
    study = isplit.analyze(model, "sklearn:digits", settings=settings, announce=lambda record: None)
    predictions = isplit.predict(study, [48, isplit.Budget(element_ratio=64)], cuts=["stage3.2"], settings=QUICK)
    trained = isplit.fit(study, "stage3.2", 48, settings=ONCE)
    verification = isplit.verify(study, 48, cuts=["stage2.2", "stage3.2"], settings=ONCE)
    budget = isplit.SplitFilter(budget=trained.budget)
    isplit.export(study, "stage3.2", out="bundle", split_filter=budget, settings=SPLIT_ALONE)
    bundle = isplit.Bundle.open("bundle")
    with isplit.serving(bundle) as server, isplit.EdgeClient(bundle, f"127.0.0.1:{server.port}") as client:
        answer = client.classify(isplit.open_data("sklearn:digits").image(0))

    assert ["48B", "1in64"] == [row["budget"] for row in predictions.to_dicts()]
    assert ["stage2.2", "stage3.2"] == [row["cut"] for row in verification.to_dicts()]
    assert ("split", "stage3.2") == (answer.source, trained.cut)
    assert "stage3.2" in repr(trained)
    assert {"report.html", "predictions.json"} <= {path.name for path in Path("study").iterdir()}
    # The same study by its path, as text and as a path: what is there is not computed again.
    again = isplit.predict("study", [48], cuts=["stage3.2"], settings=QUICK).to_dicts()
    assert predictions.to_dicts() == [row for row in again if row["cut"] == "stage3.2"]
    assert trained == isplit.fit(Path("study"), "stage3.2", 48, settings=ONCE)
    assert verification == isplit.verify("study", 48, cuts=["stage2.2", "stage3.2"], settings=ONCE)
    assert ["report.html", "curve.svg"] == [path.name for path in isplit.write_report(Path("study"))]


def test_a_study_shows_itself(tiny_model_file, tiny_weights, tiny_data, tmp_path):
    """As a line of text, and in a notebook as the ranking with the curve; predictions as a table."""
    model = isplit.load_model(f"{tiny_model_file}:build", weights=str(tiny_weights))
    study = isplit.analyze(model, tiny_data, out=tmp_path / "s", settings=isplit.AnalyzeSettings(images=12))

    assert "5 cuts" in repr(study)
    assert "on 24 test images" not in repr(study)
    html = study._repr_html_()
    assert "<svg" in html
    assert study.candidates[0].cut in html
    assert "<script" not in html
    assert study.predictions is None


def test_progress_is_shown_when_asked_for(tiny_model_file, tiny_weights, tiny_data, tmp_path, capsys, monkeypatch):
    """Silent by default; with `progress=True` on standard error, here as lines because there is no terminal."""
    monkeypatch.setattr("isplit.progress_bars._SECONDS_BETWEEN_LINES", (0.0, 0.0))
    model = isplit.load_model(f"{tiny_model_file}:build", weights=str(tiny_weights))
    settings = isplit.AnalyzeSettings(images=12)
    isplit.analyze(model, tiny_data, out=tmp_path / "silent", settings=settings)
    assert ("", "") == capsys.readouterr()
    isplit.analyze(model, tiny_data, out=tmp_path / "shown", settings=settings, progress=True)
    shown = capsys.readouterr()
    assert ("", True) == (shown.out, "importance, all classes: 12 of 12" in shown.err)


@pytest.mark.parametrize(
    ("budgets", "says"),
    [(3, "below the smallest payload"), ([], "at least one budget"), (isplit.Budget(), "either bytes or an element")],
)
def test_errors_speak_of_arguments(budgets, says):
    """A budget that no payload can meet is refused, and no option is named."""
    from isplit.design.budgets import read_budgets

    with pytest.raises(isplit.InputError, match=says) as refused:
        read_budgets(budgets)
    assert "--" not in str(refused.value)
