"""isplit.runtime.profile.settings: values at the ends of the ranges pass, and those beyond are refused by name."""

import math

import pytest

from isplit.errors import InputError
from isplit.runtime.profile.settings import ProfileSettings


def test_ends_of_the_ranges():
    """The smallest and the largest values are settings."""
    ProfileSettings(runs=1, warm_up_runs=0, threads=1, seconds=1e-9)
    ProfileSettings(runs=100_000, warm_up_runs=100_000, threads=256, watts=5.0, idle_watts=5.0)


@pytest.mark.parametrize(
    "values",
    [
        {"runs": 0},
        {"runs": 100_001},
        {"threads": 0},
        {"warm_up_runs": -1},
        {"warm_up_runs": 100_001},
        {"seconds": 0.0},
        {"seconds": math.inf},
        {"seconds": math.nan},
        {"watts": 0.0},
        {"watts": 1e6},
        {"idle_watts": 1.0},
        {"watts": 5.0, "idle_watts": 5.1},
        {"watts": 5.0, "idle_watts": -0.1},
        {"provider": "abacus"},
    ],
)
def test_refused(values):
    """The message names the setting; power while waiting needs the power while computing, and is not above it."""
    with pytest.raises(InputError, match=[*values][-1]):
        ProfileSettings(**values)
