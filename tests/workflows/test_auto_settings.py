"""isplit.workflows.auto_settings: what no call of auto could use is refused when the settings are made."""

import pytest

from isplit.errors import InputError
from isplit.workflows.auto_settings import AutoSettings


@pytest.mark.parametrize("trainings", [0, 1000])
def test_trainings(trainings):
    """No training, and the largest number of them, are settings."""
    assert trainings == AutoSettings(trainings=trainings).trainings


@pytest.mark.parametrize(
    ("values", "says"),
    [({"trainings": -1}, "trainings is -1"), ({"trainings": 1001}, "at most 1000"), ({"budgets": []}, "at least one")],
)
def test_refused(values, says):
    """A number of trainings outside the range, and no budget at all."""
    with pytest.raises(InputError, match=says):
        AutoSettings(**values)


def test_settings_are_not_shared():
    """Settings that were not given are made anew, equal ones."""
    first, second = AutoSettings(), AutoSettings()
    assert first.fit == second.fit
    assert (3, 0, False) == (first.trainings, first.analyze.seed, first.overwrite)
