"""Requests: periodic ones, random ones, and those of a file."""

from pathlib import Path

import numpy as np
import pytest

from isplit.errors import InputError
from isplit.plan.arrivals import at_times, periodic, poisson, read_times


def test_periodic(random: np.random.Generator):
    """Every device makes a request each period, from a point of its own on."""
    requests = periodic(devices=3, period_ms=100, duration_s=1, random=random)
    times = requests.time_ms.reshape(3, 10)
    assert np.diff(times, axis=1) == pytest.approx(100.0)
    assert 3 == len({round(float(phase), 6) for phase in times[:, 0]})
    assert [0] * 10 + [1] * 10 + [2] * 10 == requests.device.tolist()


def test_requests_are_counted_as_they_are_made(random: np.random.Generator):
    """Half a period at the end makes no request, and does not count towards the largest number either."""
    with pytest.raises(InputError, match="they make 6,000,000 requests, more than 5,000,000"):
        periodic(devices=2, period_ms=1, duration_s=3000.0005, random=random)


def test_poisson(random: np.random.Generator):
    """Gaps have the period as mean and as standard deviation, and requests are sorted."""
    requests = poisson(devices=50, period_ms=100, duration_s=100, random=random)
    gaps = np.concatenate([np.diff(requests.time_ms[requests.device == device]) for device in range(50)])
    assert (100.0, 100.0) == pytest.approx((gaps.mean(), gaps.std()), rel=0.02)
    assert gaps.min() >= 0


def test_times_of_a_file(tmp_path: Path, random: np.random.Generator):
    """Comments and empty lines are left out; one device follows the file exactly."""
    path = tmp_path / "times.csv"
    path.write_text("# seconds\n0.5\n\n2\n1.5\n")
    requests = at_times(read_times(path), devices=1, random=random)
    assert [500.0, 1500.0, 2000.0] == requests.time_ms.tolist()
    assert 6 == len(at_times(read_times(path), devices=2, random=random).time_ms)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no request times"),
        ("1\nsoon\n", "line 2: 'soon'"),
        ("-1\n", "line 1"),
        ("nan\n", "line 1"),
        ("１\n", "line 1"),
        ("1_0\n", "line 1"),
        ("1e300\n", "from 0 to 1e\\+08"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str):
    """An empty file, words, times before 0, and NaN."""
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_times(path)


def test_a_missing_file(tmp_path: Path):
    """The message says what cannot be read."""
    with pytest.raises(InputError, match="cannot read the request times"):
        read_times(tmp_path / "none")
