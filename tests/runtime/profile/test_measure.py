"""A bundle on this machine: everything is timed, nothing is invented."""

import shutil

import numpy as np
import pytest
from PIL import Image

from isplit.errors import BundleError, DataError, EngineError, InputError
from isplit.records import Compression, ProfileRecord
from isplit.runtime.bundle import Bundle
from isplit.runtime.profile.measure import profile_bundle, time_parts
from isplit.runtime.profile.memory import measure_memory
from isplit.runtime.profile.parts import BundleParts
from isplit.runtime.profile.pictures import load_pictures
from isplit.runtime.profile.settings import ProfileSettings

QUICK = ProfileSettings(runs=6, warm_up_runs=1, memory=False, energy=False)


@pytest.fixture(scope="module")
def record(tiny) -> ProfileRecord:
    """A profile of the tiny bundle, with memory and stated watts."""
    settings = ProfileSettings(runs=6, warm_up_runs=1, threads=1, watts=5.0, idle_watts=2.0)
    return profile_bundle(tiny.bundle, name="here", settings=settings)


def test_everything_is_timed(record, tiny):
    """Heads, tails, codecs and image settings of the bundle all have times of their own, measured."""
    assert "measured" == record.source
    assert tiny.bundle.record.model_fingerprint == record.model_fingerprint
    assert ["stage.1", "stage.2"] == [head.end for head in record.heads]
    assert ["stage.1", "stage.2"] == [tail.start for tail in record.tails]
    assert ["stage.1", "stage.2"] == [codec.cut for codec in record.codecs]
    assert 21 == len(record.images)
    assert all(part.time.runs == 6 and part.time.median_ms > 0 for part in (*record.heads, *record.tails))
    assert record.whole.median_ms > 0
    assert record.preprocess.median_ms > 0
    assert record.request.median_ms > 0
    assert (1, "cpu", True) == (record.execution.threads, record.execution.provider, record.execution.interleaved)


def test_memory_is_of_processes_of_their_own(record):
    """Every placement has a peak above what its process held before, and none counts this test's own memory."""
    assert {"stage.1", "stage.2", "remote", "local"} == {entry.placement for entry in record.memory}
    for entry in record.memory:
        assert 2**24 < entry.baseline_bytes <= entry.peak_bytes < 2**28


def test_stated_watts_are_called_stated(record):
    """Where there is no meter, the watts that were given are used, and the missing meter is named."""
    if record.power.meter != "stated":
        pytest.skip("this machine has an energy meter")
    assert (5.0, 2.0) == (record.power.active_w, record.power.idle_w)
    assert "no meter" in record.not_measured["energy"]


def test_the_record_survives_its_file(record):
    """A profile reads back as it was written."""
    assert record == ProfileRecord.from_json(record.to_json())


def test_groups_when_memory_is_short(tiny):
    """Models that do not fit in memory together are timed in groups, each model once."""
    pictures, _ = load_pictures((), tiny.bundle.record.preprocessing)
    models = list(BundleParts(tiny.bundle, pictures, QUICK).models())

    timed = time_parts(models, {}, QUICK, memory_bytes=1)

    assert len(models) == timed.groups
    assert {model.key for model in models} == set(timed.times)


def test_pictures_of_the_user(tiny, tmp_path):
    """The first eight images of a folder are taken, and the profile says so."""
    for number in range(10):
        Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(tmp_path / f"{number}.png")

    pictures, words = load_pictures([tmp_path], tiny.bundle.record.preprocessing)

    assert (30, 20) == pictures[0].size
    assert "8 of the user's own" == words


def test_drawn_pictures_compress_like_photographs(tiny):
    """A drawn picture is neither flat nor noise: JPEG at quality 90 needs 0.5 to 4 bits for each pixel."""
    from isplit.codec.image import compress

    preprocessing = tiny.bundle.record.preprocessing.model_copy(update={"image_size": (224, 224), "resize_size": 224})
    pictures, _ = load_pictures((), preprocessing)

    size = len(compress(np.asarray(pictures[0]), Compression(format="jpeg", quality=90)))

    assert 0.5 < 8 * size / 224**2 < 4


def test_bad_pictures(tiny, tmp_path):
    """A folder that is not there and a file that is no image are bad input."""
    (tmp_path / "no.png").write_bytes(b"no image")

    with pytest.raises(InputError, match="there is no"):
        load_pictures([tmp_path / "none"], tiny.bundle.record.preprocessing)
    with pytest.raises(DataError, match="not an image"):
        load_pictures([tmp_path / "no.png"], tiny.bundle.record.preprocessing)


def test_a_process_that_fails_is_named(tiny, tmp_path):
    """Where the process that measures memory fails, its last line is the reason."""
    with pytest.raises(EngineError, match=r"memory of stage\.1 failed: .*is not a bundle"):
        measure_memory(tmp_path, "stage.1", threads=1, provider="cpu")


def test_a_damaged_model_is_refused(tiny, tmp_path):
    """A head that onnxruntime cannot load is a BundleError and no profile."""
    shutil.copytree(tiny.directory, tmp_path / "bundle")
    head = tmp_path / "bundle" / "stage.1.head.onnx"
    content = head.read_bytes()
    head.write_bytes(content[:-4] + b"\0\0\0\0")

    with pytest.raises(BundleError):
        profile_bundle(Bundle.open(tmp_path / "bundle"), name="x", settings=QUICK)


@pytest.mark.parametrize(
    "values",
    [{"runs": 0}, {"threads": 0}, {"seconds": float("nan")}, {"watts": -1.0}, {"idle_watts": 3.0}, {"provider": "x"}],
)
def test_impossible_settings(values):
    """Settings that cannot be are refused, with what was got."""
    with pytest.raises(InputError, match=str(next(iter(values.values()))).replace(".", r"\.")):
        ProfileSettings(**values)
