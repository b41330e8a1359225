"""A split's files never come apart, are checked against its record, and a damaged split is left out with a warning."""

import contextlib
import itertools
import os
import shutil

import pytest

from isplit.errors import DamagedSplitWarning, StudyError
from isplit.records import (
    Accuracy,
    BottleneckSpec,
    Budget,
    Measurement,
    Paired,
    PayloadBytes,
    SplitRecord,
)
from isplit.records.split_files import (
    LARGEST_CODEC_BYTES,
    LARGEST_WEIGHTS_BYTES,
    read_split_files,
    split_records,
    tidy_split,
    write_split_files,
)


def split_record(cut="pool1", seed=0):
    """A record of which only the cut and the seed matter."""
    figures = "elements encoder_macs encoder_parameters decoder_macs decoder_parameters head_macs".split()
    measurement = Measurement(
        part="test",
        accuracy=Accuracy.from_counts(9, 10),
        whole=Accuracy.from_counts(9, 10),
        against_whole=Paired(only_first=0, only_second=0, difference=0, stderr=0),
        per_class={},
        payload_bytes=PayloadBytes(mean=1, p95=1, max=1, images=10),
        clipped_share=0,
        head_mac_share=0,
        **dict.fromkeys(figures, 0),
    )
    return SplitRecord(
        isplit_version="0",
        versions={},
        model="m",
        cut=cut,
        group="all classes",
        budget=Budget(payload_bytes=60),
        bottleneck=BottleneckSpec(design="linear", shape=(1, 1, 1), channel_axis=0),
        statistics_images=1,
        samples_per_dimension=None,
        shrinkage=0.0,
        training=None,
        seed=seed,
        measurement=measurement,
    )


def write(directory, seed):
    return write_split_files(directory, split_record(seed=seed), weights=f"w{seed}".encode(), codec=f"c{seed}".encode())


def test_round_trip(tmp_path):
    """What was written is read, and the record that is returned is the one on disk."""
    record = write(tmp_path / "a", 1)
    content = read_split_files(tmp_path / "a")
    assert (record, b"w1", b"c1") == (content.record, content.weights, content.codec)


def test_a_new_split_replaces_the_old_one(tmp_path):
    """Afterwards only the new files are there; what is not a split's, a checkpoint's for instance, stays."""
    write(tmp_path / "a", 1)
    for name in ("checkpoint.json", "checkpoint-3.safetensors", "weights-of-mine.txt"):
        (tmp_path / "a" / name).write_text("mine")
    for name in ("weights.safetensors", "codec.npz", ".split.json.0123456789abcdef", ".weights-0.safetensors"):
        (tmp_path / "a" / name).write_text("left by a killed process or an earlier version")
    record = write(tmp_path / "a", 2)
    expected = {"split.json", record.weights.name, record.codec.name, ".weights-0.safetensors"}
    expected |= {"checkpoint.json", "checkpoint-3.safetensors", "weights-of-mine.txt"}
    assert expected == {path.name for path in (tmp_path / "a").iterdir()}


def test_splits_of_earlier_versions(tmp_path):
    """A record that names no files belongs to weights.safetensors and codec.npz."""
    split_record().save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"w")
    (tmp_path / "codec.npz").write_bytes(b"c")
    content = read_split_files(tmp_path)
    assert (b"w", b"c") == (content.weights, content.codec)


@pytest.mark.parametrize("part", ["weights", "codec"])
@pytest.mark.parametrize("content", [None, b"", b"w1 and more", b"x1"])
def test_damaged_files(tmp_path, part, content):
    """A file that is missing, of another size or of another content is refused, with advice that helps."""
    record = write(tmp_path / "a", 1)
    path = tmp_path / "a" / getattr(record, part).name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StudyError, match="is damaged") as caught:
        read_split_files(tmp_path / "a")
    assert f"delete the folder {tmp_path / 'a'}; `isplit predict` or `isplit fit`" in str(caught.value)
    shutil.rmtree(tmp_path / "a")
    write(tmp_path / "a", 1)
    assert record == read_split_files(tmp_path / "a").record


def test_replaced_while_it_is_read(tmp_path, monkeypatch):
    """A reader that has read the old record finds the new split, not half of each."""
    write(tmp_path / "a", 1)
    real, written = SplitRecord.load, itertools.count()

    def load(directory):
        record = real(directory)
        if next(written) == 0:
            write(tmp_path / "a", 2)
        return record

    monkeypatch.setattr(SplitRecord, "load", load)
    content = read_split_files(tmp_path / "a")
    assert (2, b"w2", b"c2") == (content.record.seed, content.weights, content.codec)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_every_failure_leaves_a_whole_split(tmp_path, monkeypatch, call):
    """Whichever call finds the disk full, the old split is still there, and the message says why."""
    write(tmp_path / "a", 1)
    real, owner = (os.fsync, os) if call == "fsync" else (type(tmp_path).replace, type(tmp_path))
    for failing in range(20):
        calls = []

        def full(*args, calls=calls, failing=failing):
            calls.append(args)
            if len(calls) == failing + 1:
                raise OSError(28, "No space left on device")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, full)
            with contextlib.suppress(StudyError):
                write(tmp_path / "a", 2)
        content = read_split_files(tmp_path / "a")
        assert (f"w{content.record.seed}".encode(), f"c{content.record.seed}".encode()) == (
            content.weights,
            content.codec,
        )
        if len(calls) <= failing:
            break
    assert failing >= 3
    assert 2 == read_split_files(tmp_path / "a").record.seed


def test_a_damaged_split_does_not_block_the_others(tmp_path):
    """It is left out with a warning that says what to do."""
    for name in ("a", "b"):
        write(tmp_path / "splits" / name, 1)
    (tmp_path / "splits" / "a" / "split.json").write_text("{")
    with pytest.warns(DamagedSplitWarning, match=r"left out: .*split\.json is damaged.*delete the folder"):
        records = split_records(tmp_path)
    assert [tmp_path / "splits" / "b"] == list(records)


def test_the_usual_limits():
    """Where split.json does not say their size, weights may have 64 GiB and a codec 64 MiB."""
    assert (68_719_476_736, 67_108_864) == (LARGEST_WEIGHTS_BYTES, LARGEST_CODEC_BYTES)


def test_tidying_keeps_what_the_record_names(tmp_path):
    """Weights and codec of the record stay; those of other records, and temporary files, go."""
    record = write(tmp_path, 1)
    for name in ("weights.safetensors", "codec.npz", ".split.json.0123456789abcdef"):
        (tmp_path / name).write_text("left")

    tidy_split(tmp_path)

    assert {"split.json", record.weights.name, record.codec.name} == {path.name for path in tmp_path.iterdir()}
    assert b"w1" == read_split_files(tmp_path).weights


def test_tidying_keeps_the_files_of_earlier_versions(tmp_path):
    """A record that names no files keeps those with the names that they had; without a record all are leftovers."""
    split_record().save(tmp_path)
    for name in ("weights.safetensors", "codec.npz", ".split.json.0123456789abcdef"):
        (tmp_path / name).write_text("left")

    tidy_split(tmp_path)
    assert {"split.json", "weights.safetensors", "codec.npz"} == {path.name for path in tmp_path.iterdir()}

    (tmp_path / "split.json").unlink()
    tidy_split(tmp_path)
    assert [] == list(tmp_path.iterdir())
