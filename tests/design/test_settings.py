"""Settings check themselves, and say which argument is wrong."""

from dataclasses import FrozenInstanceError

import pytest

from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.errors import InputError


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (AnalyzeSettings, {"images": 0}, "images is 0; give at least 1"),
        (AnalyzeSettings, {"batch_size": 0}, "batch_size is 0; give at least 1"),
        (AnalyzeSettings, {"seed": -1}, "seed is -1; give a number from 0 to 18,446,744,073,709,551,615"),
        (AnalyzeSettings, {"tolerance": 0.0}, "tolerance is 0; give a share between 0 and 1"),
        (AnalyzeSettings, {"tolerance": 1.0}, "tolerance is 1; give a share between 0 and 1"),
        (AnalyzeSettings, {"method": "magic"}, "method is 'magic'; choose one of"),
        (AnalyzeSettings, {"precision": "fp8"}, "precision is 'fp8'; choose one of"),
        (PredictSettings, {"coder": "zip"}, "coder is 'zip'; choose one of rans, zstd, rle, raw"),
        (PredictSettings, {"remote_images": -1}, "remote_images is -1; give at least 0"),
        (FitSettings, {"images": 1}, "images is 1; give at least 2"),
        (FitSettings, {"distillation": 1.5}, "distillation is 1.5; give a number from 0 to 1"),
        (FitSettings, {"warmup": float("nan")}, "warmup is nan; give a number from 0 to 1"),
        (ClosedFormTuning, {"compared_images": -1}, "compared_images is -1; give at least 0"),
        (ClosedFormTuning, {"pilot_images": 0}, "pilot_images is 0; give at least 1"),
        (ClosedFormTuning, {"decoder_factor": 0}, "decoder_factor is 0; give at least 1"),
    ],
)
def test_refused(kind: type, values: dict, message: str):
    """A value outside its range is refused by the argument's name, with what may be given."""
    with pytest.raises(InputError) as error:
        kind(**values)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (AnalyzeSettings, {"images": 1, "batch_size": 1, "test_images": 1}),
        (AnalyzeSettings, {"method": "./scores.py:mine"}),
        (FitSettings, {"images": 2, "warmup": 0.0, "distillation": 1.0, "seed": 0, "epochs": 0}),
        (FitSettings, {"warmup": 1.0, "distillation": 0.0}),
        (PredictSettings, {"remote_images": 0, "images": None}),
    ],
)
def test_limits_themselves_are_taken(kind: type, values: dict):
    """The ends of a range belong to it."""
    settings = kind(**values)
    assert values == {name: getattr(settings, name) for name in values}


def test_something_has_to_learn():
    """Training with every side closed is refused."""
    with pytest.raises(InputError, match="nothing is left to train"):
        FitSettings(train_encoder=False, train_decoder=False, train_tail=False)


def test_sides_that_learn():
    """The sides that learn are listed from the device to the server."""
    assert ("head", "decoder") == FitSettings(train_head=True, train_encoder=False, train_tail=False).trained


def test_what_is_recorded():
    """Where features are kept changes no result and is not recorded; constants are recorded where they differ."""
    recorded = FitSettings(features="disk", memory_gib=1.0).recorded()
    assert FitSettings().recorded() == recorded
    assert "tuning" not in recorded
    assert "pilot_images=7" in str(FitSettings(tuning=ClosedFormTuning(pilot_images=7)).recorded()["tuning"])


def test_settings_are_frozen():
    """Nobody edits settings that were given to somebody else."""
    with pytest.raises(FrozenInstanceError):
        AnalyzeSettings().images = 3  # type: ignore[misc]
