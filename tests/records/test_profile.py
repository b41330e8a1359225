"""Device profiles: what they refuse, how they scale, and that they come back from JSON as they were."""

import pytest
from pydantic import ValidationError

from isplit.errors import InputError
from isplit.records import (
    CodecTime,
    ComputeRates,
    ImageTime,
    ModelPartTime,
    Power,
    ProfileRecord,
    SegmentCorrection,
    TimeFigure,
)


def figure(median_ms: float, p95_ms: float | None = None) -> TimeFigure:
    return TimeFigure(median_ms=median_ms, p95_ms=p95_ms or 1.5 * median_ms, runs=20)


def measured_profile() -> ProfileRecord:
    return ProfileRecord(
        isplit_version="0",
        name="board",
        title="A board",
        source="measured",
        model="torchvision:vgg16",
        model_fingerprint="f" * 64,
        preprocess=figure(2.0),
        whole=figure(100.0),
        heads=(ModelPartTime(start=None, end="a", time=figure(30.0), weight_bytes=10, load=figure(5.0)),),
        tails=(ModelPartTime(start="a", end=None, budget="512B", time=figure(70.0)),),
        segments=(ModelPartTime(start="a", end="b", time=figure(20.0)),),
        correction=SegmentCorrection(
            factor=0.9,
            offset_ms=1.0,
            fitted_heads=("a", "b"),
            checked_heads=("c",),
            median_error_share=0.01,
            max_error_share=0.02,
        ),
        codecs=(CodecTime(cut="a", budget="512B", encode=figure(1.0), decode=figure(2.0)),),
        images=(ImageTime(format="webp", quality=50, encode=figure(4.0), decode=figure(3.0)),),
        power=Power(meter="rapl", active_w=5.0, idle_w=2.0, energy_mj={"local": 500.0}),
        rates=ComputeRates(macs_per_s=2e9, memory_bytes_per_s=4e9, overhead_ms=0.2),
    )


def test_a_scaled_profile_takes_longer_for_everything():
    """Times grow by the factor, rates fall by it, and energy measured at the other speed is dropped."""
    profile = measured_profile()
    slower = profile.scaled(2.0, name="slow board")

    assert ("slow board", "scaled", 2.0) == (slower.name, slower.source, slower.scale)
    assert slower.whole is not None
    assert (200.0, 300.0, "scaled") == (slower.whole.median_ms, slower.whole.p95_ms, slower.whole.source)
    assert [60.0, 10.0] == [slower.heads[0].time.median_ms, slower.heads[0].load and slower.heads[0].load.median_ms]
    assert [140.0, 40.0] == [slower.tails[0].time.median_ms, slower.segments[0].time.median_ms]
    assert slower.correction is not None
    assert (0.9, 2.0) == (slower.correction.factor, slower.correction.offset_ms)
    assert [2.0, 4.0] == [slower.codecs[0].encode.median_ms, slower.codecs[0].decode.median_ms]
    assert [8.0, 6.0] == [slower.images[0].encode.median_ms, slower.images[0].decode.median_ms]
    assert slower.rates is not None
    assert (1e9, 2e9, 0.4) == (slower.rates.macs_per_s, slower.rates.memory_bytes_per_s, slower.rates.overhead_ms)
    assert slower.power is not None
    assert ({}, 5.0) == (slower.power.energy_mj, slower.power.active_w)
    assert {"local": 500.0} == (profile.power and profile.power.energy_mj)


def test_scaling_an_estimate_keeps_it_an_estimate():
    """Everything computed from an estimated profile is called estimated, scaled or not."""
    rates = ComputeRates(macs_per_s=2e9, memory_bytes_per_s=4e9)
    profile = ProfileRecord(isplit_version="0", name="x", title="x", source="estimated", rates=rates)
    assert profile.scaled(0.5).estimated
    assert "estimated" == figure(1.0).model_copy(update={"source": "estimated"}).scaled(2.0).source


def test_profiles_come_back_from_json():
    """A profile is the same after it was written and read."""
    profile = measured_profile()
    assert profile == ProfileRecord.from_json(profile.to_json())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"whole": None, "heads": (), "segments": (), "rates": None}, "neither times"),
        ({"model_fingerprint": None}, "no model_fingerprint"),
        ({"heads": ({"start": "a", "end": "b", "time": figure(1.0)},)}, "a head is from null"),
        ({"tails": ({"start": None, "end": "b", "time": figure(1.0)},)}, "a tail is from a cut"),
        ({"whole": {"median_ms": float("nan"), "p95_ms": 1.0, "runs": 1}}, "finite"),
        ({"whole": {"median_ms": 2.0, "p95_ms": 1.0, "runs": 1}}, "below the median"),
        ({"power": {"meter": "stated", "active_w": 1.0, "idle_w": 2.0}}, "exceeds active power"),
        ({"rates": {"macs_per_s": 0, "memory_bytes_per_s": 1}}, "greater than or equal to 0.000000000001"),
    ],
)
def test_profiles_that_make_no_sense_are_refused(change: dict[str, object], words: str):
    """Nothing to compute from, times of an unknown model, wrong ends, NaN, and orders that cannot be."""
    fields = {**dict(measured_profile()), **change}
    with pytest.raises(ValidationError, match=words):
        ProfileRecord.model_validate(fields)


def test_a_profile_of_rates_alone():
    """Rates are enough, and so is the time of the whole model; neither is refused."""
    rates = ProfileRecord(
        isplit_version="0", name="x", title="X", source="estimated",
        rates=ComputeRates(macs_per_s=1e9, memory_bytes_per_s=1e9),
    )  # fmt: skip
    assert rates.estimated
    with pytest.raises(InputError, match="neither times"):
        ProfileRecord(isplit_version="0", name="x", title="X", source="measured")


def test_the_title_of_a_scaled_profile():
    """The title stays, unless the profile gets a name of its own, which is then the title as well."""
    profile = measured_profile()
    assert ("board x 2", "A board") == (profile.scaled(2.0).name, profile.scaled(2.0).title)
    assert ("slow", "slow") == (profile.scaled(2.0, name="slow").name, profile.scaled(2.0, name="slow").title)


@pytest.mark.parametrize("idle_w", [float("nan"), float("inf"), -0.1, 2.1])
def test_impossible_idle_power(idle_w):
    """Power while nothing is computed is a number from 0 up to that while something is."""
    with pytest.raises(InputError, match="idle"):
        Power(meter="stated", active_w=2.0, idle_w=idle_w)
    assert 2.0 == Power(meter="stated", active_w=2.0, idle_w=2.0).idle_w
