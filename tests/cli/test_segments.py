"""A model in segments: planned for a small memory, exported, and run one after the other with the model's answers."""

import json

import pytest

from isplit.design.export_segments import export_segments
from isplit.design.export_settings import ExportSettings
from isplit.design.study import open_study
from isplit.errors import EngineError, InputError
from isplit.plan import special_rows
from isplit.records import BundleRecord, PlanRecord
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.device import SEGMENTED, Device
from isplit.runtime.profile.memory import measure_memory

RUNTIME_BYTES = 83_000_000
# The small model's first step needs 17,280 bytes of weights and activations, and the whole model some more.
LIMIT_BYTES = RUNTIME_BYTES + 19_500


@pytest.fixture
def segmented(isplit, study, tmp_path):
    """A bundle of segments of the small model, and what the export printed.

    Weights of the small model matter little beside its activations, so that its plan has one segment. The test divides
    it further, and one layer into blocks.
    """
    planned = isplit("plan", study, "--max-device-memory", f"{LIMIT_BYTES}B")
    assert 0 == planned.code, planned.err
    plan = PlanRecord.load(study)
    (placement,) = [placement for placement in plan.placements if placement.kind == "segmented"]
    (whole,) = placement.segments
    segments = (
        whole.model_copy(update={"end": "pool1"}),
        whole.model_copy(update={"start": "pool1", "end": "pool2"}),
        whole.model_copy(update={"start": "pool2", "end": "relu3", "layer": "conv3", "blocks": 3}),
        whole.model_copy(update={"start": "relu3"}),
    )
    divided = placement.model_copy(update={"segments": segments})
    others = tuple(other for other in plan.placements if other != placement)
    plan.model_copy(update={"placements": (*others, divided)}).save(study)
    bundle = tmp_path / "segments"
    result = isplit("export", study, "--segments", "--allow-code", "-o", bundle)
    assert 0 == result.code, result.err
    return bundle, result


def test_segments_answer_as_the_whole_model(isplit, segmented, study, tiny_data):
    """Each image gets the answer of the whole model, from files that were loaded one after the other."""
    bundle, exported = segmented
    record = BundleRecord.load(bundle)
    plan = PlanRecord.load(study)
    (placement,) = [placement for placement in plan.placements if placement.kind == "segmented"]
    assert record.segmented is not None
    assert record.check is not None
    assert "segments" == record.name
    assert ["pool1", "pool2", "conv3", "relu3"] == list(record.segmented.bounds)
    assert [1, 1, 3, 1, 1] == [len(files) for files, _ in record.segmented.segments]
    assert placement.device_memory_bytes == record.segmented.planned_peak_bytes
    assert record.check.top1_changed == 0
    assert "5 segments" in exported.out
    assert "conv3 in 3 blocks" in exported.out
    whole = bundle.parent / "whole"
    assert 0 == isplit("predict", study, "--bytes", "64", "--images", "6", "--allow-code", "-q").code
    assert 0 == isplit("export", study, "--cut", "pool2", "--allow-code", "-o", whole, "-q").code
    pictures = tiny_data / "test"
    answers = [
        [json.loads(line) for line in isplit("run", place, pictures, "--placement", name, "--json").out.splitlines()]
        for place, name in ((bundle, "segmented"), (whole, "local"))
    ]
    expected = [(answer["image"], answer["class_name"]) for answer in answers[1]]
    assert 24 == len(expected)
    assert expected == [(answer["image"], answer["class_name"]) for answer in answers[0]]


def test_memory_is_measured_in_a_process_of_its_own(segmented):
    """The peak of a process that runs the segments is known, and above what it had before."""
    memory = measure_memory(segmented[0], SEGMENTED, threads=1, provider="cpu")
    assert memory.peak_bytes >= memory.baseline_bytes > 0


def test_segments_are_the_default_of_such_a_bundle(isplit, segmented, tiny_data):
    """Without --placement the device runs what the bundle has."""
    picture = next((tiny_data / "test" / "bars").iterdir())
    result = isplit("run", segmented[0], picture, "--json")
    assert (0, "segmented") == (result.code, json.loads(result.out)["placement"])


