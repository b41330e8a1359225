"""isplit.records: what is saved is what is read, and no record of any class holds what it may not."""

import importlib
import math
import pkgutil
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import isplit
from isplit.errors import NonFiniteError, StudyError
from isplit.records import (
    Accuracy,
    Candidate,
    CandidatesRecord,
    ClassGroup,
    Crossing,
    CurvePoint,
    CurveRecord,
    Cut,
    DataSource,
    GraphRecord,
    ModelSource,
    Preprocessing,
    Ranking,
    StudyRecord,
    SubsetCurve,
    Unavailable,
)
from isplit.records.base import Record
from isplit.records.files import LARGEST_RECORD_BYTES
from tests.records.small_records import small_curve

RECORDS = (CandidatesRecord, CurveRecord, GraphRecord, StudyRecord)


for kind in (*RECORDS, SubsetCurve):
    kind.model_rebuild()  # they are built when first used; Hypothesis reads their signatures before that


# Any text that JSON can hold (lone surrogates are no text), quotes, markup and other alphabets included.
text = st.text(st.characters(codec="utf-8"), max_size=8)


texts = st.lists(text, max_size=3).map(tuple)


number = st.floats(-1e100, 1e100)
number_or_none = st.none() | number


amount = st.floats(0, 1e100)


amount_or_none = st.none() | amount


share = st.floats(0, 1)


count = st.integers(0, 2**62)


shape = st.lists(st.integers(1, 4096), max_size=4).map(tuple)


per_class = st.dictionaries(text, number_or_none, max_size=3)


per_class_amounts = st.dictionaries(text, amount_or_none, max_size=3)


def several(strategy):
    return st.lists(strategy, max_size=2).map(tuple)


candidates = st.builds(
    Candidate,
    rank=st.integers(1, 99),
    cut=text,
    found_by=several(st.sampled_from(["importance-maximum", "natural-bottleneck", "size-minimum", "above-trend"])),
    cui=number_or_none,
    log10_cui=number_or_none,
    settled=st.none() | st.booleans(),
    bytes=count,
    head_mac_share=amount,
)


points = st.builds(
    CurvePoint,
    cut=text,
    cui=number_or_none,
    stderr=amount_or_none,
    step_stderr=amount_or_none,
    image_mean=number_or_none,
    per_class=per_class,
    per_class_stderr=per_class_amounts,
    non_finite=count,
)


cuts = st.builds(
    Cut,
    name=text,
    depth=count,
    kind=st.sampled_from(["default", "pre-activation", "other"]),
    op=text,
    crossing=several(st.builds(Crossing, name=text, shape=shape, dtype=text, bytes=count)),
    bytes=count,
    channel_axis=st.none() | st.sampled_from([1, -1]),
    **{f"{side}_{what}": count for side in ("head", "tail") for what in ("macs", "parameters", "peak_bytes")},
)


accuracies = st.integers(0, 5000).flatmap(
    lambda images: st.builds(Accuracy.from_counts, st.integers(0, images), st.just(images))
)


records = {
    CandidatesRecord: st.builds(
        CandidatesRecord,
        method=text,
        candidates=several(candidates),
        note=st.none() | text,
        subsets=several(
            st.builds(Ranking, name=text, classes=texts, candidates=several(candidates), note=st.none() | text)
        ),
        disagreement=st.none() | text,
    ),
    CurveRecord: st.builds(
        CurveRecord,
        method=text,
        target=st.sampled_from(["correct", "predicted"]),
        precision=st.sampled_from(["fp32", "bf16"]),
        images=count,
        images_per_class=st.dictionaries(text, count, max_size=3),
        stopped=text,
        points=several(points),
        subsets=several(st.builds(SubsetCurve, name=text, classes=texts, images=count, points=several(points))),
    ),
    GraphRecord: st.builds(
        GraphRecord,
        captured_by=st.sampled_from(["torch.fx", "torch.export"]),
        input_shape=shape,
        input_bytes=count,
        output_shape=shape,
        macs=count,
        parameters=count,
        uncounted=texts,
        cuts=several(cuts),
        unavailable=several(st.builds(Unavailable, name=text, reason=text)),
    ),
    StudyRecord: st.builds(
        StudyRecord,
        isplit_version=text,
        versions=st.dictionaries(text, text, max_size=2),
        model=st.builds(
            ModelSource,
            spec=text,
            weights=st.none() | text,
            weights_sha256=st.none() | text,
            fingerprint=text,
            num_outputs=count,
            parameters=count,
        ),
        data=st.builds(
            DataSource,
            spec=text,
            split=st.none() | text,
            sha256=text,
            classes=texts,
            class_titles=texts,
            class_outputs=several(count),
            part_images=st.dictionaries(st.sampled_from(["fit", "select", "test"]), count),
            part_rule=text,
        ),
        preprocessing=st.builds(
            Preprocessing,
            image_size=st.tuples(st.integers(1, 999), st.integers(1, 999)),
            resize_size=st.none() | st.integers(1, 999),
            interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
            channels=st.sampled_from([1, 3]),
            mean=several(number),
            std=several(st.floats(1e-100, 1e100)),
        ),
        groups=several(st.builds(ClassGroup, name=text, classes=texts, members=several(texts))),
        seed=count,
        base_accuracy=accuracies,
        chance_accuracy=share,
        warnings=texts,
    ),
}


