"""isplit.profile and its command: from a bundle to a profile that a plan takes."""

import json

import pytest

import isplit
from isplit.errors import InputError
from isplit.records import ProfileRecord
from isplit.workflows.profile import profile as measure

QUICK = ("--runs", 6, "--no-memory", "--no-energy")


@pytest.fixture(scope="module")
def study(tiny_model_file, tiny_weights, tiny_data, tmp_path_factory):
    """A study with predictions at 64 bytes, and a bundle of two of its cuts."""
    directory = tmp_path_factory.mktemp("profile") / "study"
    model = isplit.load_model(f"{tiny_model_file}:build", weights=str(tiny_weights))
    opened = isplit.analyze(model, tiny_data, out=directory, settings=isplit.AnalyzeSettings(images=12), announce=print)
    quick = isplit.PredictSettings(statistics_images=12, images=6, remote_images=6)
    isplit.predict(opened, 64, settings=quick)
    closed_form = isplit.SplitFilter(closed_form=True)
    isplit.export(opened, ["pool1", "pool2"], out=directory.with_name("bundle"), split_filter=closed_form)
    return directory


@pytest.fixture(scope="module")
def profile_file(isplit, study):
    """The profile of this machine that the command wrote."""
    path = study.with_name("here.json")
    result = isplit("profile", study.with_name("bundle"), "-o", path, *QUICK, "--title", "a test machine")
    assert 0 == result.code, result.err
    assert all(len(line) <= 100 for line in result.out.splitlines())
    assert "head to pool1" in result.out
    return path


def test_plan_uses_what_was_measured(isplit, study, profile_file):
    """The plan's heads, tails and codecs at the exported cuts are the profile's medians, and are called measured."""
    record = ProfileRecord.from_json(profile_file.read_bytes())
    result = isplit("plan", study, "--device", profile_file, "--server", profile_file, "--link", "wifi", "--json")

    assert 0 == result.code, result.err
    plan = json.loads(result.out)
    row = next(row for row in plan["placements"] if row["name"] == "pool1 @ 64B")
    head = next(head for head in record.heads if head.end == "pool1")
    codec = next(codec for codec in record.codecs if codec.cut == "pool1")
    assert "64B" == head.budget
    assert "measured" == row["source"]
    assert pytest.approx(head.time.median_ms) == row["latency"]["head"]
    assert pytest.approx(codec.encode.median_ms + record.request.median_ms / 2) == row["latency"]["encode"]
    assert "a test machine" in plan["answer"]["text"]


def test_scale_and_rename(isplit, profile_file, tmp_path):
    """A profile is scaled and renamed without being measured again; it is then called scaled."""
    path = tmp_path / "slow.json"
    result = isplit("profile", profile_file, "-o", path, "--scale", "2", "--title", "a slow one")

    first, second = (ProfileRecord.from_json(file.read_bytes()) for file in (profile_file, path))
    assert 0 == result.code, result.err
    assert ("slow", "a slow one", "scaled") == (second.name, second.title, second.source)
    assert pytest.approx(2 * first.whole.median_ms) == second.whole.median_ms
    assert pytest.approx(2 * first.request.median_ms) == second.request.median_ms


def test_another_models_profile_is_refused(isplit, study, profile_file, tmp_path):
    """A profile is tied to its model by the fingerprint: a plan of another model refuses it with exit 2."""
    other = ProfileRecord.from_json(profile_file.read_bytes()).model_copy(update={"model_fingerprint": "0" * 64})
    (tmp_path / "other.json").write_text(other.to_json())

    result = isplit("plan", study, "--device", tmp_path / "other.json")

    assert 2 == result.code
    assert "another model" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", "0"), "--scale is 0.0"),
        (("--runs", "0"), "--runs is 0"),
        (("--images", "nowhere"), "there is no nowhere"),
        (("--provider", "abacus"), "--provider is 'abacus'; choose one of"),
        (("--threads", "99999"), "--threads is 99999; give a number from 1 to 256"),
        (("--seconds", "inf"), "--seconds is inf; give a time above 0, up to 86,400"),
        (("--name", "x" * 500), "with 500 characters; give 1 to 100"),
        (("-o", ""), "--out is '.', a directory"),
    ],
)
def test_bad_options(isplit, study, options, message):
    """Options that cannot be are bad input: exit 2, with what was got."""
    result = isplit("profile", study.with_name("bundle"), "-o", study.with_name("no.json"), *options)

    assert 2 == result.code
    assert message in result.err


def test_neither_bundle_nor_profile(isplit, tmp_path):
    """A directory without a manifest and a file that is no profile are bad input."""
    (tmp_path / "x.json").write_text("{}")

    assert 2 == isplit("profile", tmp_path, "-o", tmp_path / "p.json").code
    assert 2 == isplit("profile", tmp_path / "x.json", "-o", tmp_path / "p.json").code
    with pytest.raises(InputError):
        measure(tmp_path / "none")


def test_planned_cut(isplit, study, profile_file, tmp_path):
    """`export --cut planned` writes the split that the plan chose; where the plan chose none, it says what it chose."""
    far = ("--device", "pi4", "--server", profile_file, "--max-accuracy-loss", "1")
    assert (
        0 == isplit("plan", study, *far, "--link", "3kbit/s,1ms", "--hide-image", "--max-device-mac-share", "0.9").code
    )
    chosen = json.loads((study / "plan.json").read_text())["answer"]["chosen"]

    result = isplit("export", study, "--allow-code", "--cut", "planned", "-o", tmp_path / "bundle", "--json")

    assert 0 == result.code, result.err
    cuts = json.loads(result.out)["cuts"]
    assert [chosen] == [f"{cut['name']} @ {cut['budget']['payload_bytes']}B" for cut in cuts]
    assert 0 == isplit("plan", study, *far, "--link", "3kbit/s,1000ms").code
    local = isplit("export", study, "--allow-code", "--cut", "planned", "-o", tmp_path / "other")
    assert 2 == local.code
    assert "chose 'local', which is no split" in local.err


def test_cuts_share_their_weights(study):
    """A bundle of several cuts stores every weight once: files refer to more bytes of weights than there are."""
    from isplit.runtime.external_data import external_data_bytes

    bundle = study.with_name("bundle")
    referred = sum(external_data_bytes(path) for path in bundle.glob("*.onnx"))

    assert (bundle / "weights.bin").stat().st_size < referred
