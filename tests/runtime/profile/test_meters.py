"""Energy meters: counters in files that a test writes."""

import sys
from types import SimpleNamespace

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


class NvmlError(Exception):
    """The base of a pretended driver's errors, which is no OSError either."""


def pretend_nvml(monkeypatch, counters_mj, *, fails_at=None):
    """Install a pretended `pynvml` with one accelerator for each counter; return the list of counters."""

    def call(name, value):
        def function(*args):
            if name == fails_at:
                reason = f"{name} is not supported"
                raise NvmlError(reason)
            return value(*args)

        return function

    functions = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: len(counters_mj),
        "nvmlDeviceGetHandleByIndex": lambda index: ("handle", index),
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: counters_mj[handle[1]],
    }
    module = SimpleNamespace(**{name: call(name, value) for name, value in functions.items()})
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return counters_mj


def test_accelerators_are_added_in_joules(monkeypatch):
    """The driver counts millijoules for each accelerator; the meter gives their sum in joules."""
    pretend_nvml(monkeypatch, [1_500, 2_500])
    meter = open_meter(accelerator=True)
    assert "nvml" == meter.kind
    assert pytest.approx(4.0) == meter.read_joules()


def test_energy_of_a_task_on_an_accelerator(monkeypatch):
    """A task that draws 30 J on one of two accelerators in each half second has 60 W and 30,000 mJ."""
    counters_mj = pretend_nvml(monkeypatch, [7_000, 9_000])
    now = {"s": 0.0}

    def run():
        now["s"] += 0.5
        counters_mj[1] += 30_000

    reading = measure_energy(open_meter(accelerator=True), run, seconds=2.0, clock=lambda: now["s"])
    assert pytest.approx(60.0) == reading.watts
    assert pytest.approx(30_000.0) == reading.energy_mj


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetTotalEnergyConsumption"])
def test_a_driver_without_a_counter_says_so(monkeypatch, name):
    """An error of the driver becomes an OSError with the driver's words, whatever its class."""
    pretend_nvml(monkeypatch, [0], fails_at=name)
    with pytest.raises(OSError, match=f"{name} is not supported"):
        open_meter(accelerator=True)


def test_a_driver_without_an_accelerator(monkeypatch):
    """A driver that knows no accelerator is no meter."""
    pretend_nvml(monkeypatch, [])
    with pytest.raises(OSError, match="knows no accelerator"):
        open_meter(accelerator=True)


def test_a_missing_package_says_so(monkeypatch):
    """Without nvidia-ml-py there is no meter, and the message names the package."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(OSError, match="nvidia-ml-py is not installed"):
        open_meter(accelerator=True)
