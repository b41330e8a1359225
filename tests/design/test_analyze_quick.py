"""A quick run of analyze takes few images, and says so."""

from isplit.design.analyze import analyze
from isplit.design.analyze_quick import QUICK_TOLERANCE, quick_settings
from isplit.design.settings import AnalyzeSettings


def test_analyze_says_that_it_was_quick(tiny_model_file, tiny_weights, tiny_data, tmp_path) -> None:
    """A quarter of the images, and the curve's record says so."""
    import isplit

    model = isplit.load_model(f"{tiny_model_file}:build", weights=str(tiny_weights))
    data = isplit.open_data(str(tiny_data))
    settings = AnalyzeSettings(images=40, precision="fp32", quick=True)
    study = analyze(model, data, tmp_path / "study", settings=settings)

    assert study.curve.images == min(40, len(data.parts["fit"])) // 4
    assert study.curve.stopped.startswith("quick run: ")
    assert study.record.base_accuracy.images == len(data.parts["test"]) // 4


def test_a_quick_run_takes_a_quarter_of_what_there_is_or_was_asked_for(tiny_data) -> None:
    """Whichever is fewer, and one image at least; a tolerance that was asked for stays."""
    import isplit

    data = isplit.open_data(str(tiny_data))
    available = len(data.parts["fit"])

    assert available // 4 == quick_settings(AnalyzeSettings(images=None), data).images
    assert 3 == quick_settings(AnalyzeSettings(images=12), data).images
    assert 1 == quick_settings(AnalyzeSettings(images=2), data).images
    assert QUICK_TOLERANCE == quick_settings(AnalyzeSettings(), data).tolerance
    assert 0.01 == quick_settings(AnalyzeSettings(tolerance=0.01), data).tolerance