def test_a_missing_segment_is_refused(segmented):
    """The manifest vouches for every segment."""
    from isplit.errors import BundleError

    bundle, _ = segmented
    (bundle / BundleRecord.load(bundle).segmented.files[0]).unlink()
    with pytest.raises(BundleError, match="segment-01"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("plan", "options", "words"),
    [
        ([], ["--segments"], ["no plan", "--max-device-memory"]),
        (["--device", "pi4"], ["--segments"], ["no limit", "--max-device-memory"]),
        (["--max-device-memory", "1GB"], ["--segments"], ["whole model fits"]),
        (["--max-device-memory", "83MB"], ["--segments"], ["no division", "83 MB", "--max-device-memory 84MB"]),
        ([], ["--segments", "--cut", "pool2"], ["--segments", "pool2"]),
        (["--max-device-memory", f"{LIMIT_BYTES}B"], ["--segments", "--int8", "--allow-code"], ["--int8", "splits"]),
    ],
)
def test_bad_input(isplit, bad_input, study, tmp_path, plan, options, words):
    """No plan, no limit, a limit that divides nothing, or two kinds of bundle end with a reason."""
    if plan:
        isplit("plan", study, *plan, "-q")
    bad_input("export", study, *options, "-o", tmp_path / "b", says=words)
    assert special_rows.RUNTIME_BYTES == RUNTIME_BYTES


def test_a_layer_in_blocks_answers_as_the_whole_layer(isplit, study, tiny_data, tmp_path):
    """Layers in the middle and at the end are divided by hand; the device puts the outputs of their blocks together."""
    opened = open_study(study, allow_code=True)
    names = [layer.name for layer in opened.graph_record.divisible]
    assert ["conv2", "conv3", "fc"] == names
    settings = ExportSettings(images=6)
    whole = export_segments(opened, tmp_path / "whole", bounds=[], settings=settings)
    divided = export_segments(
        opened, tmp_path / "blocks", bounds=["pool1"], blocks={"conv3": 4, "fc": 2}, settings=settings
    )
    segmented = divided.segmented
    assert segmented is not None
    assert [("conv3", 4), ("fc", 2)] == [(layer.name, layer.count) for layer in segmented.divided]
    assert len(segmented.bounds) == len(segmented.segments) - 1
    assert divided.check is not None
    assert whole.check is not None
    assert (whole.check.classes_answered, 0) == (divided.check.classes_answered, divided.check.top1_changed)
    answers = [
        [json.loads(line)["class_name"] for line in isplit("run", place, tiny_data / "test", "--json").out.splitlines()]
        for place in (tmp_path / "whole", tmp_path / "blocks")
    ]
    assert 24 == len(answers[0])
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("blocks", "words"), [({"conv9": 2}, "conv2, conv3, fc"), ({"fc": 100}, "output channels")])
def test_a_layer_that_cannot_be_divided_so_is_refused(study, tmp_path, blocks, words):
    """An unknown layer and more blocks than channels are errors that name what there is."""
    with pytest.raises(InputError, match=words):
        export_segments(open_study(study, allow_code=True), tmp_path / "b", bounds=[], blocks=blocks)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"remote_network": "webp:50"}, "`remote_network=webp:50` is for bundles of splits"),
        ({"int8": True}, "`int8=True` is for bundles of splits"),
        ({"triton": True}, "`triton=True` is for bundles of splits"),
        ({"name": "../x"}, "the name is '../x'"),
    ],
)
def test_settings_that_segments_cannot_have_are_refused(study, tmp_path, settings, words):
    """What only splits can have, and a name that is none, are refused from Python too; nothing is written."""
    with pytest.raises(InputError, match=words):
        export_segments(study, tmp_path / "b", settings=ExportSettings(**settings))
    assert not (tmp_path / "b").exists()


def test_blocks_that_do_not_fit_together_are_an_error(study, tmp_path):
    """A file of another width among the blocks of a layer is reported as a damaged bundle."""
    blocks = export_segments(
        open_study(study, allow_code=True),
        tmp_path / "b",
        bounds=[],
        blocks={"conv3": 2},
        settings=ExportSettings(images=2),
    )
    segmented = blocks.segmented
    assert segmented is not None
    wrong_axis = segmented.divided[0].model_copy(update={"axis": 5})
    record = blocks.model_copy(update={"segmented": segmented.model_copy(update={"divided": (wrong_axis,)})})
    record.save(tmp_path / "b")
    device = Device(Bundle.open(tmp_path / "b"), plain=False, threads=1, provider="cpu")
    with pytest.raises(EngineError, match="do not fit together"):
        device.segmented(device.sample_pixels())
