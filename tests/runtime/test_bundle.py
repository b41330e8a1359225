"""Opening a bundle: what is whole opens, and each kind of damage or malice is refused by name."""

import json
import os
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from isplit.codec.codec import Codec
from isplit.errors import BundleError
from isplit.records import BundledFile
from isplit.runtime import bundle as bundle_module
from isplit.runtime.bundle import Bundle
from tests.replacing import REPLACEMENTS


def edit(directory, **fields):
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def describe(directory, *names):
    """Write files' new sizes and hashes into the manifest: what an attacker who made the bundle would do."""
    manifest = json.loads((directory / "manifest.json").read_text())
    files = {name: BundledFile.of(directory / name).model_dump() for name in names}
    edit(directory, files=manifest["files"] | files)


def refused(directory, match, **options):
    with pytest.raises(BundleError, match=match):
        Bundle.open(directory, **options)


@pytest.mark.parametrize("verify", [True, False])
def test_open(tiny, verify):
    """A whole bundle opens, and says where everything is."""
    bundle = Bundle.open(tiny.directory, verify=verify)
    assert "tiny" == bundle.name
    assert tiny.directory / "whole.onnx" == bundle.local_path == bundle.remote_path
    assert tiny.directory / "stage.1.head.onnx" == bundle.head_path("stage.1")
    assert tiny.directory / "stage.2.tail.onnx" == bundle.tail_path("stage.2")
    assert bundle.codec("stage.2") is bundle.codec("stage.2")


def test_answers_vary(tiny):
    """The fixture is no vacuous one: its answers take several values."""
    assert len(set(tiny.logits.argmax(1).tolist())) >= 3


@pytest.mark.parametrize("cut", ["stage.1", "stage.2"])
def test_placements_agree(tiny, cut):
    """Head, codec and tail give the whole model's logits bit for bit."""
    codec = tiny.bundle.codec(cut)
    decoded = np.stack([codec.decode_symbols(codec.encode_symbols(latent)) for latent in tiny.latents[cut]])
    session = onnxruntime.InferenceSession(str(tiny.bundle.tail_path(cut)), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"latent": decoded})
    np.testing.assert_array_equal(tiny.logits, logits)


def test_without_whole_model(own_bundle):
    """A bundle of splits alone has neither local nor remote."""
    edit(own_bundle, local=None, remote=None)
    bundle = Bundle.open(own_bundle)
    assert (None, None) == (bundle.local_path, bundle.remote_path)


def test_unknown_cut(tiny):
    """Asking for a cut that the bundle does not hold is a KeyError."""
    with pytest.raises(KeyError, match="conv9"):
        tiny.bundle.tail_path("conv9")


def test_no_bundle(tmp_path):
    """A directory without a manifest is no bundle, and the message says what writes one."""
    refused(tmp_path, "isplit export")


def test_manifest_is_bounded(own_bundle, monkeypatch):
    """The manifest's size is looked at before it is read."""
    monkeypatch.setattr(bundle_module, "MAX_MANIFEST_BYTES", 100)
    refused(own_bundle, "has at most 100")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "a"}', "[" * 100_000])
def test_manifest_damaged(own_bundle, content):
    """A manifest that is not one is damaged, not a crash."""
    (own_bundle / "manifest.json").write_text(content)
    refused(own_bundle, "cannot be used")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"schema": "isplit.bundle/2"}, "isplit.bundle/1"),
        ({"name": "a.b"}, "letters, digits"),
        ({"name": "../a"}, "letters, digits"),
        ({"cuts": [], "local": None, "remote": None}, "no placement"),
        ({"surprise": 1}, "surprise"),
        ({"files": {}}, "does not list"),
    ],
)
def test_manifest_wrong(own_bundle, fields, match):
    """A manifest whose fields do not fit is refused, and the field is named."""
    edit(own_bundle, **fields)
    refused(own_bundle, match)


def test_cut_called_remote(own_bundle):
    """No cut may take the name of another placement, which stands for another model on the wire."""
    cuts = json.loads((own_bundle / "manifest.json").read_text())["cuts"]
    edit(own_bundle, cuts=[cuts[0] | {"name": "remote"}])
    refused(own_bundle, "none of local, remote")


