"""What crosses the cut, kept or computed anew."""

import numpy as np
import pytest
import torch

from isplit.design.graph import split
from isplit.design.inputs.batches import iter_batches
from isplit.design.training.features import CACHE, Features, FeatureSource
from isplit.errors import InputError


@pytest.fixture
def source_of(study):
    def make(**changes):
        view = study.view()
        images = view.images("fit", limit=10)
        (cut,) = study.cuts(("pool1",))
        return FeatureSource(**{"view": view, "cut": cut, "images": images, **changes})

    return make


def collect(features, rows=None):
    rows = np.arange(len(features)) if rows is None else np.array(rows)
    with features.batches(rows, batch_size=4) as batches:
        examples = list(batches)
    return [torch.cat([getattr(example, name) for example in examples]) for name in ("inputs", "teacher", "labels")]


def true_features(source):
    study = source.view.study
    (batch,) = iter_batches(study.data, source.images, study.model.preprocessing, batch_size=99)
    with torch.no_grad():
        return batch, split(study.graph, source.cut.name).head(batch.images)


def test_leaving_a_pass_stops_the_decoding(source_of, decoding_threads):
    """An error in the loop over batches ends the threads that decode the next one, though its traceback is kept."""

    def fail(features):
        with features.batches(np.arange(10), batch_size=2) as batches:
            next(batches)
            assert decoding_threads()
            raise RuntimeError("diverged")

    with Features(source_of(), store="recompute") as features, pytest.raises(RuntimeError, match="diverged") as caught:
        fail(features)
    assert caught.traceback
    assert [] == decoding_threads()


@pytest.mark.parametrize("store", ["memory", "disk", "keep", "recompute"])
def test_every_store_gives_the_same(source_of, store):
    """Wherever features are kept they come in the order asked for, within the rounding of float16."""
    source = source_of()
    batch, expected = true_features(source)
    with Features(source, store=store) as features:
        inputs, teacher, labels = collect(features, [3, 1, 9])
    error = (inputs - expected[[3, 1, 9]]).abs()
    assert (error <= expected[[3, 1, 9]].abs() * 2**-11 + 1e-6).all()
    assert source.view.labels(source.images)[[3, 1, 9]].tolist() == labels.tolist()
    with torch.no_grad():
        assert torch.allclose(source.view.study.model.module(batch.images)[[3, 1, 9]], teacher, atol=1e-5)


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_features_of_any_size(source_of, size):
    """Features far beyond the range of float16 are kept as precisely."""
    source = source_of()
    with torch.no_grad():
        for parameter in (source.view.study.model.module.conv1.weight, source.view.study.model.module.conv1.bias):
            parameter.mul_(size)
    _, expected = true_features(source)
    with Features(source, store="memory") as features:
        inputs, _, _ = collect(features)
    assert torch.allclose(expected, inputs, rtol=2**-11, atol=size * 1e-6)


def test_memory_limit(source_of, study):
    """What does not fit into the memory goes to the disk, and is gone afterwards."""
    with Features(source_of(), memory_bytes=100) as features:
        assert "disk" == features.kept
        assert 1 == len(list((study.directory / CACHE).iterdir()))
    assert [] == list((study.directory / CACHE).iterdir())


def test_kept_features_are_used_again(source_of, study, monkeypatch):
    """The next run at the same cut computes nothing; one on other images does."""
    with Features(source_of(), store="keep") as features:
        before = collect(features)
    monkeypatch.setattr(Features, "_fill", lambda *_: pytest.fail("computed again"))
    with Features(source_of(), store="keep") as features:
        after = collect(features)
    assert all(torch.equal(tensor, other) for tensor, other in zip(before, after, strict=True))
    with pytest.raises(pytest.fail.Exception):
        Features(source_of(images=source_of().images[:5]), store="keep")
    assert 2 == len(list((study.directory / CACHE).iterdir()))


def test_mirrored_copies(source_of):
    """Row N + i is image i mirrored, with answers of its own."""
    source = source_of(flip=True)
    with Features(source, store="memory") as kept, Features(source, store="recompute") as computed:
        assert 20 == len(kept)
        stored, other = collect(kept), collect(computed)
    assert torch.allclose(stored[0], other[0], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(stored[0][:10], stored[0][10:], atol=0.1)
    assert not torch.equal(stored[1][:10], stored[1][10:])
    assert torch.equal(stored[2][:10], stored[2][10:])


def test_images_for_an_open_head(source_of):
    """With a head that learns the inputs are the images."""
    source = source_of(raw=True)
    batch, _ = true_features(source)
    with Features(source, store="memory") as features:
        assert "recompute" == features.kept
        assert torch.equal(batch.images, collect(features)[0])


def test_no_room(source_of, study):
    """A directory that cannot be written is said to be the trouble."""
    (study.directory / CACHE).write_text("in the way")
    with pytest.raises(InputError, match="choose features=recompute"):
        Features(source_of(), store="disk")


def test_bf16_features_are_float32_near_the_exact_ones(source_of):
    """What is kept is float32 when it comes back, off by bfloat16's rounding, and not taken for the exact ones."""
    with Features(source_of(), store="keep") as features:
        exact = collect(features)
    with Features(source_of(precision="bf16"), store="keep") as features:
        rounded = collect(features)
    assert torch.float32 == rounded[0].dtype == rounded[1].dtype
    assert not torch.equal(exact[0], rounded[0])
    assert torch.allclose(exact[0], rounded[0], rtol=0.05, atol=0.02 * float(exact[0].abs().max()))
    assert torch.equal(exact[2], rounded[2])
