"""Energy meters: counters in files that a test writes."""

import pytest

from isplit.runtime.profile.meters import RaplMeter, measure_energy, open_meter


@pytest.fixture
def counters(tmp_path):
    """Two packages with a counter each, and a core domain that must not be counted twice."""
    for name, value in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 999_000_000), ("intel-rapl:0:0", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{value}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000000000\n")
    return tmp_path


def test_packages_are_added_and_overflow_is_continued(counters):
    """The energy is the sum of both packages; a counter that began again at 0 has counted its range."""
    meter = RaplMeter(counters)
    (counters / "intel-rapl:0" / "energy_uj").write_text("7000000")
    (counters / "intel-rapl:1" / "energy_uj").write_text("2000000")

    assert pytest.approx(2.0 + 3.0) == meter.read_joules()


def test_energy_of_a_task(counters):
    """A task that draws 2 J in each second-long run has 2 W and 2,000 mJ."""
    now = {"s": 0.0}
    file = counters / "intel-rapl:0" / "energy_uj"

    def run():
        now["s"] += 1.0
        file.write_text(str(int(file.read_text()) + 2_000_000))

    reading = measure_energy(RaplMeter(counters), run, seconds=3.0, clock=lambda: now["s"])

    assert pytest.approx(2.0) == reading.watts
    assert pytest.approx(2000.0) == reading.energy_mj


def test_no_meter_says_so(tmp_path):
    """A machine without counters is an OSError with the reason, and never a made-up figure."""
    with pytest.raises(OSError, match="no intel-rapl counter"):
        open_meter(accelerator=False, rapl=tmp_path)


def test_unreadable_counter(counters):
    """A counter that holds no number is no meter."""
    (counters / "intel-rapl:1" / "energy_uj").write_text("none")

    with pytest.raises(OSError, match="none"):
        RaplMeter(counters)