def test_cut_twice(own_bundle):
    """Two cuts of one name are refused."""
    cuts = json.loads((own_bundle / "manifest.json").read_text())["cuts"]
    edit(own_bundle, cuts=[cuts[0], cuts[0]])
    refused(own_bundle, "names must differ")


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "../outside", "a/../../outside", "./whole.onnx", "a\\b", "C:/a", "a//b", "", "a\n", "."]
)
def test_path_leaves(own_bundle, path):
    """A path that could leave the bundle is refused before anything is opened."""
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    edit(own_bundle, files=manifest["files"] | {path: {"bytes": 1, "sha256": "0" * 64}})
    refused(own_bundle, "not a plain relative one")


def test_link_out(own_bundle, tmp_path):
    """A link to a file outside is refused, whatever it holds."""
    outside = tmp_path / "outside"
    (own_bundle / "weights.bin").rename(outside)
    (own_bundle / "weights.bin").symlink_to(outside)
    refused(own_bundle, "outside the bundle")


def test_link_to_directory(own_bundle, tmp_path):
    """A link to a directory is refused."""
    (own_bundle / "more").symlink_to(tmp_path)
    refused(own_bundle, "link to a directory")


def test_link_to_itself(own_bundle):
    """A link that leads nowhere is refused in a sentence."""
    (own_bundle / "weights.bin").unlink()
    (own_bundle / "weights.bin").symlink_to("weights.bin")
    refused(own_bundle, "weights.bin: Too many levels of symbolic links")


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_every_file_replaced(tiny, tmp_path, kind):
    """Whatever stands in the place of any file of a bundle is refused, and nothing outside is written."""
    generator = random.Random(3)
    for name in ("manifest.json", *tiny.bundle.record.files):
        if (name, kind) == ("manifest.json", "a flipped bit"):
            continue  # it may be one of a text that means nothing
        directory = Path(shutil.copytree(tiny.directory, tmp_path / "bundles" / name.replace("/", "-")))
        REPLACEMENTS[kind](directory / name, generator)
        refused(directory, ".")
    assert ["bundles"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("first", ["stage.1.head.onnx", "stage.1.tail.onnx", "stage.1.codec.npz"])
def test_files_of_another_cut(own_bundle, first):
    """A file that stands in the place of the same file of another cut is noticed."""
    (own_bundle / first).write_bytes((own_bundle / first.replace("stage.1", "stage.2")).read_bytes())
    refused(own_bundle, "the manifest says")


def test_pipe(own_bundle):
    """What is not an ordinary file is refused before it is read: a pipe would block."""
    (own_bundle / "weights.bin").unlink()
    os.mkfifo(own_bundle / "weights.bin")
    refused(own_bundle, "not an ordinary file")


def test_missing(own_bundle):
    """A missing file is named."""
    (own_bundle / "weights.bin").unlink()
    refused(own_bundle, r"has no weights\.bin")


def test_unknown_file(own_bundle):
    """A file that the manifest does not list is named."""
    (own_bundle / "more").mkdir()
    (own_bundle / "more" / "extra.so").write_bytes(b"x")
    refused(own_bundle, r"more/extra\.so")


def test_size_differs(own_bundle):
    """A file of another size is refused without being read."""
    with (own_bundle / "whole.onnx").open("ab") as file:
        file.write(b"\0")
    refused(own_bundle, "the manifest says", verify=False)


def test_content_differs(own_bundle):
    """One changed bit is found; without `verify` contents are not looked at."""
    content = bytearray((own_bundle / "stage.2.codec.npz").read_bytes())
    content[100] ^= 1
    (own_bundle / "stage.2.codec.npz").write_bytes(content)
    refused(own_bundle, "was changed or damaged")
    Bundle.open(own_bundle, verify=False)


def with_reference(directory, **entries):
    """Give the first head's external tensor other entries, and describe the file anew."""
    name = "stage.1.head.onnx"
    model = onnx.load(directory / name, load_external_data=False)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.external_data)
    del tensor.external_data[:]
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key.rstrip("_"), value
    onnx.save(model, directory / name)
    describe(directory, name)


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../weights.bin", "a/../weights.bin", "", "more.bin", "*/_ORT_MEM_ADDR_/*"]
)
def test_weights_outside(own_bundle, location):
    """An ONNX file whose weights lie outside the bundle, or in memory, is refused."""
    with_reference(own_bundle, location=location, offset="0", length="192")
    refused(own_bundle, "not a file of the bundle")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"offset": "10", "length": "192"}, "up to byte 202"),
        ({"length": "1000000000000"}, "up to byte 1000000000000"),
        ({"offset": "-1"}, "external data is"),
        ({"length": "many"}, "external data is"),
        ({"location_": "weights.bin"}, "twice"),
    ],
)
def test_weights_range(own_bundle, entries, match):
    """A range beyond the end of the file, one that is no range, or a location given twice is refused."""
    with_reference(own_bundle, location="weights.bin", **entries)
    refused(own_bundle, match)


def test_weights_in_subgraph(own_bundle):
    """A tensor inside an attribute's subgraph is found too."""
    name = "whole.onnx"
    model = onnx.load(own_bundle / name)
    inner = onnx.TensorProto(name="t", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    entry = inner.external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    graph = onnx.helper.make_graph([], "inner", [], [], [inner])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", graph))
    onnx.save(model, own_bundle / name)
    describe(own_bundle, name)
    refused(own_bundle, "/etc/hostname")


def test_nested_too_deep(own_bundle):
    """Endless nesting is refused, not followed."""
    content = b""
    for number in (6, 5, 1) * 30 + (7,):  # from inside: subgraph, attribute, node, ..., the graph
        length = len(content)
        content = bytes([number << 3 | 2, length & 0x7F | 0x80, length >> 7]) + content
    (own_bundle / "whole.onnx").write_bytes(content)
    describe(own_bundle, "whole.onnx")
    refused(own_bundle, "deep")


@pytest.mark.parametrize("content", [b"", b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", b"\xff" * 20, b"\x3a\x05abc"])
def test_not_onnx(own_bundle, content):
    """A file that is no protobuf message is refused before onnxruntime sees it."""
    (own_bundle / "whole.onnx").write_bytes(content)
    describe(own_bundle, "whole.onnx")
    refused(own_bundle, "not an ONNX model")


def test_codec_of_another_model(own_bundle, tiny):
    """A codec that was made for another model is refused."""
    other = tiny.bundle.codec("stage.1")
    Codec(model="e" * 64, cut=other.cut, shape=other.shape, quantiser=other.quantiser).save(
        own_bundle / "stage.1.codec.npz"
    )
    describe(own_bundle, "stage.1.codec.npz")
    with pytest.raises(BundleError, match="is the codec of"):
        Bundle.open(own_bundle).codec("stage.1")


def test_codec_pickled(own_bundle):
    """A codec that holds a pickle is refused; nothing is unpickled."""
    np.savez(own_bundle / "stage.1.codec.npz", codec=np.array([{"a": 1}], dtype=object))
    describe(own_bundle, "stage.1.codec.npz")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(own_bundle).codec("stage.1")


def test_codec_is_bounded(own_bundle):
    """A codec that unpacks to more than a codec needs is refused before it is unpacked."""
    with zipfile.ZipFile(own_bundle / "stage.1.codec.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("codec.npy", b"\0" * (bundle_module.MAX_CODEC_BYTES + 1))
    describe(own_bundle, "stage.1.codec.npz")
    with pytest.raises(BundleError, match="unpacks to"):
        Bundle.open(own_bundle).codec("stage.1")


def test_codec_not_zip(own_bundle):
    """A codec that is no .npz file is refused."""
    (own_bundle / "stage.1.codec.npz").write_bytes(b"nonsense")
    describe(own_bundle, "stage.1.codec.npz")
    with pytest.raises(BundleError, match="not a codec"):
        Bundle.open(own_bundle).codec("stage.1")


def test_repr_names_the_directory(tiny):
    """A bundle shows where it is, and not its whole manifest."""
    assert f"Bundle(directory={tiny.directory!r})" == repr(tiny.bundle)