@pytest.mark.parametrize("kind", RECORDS)
@settings(max_examples=40)
@given(data=st.data())
def test_json_round_trip(kind, data):
    """What goes into JSON comes out equal, and the same text is written again."""
    record = data.draw(records[kind])
    written = record.to_json()
    assert record == kind.from_json(written)
    assert written == kind.from_json(written.encode()).to_json()


@pytest.mark.parametrize("kind", RECORDS)
@settings(max_examples=10)
@given(data=st.data())
def test_file_round_trip(tmp_path_factory, kind, data):
    """What is saved under the record's file name is loaded equal."""
    directory = tmp_path_factory.mktemp("record")
    record = data.draw(records[kind])
    assert directory / kind.file_name == record.save(directory)
    assert record == kind.load(directory)
    assert [kind.file_name] == [path.name for path in directory.iterdir()]


@pytest.mark.parametrize(
    ("kind", "name", "schema"),
    [
        (CandidatesRecord, "candidates.json", "isplit.candidates/1"),
        (CurveRecord, "curve.json", "isplit.curve/1"),
        (GraphRecord, "graph.json", "isplit.graph/1"),
        (StudyRecord, "study.json", "isplit.study/1"),
    ],
)
def test_names_are_fixed(kind, name, schema):
    """File names and schemas are written constants: other programs rely on them."""
    assert (name, schema) == (kind.file_name, kind.schema_name)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite_is_not_written(tmp_path, value):
    """NaN and infinity are refused by name wherever they are, and the file that was there stays."""
    before = small_curve().save(tmp_path).read_bytes()
    with pytest.raises(NonFiniteError, match=r"points\.0\.cui is NaN or infinite"):
        small_curve(cui=value).save(tmp_path)
    with pytest.raises(NonFiniteError, match=r"points\.0\.per_class\.x is NaN or infinite"):
        small_curve(per_class={"x": value}).to_json()
    assert before == (tmp_path / "curve.json").read_bytes()


def every_record_class(base=Record):
    """Return all classes of records, whichever module they are in."""
    for module in pkgutil.walk_packages(isplit.__path__, "isplit."):
        if module.name.startswith(("isplit.records", "isplit.design.training", "isplit.design.study_lock")):
            importlib.import_module(module.name)
    classes = [base, *(kind for child in base.__subclasses__() for kind in every_record_class(child))]
    return sorted({kind for kind in classes if "file_name" in kind.__dict__}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
@pytest.mark.parametrize("kind", every_record_class(), ids=lambda kind: kind.__name__)
def test_not_finite_is_not_read(kind, number, tmp_path):
    """No record of any class is read from a file that holds a number which is not finite, wherever it stands."""
    (tmp_path / kind.file_name).write_text(f'{{"schema": "{kind.schema_name}", "x": {{"y": [{number}]}}}}')
    with pytest.raises(StudyError, match=f"it holds {re.escape(number)}, which is no number"):
        kind.load(tmp_path)


@pytest.mark.parametrize("kind", every_record_class(), ids=lambda kind: kind.__name__)
def test_later_schema_of_every_record(kind, tmp_path):
    """A record of a later version is refused, with advice to update; nothing is said about deleting it."""
    name, _, version = kind.schema_name.rpartition("/")
    (tmp_path / kind.file_name).write_text(f'{{"schema": "{name}/{int(version) + 1}"}}')
    with pytest.raises(StudyError, match="a later version wrote it; install that one") as caught:
        kind.load(tmp_path)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize("kind", every_record_class(), ids=lambda kind: kind.__name__)
def test_size_limit_of_every_record(kind, tmp_path):
    """A file beyond the limit is refused before it is read; the message says both sizes."""
    with (tmp_path / kind.file_name).open("wb") as file:
        file.truncate(LARGEST_RECORD_BYTES + 1)
    with pytest.raises(StudyError, match=r"has 67,108,865 bytes, and .* at most 67,108,864"):
        kind.load(tmp_path)


def test_schema_comes_first():
    """The schema is the first thing in the file, and the text ends with a line end."""
    written = small_curve().to_json()
    assert written.lstrip("{ \n").startswith('"schema": "isplit.curve/1"')
    assert written.endswith("}\n")


def test_text_is_kept_as_it_is(tmp_path):
    """Names in other alphabets are readable in the file, which is UTF-8."""
    small_curve(cut="層.é").save(tmp_path)
    assert "層.é" in (tmp_path / "curve.json").read_text("utf-8")
    assert "層.é" == CurveRecord.load(tmp_path).points[0].cut


def test_records_cannot_be_changed():
    """A record is frozen."""
    with pytest.raises(ValidationError):
        small_curve().images = 4


def test_unknown_cut():
    """A graph answers for the cuts it has, and says KeyError otherwise."""
    record = GraphRecord(
        captured_by="torch.fx",
        input_shape=(3, 4, 4),
        input_bytes=192,
        output_shape=(2,),
        macs=1,
        parameters=1,
        uncounted=(),
        cuts=(),
        unavailable=(),
    )
    with pytest.raises(KeyError):
        record.cut("nowhere")
