"""The manifest: its words never change their meaning, and what does not fit together is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from isplit.records import (
    Accuracy,
    BundledFile,
    BundleRecord,
    ClassGroup,
    CutPlacement,
    ImageSetting,
    LocalPlacement,
    Preprocessing,
    RemotePlacement,
    TrainedOpponent,
)

HASH = "0123456789abcdef" * 4

# What a reader of isplit.bundle/1 has to understand for ever. Fields may be added with a default, never changed.
GOLDEN = {
    "schema": "isplit.bundle/1",
    "name": "pets",
    "isplit_version": "0.1.0",
    "versions": {"onnx": "1.23.2"},
    "model_fingerprint": HASH,
    "group": {"name": "all", "classes": ["cat", "ill"], "members": [["cat"], ["flu", "cold"]]},
    "preprocessing": {
        "image_size": [64, 64],
        "resize_size": 72,
        "interpolation": "bilinear",
        "channels": 3,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    },
    "base_accuracy": {"correct": 80, "images": 100, "accuracy": 0.8, "low": 0.7, "high": 0.9},
    "local": {"file": "whole.onnx", "accuracy": None, "int8": False},
    "remote": {
        "file": "whole.onnx",
        "accepted_formats": ["jpeg", "webp"],
        "recommended": {
            "format": "webp",
            "quality": 80,
            "scale": 0.75,
            "accuracy": None,
            "payload_bytes_mean": 900.5,
            "payload_bytes_p95": 1200.0,
        },
        "max_image_bytes": 2097152,
        "max_image_pixels": 16777216,
    },
    "cuts": [
        {
            "name": "features.23",
            "head": "features.23/head.onnx",
            "tail": "features.23/tail.onnx",
            "codec": "features.23/codec.npz",
            "latent_shape": [16, 4, 4],
            "accuracy": {"correct": 70, "images": 100, "accuracy": 0.7, "low": 0.6, "high": 0.8},
            "payload_bytes_mean": 120.0,
            "payload_bytes_p95": 150.0,
            "logits_tolerance": 0.001,
            "head_mac_share": 0.8,
            "int8": True,
        }
    ],
    "files": {
        name: {"bytes": 10, "sha256": HASH}
        for name in ("whole.onnx", "features.23/head.onnx", "features.23/tail.onnx", "features.23/codec.npz")
    },
}


def record(**changes):
    return BundleRecord.from_json(json.dumps(GOLDEN | changes))


def test_golden():
    """The golden manifest is read as it was meant, and written again as it is; what is new has a default."""
    manifest = record()
    cut = manifest.cut("features.23")
    assert isinstance(cut, CutPlacement)
    assert ("pets", "features.23/tail.onnx", (16, 4, 4), True) == (manifest.name, cut.tail, cut.latent_shape, cut.int8)
    assert isinstance(manifest.remote, RemotePlacement)
    assert ImageSetting(**GOLDEN["remote"]["recommended"]) == manifest.remote.recommended
    assert LocalPlacement(file="whole.onnx", accuracy=None) == manifest.local
    assert BundledFile(bytes=10, sha256=HASH) == manifest.files["whole.onnx"]
    assert ClassGroup(name="all", classes=("cat", "ill"), members=(("cat",), ("flu", "cold"))) == manifest.group
    assert isinstance(manifest.preprocessing, Preprocessing)
    assert isinstance(manifest.base_accuracy, Accuracy)
    written = json.loads(manifest.to_json())
    assert GOLDEN == without_news(written, GOLDEN)


def without_news(written, golden):
    """Leave out fields that the golden manifest does not know; they must say nothing."""
    if isinstance(golden, dict):
        news = {name: value for name, value in written.items() if name not in golden}
        assert all(value in (None, (), [], {}, False) for value in news.values()), news
        return {name: without_news(written[name], value) for name, value in golden.items()}
    if isinstance(golden, list):
        return [without_news(*pair) for pair in zip(written, golden, strict=True)]
    return written


def test_opponents_round_trip():
    """Networks trained on compressed images are read as they were written; older manifests have none."""
    assert () == record().opponents
    setting = GOLDEN["remote"]["recommended"]
    opponents = record(
        opponents=[setting | {"after": None, "epochs": 3}, setting | {"after": "a", "epochs": 0}]
    ).opponents
    shown = [(opponent.format, opponent.quality, opponent.after, opponent.epochs) for opponent in opponents]
    assert [("webp", 80, None, 3), ("webp", 80, "a", 0)] == shown
    assert opponents == BundleRecord.from_json(record(opponents=json.loads(_texts(opponents))).to_json()).opponents


def _texts(opponents: tuple[TrainedOpponent, ...]) -> str:
    return "[" + ",".join(opponent.model_dump_json() for opponent in opponents) + "]"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"opponents": [GOLDEN["remote"]["recommended"]]}, "opponents"),
        ({"opponents": [GOLDEN["remote"]["recommended"] | {"after": None, "epochs": -1}]}, "epochs"),
        ({"name": "a.b"}, "letters, digits"),
        ({"name": ""}, "letters, digits"),
        ({"cuts": [], "local": None, "remote": None}, "no placement"),
        ({"cuts": GOLDEN["cuts"] * 2}, "names must differ"),
        ({"cuts": [GOLDEN["cuts"][0] | {"name": "local"}]}, "none of local, remote"),
        ({"cuts": [GOLDEN["cuts"][0] | {"latent_shape": []}]}, "latent_shape"),
        ({"cuts": [GOLDEN["cuts"][0] | {"latent_shape": [0]}]}, "latent_shape"),
        ({"cuts": [GOLDEN["cuts"][0] | {"head_mac_share": -0.5}]}, "head_mac_share"),
        ({"files": {}}, "does not list"),
        ({"files": GOLDEN["files"] | {"manifest.json": {"bytes": 1, "sha256": HASH}}}, "its own hash"),
        ({"files": GOLDEN["files"] | {"a": {"bytes": 1, "sha256": HASH.upper()}}}, "sha256"),
        ({"files": GOLDEN["files"] | {"a": {"bytes": -1, "sha256": HASH}}}, "bytes"),
        ({"remote": GOLDEN["remote"] | {"accepted_formats": ["png"]}}, "accepted are png"),
        ({"remote": GOLDEN["remote"] | {"accepted_formats": ["tiff"]}}, "accepted_formats"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_refused(changes, match):
    """Names, shapes, paths and placements that do not fit together are refused, and the field is named."""
    with pytest.raises(ValidationError, match=match):
        record(**changes)


def test_head_above_the_whole():
    """A late head and its encoder may take more operations than the whole model, and the manifest says so."""
    cut = GOLDEN["cuts"][0] | {"head_mac_share": 1.05}
    assert 1.05 == record(cuts=[cut]).cuts[0].head_mac_share


def test_unknown_cut():
    """A cut that is not there is a KeyError."""
    with pytest.raises(KeyError, match=r"features\.1"):
        record().cut("features.1")


segments = st.text("abz019._- é", min_size=1, max_size=6).filter(lambda text: set(text) != {"."})


@given(st.lists(segments, min_size=1, max_size=3).map("/".join))
def test_plain_paths(path):
    """Paths that go down are taken as they are, and come back from JSON."""
    manifest = record(files=GOLDEN["files"] | {path: {"bytes": 1, "sha256": HASH}})
    assert path in BundleRecord.from_json(manifest.to_json()).files


@given(st.text(max_size=12).map(lambda text: f"../{text}") | st.text(max_size=12).map(lambda text: f"/{text}"))
def test_other_paths(path):
    """Paths that go up or start at the root never are."""
    with pytest.raises(ValidationError, match="could leave the bundle"):
        record(files=GOLDEN["files"] | {path: {"bytes": 1, "sha256": HASH}})


def test_file_of(tmp_path):
    """A file is described by its size and the SHA-256 of its content."""
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert BundledFile(bytes=3, sha256=digest) == BundledFile.of(tmp_path / "a")
