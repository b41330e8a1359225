"""A model is tried before it is traced: it runs, repeats its answers, and answers each image on its own."""

import itertools
import random

import pytest
import torch
from torch import nn

from isplit.design.graph.outputs import ModelCall
from isplit.design.graph.trial import bound_to_batch, gives_probabilities, is_close, try_model
from isplit.errors import ModelError
from tests.design.graph.nets import TwoLayers

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Changed(nn.Module):
    """A model whose answer is changed by a function of it."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = TwoLayers(), change

    def forward(self, x):
        return self.change(self.inner(x))


class Prepared(nn.Module):
    """A model whose images are changed by a function first."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = TwoLayers(), change

    def forward(self, x):
        return self.inner(self.change(x))


COUNTER = itertools.count(1)


def tried(model):
    with torch.no_grad():
        return try_model(model.eval(), IMAGES, None)


def test_the_logits_and_their_path():
    """The trial tells where in the output the logits are, and what they are for three images."""
    model = Changed(lambda logits: {"embedding": logits[:, :2], "logits": logits})

    trial = tried(model)

    assert ("logits",) == trial.call.path
    torch.testing.assert_close(trial.logits, model.inner(IMAGES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits + torch.randn_like(logits), r"differently from run to run.*test_trial.py"),
        (lambda logits: logits * random.random(), r"differently from run to run.*\(random at .*test_trial.py:\d+: "),
        (lambda logits: logits - logits.mean(0), "depends on the others in its batch"),
        (lambda logits: logits.sum(), "holds no logits"),
        (lambda logits: logits[:1], "holds no logits"),
        (lambda logits: logits.argmax(1), r"holds no logits N×K: whole numbers \(int64\) are chosen classes"),
        (lambda logits: {"class": logits.argmax(1), "sure": logits.amax(1) > 0}, r"whole numbers \(bool, int64\)"),
        (lambda logits: logits * next(COUNTER), r"first result that differs is that of mul at .*next\(COUNTER\)"),
        (lambda logits: logits.reshape(7, -1), r"the model fails on images of shape \(3, 8, 8\), at .*test_trial.py"),
    ],
)
def test_refusals(change, message):
    """The reason is the true one, with the line of the model's code where there is one."""
    with pytest.raises(ModelError, match=message):
        tried(Changed(change))


def cropped_by_the_batch(images):
    """Cut the images to a size that the largest value of the whole batch decides."""
    size = min(8, 4 + int(images.abs().max()))
    return nn.functional.interpolate(images[..., :size, :size], size=(8, 8))


def test_what_mixes_the_images_is_named():
    """A value of the batch that is read into Python is named before an operation; BatchNorm is not suspected."""

    class Cropped(TwoLayers):
        def forward(self, x):
            return super().forward(cropped_by_the_batch(x))

    with pytest.raises(ModelError, match=r"depends on the others in its batch.* into Python") as refusal:
        tried(Cropped())

    assert "test_trial.py" in str(refusal.value)
    assert "size = min(8, 4 + int(images.abs().max()))" in str(refusal.value)
    assert "BatchNorm" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "operation"),
    [
        (lambda images: images / images.abs().max(), "div"),
        (lambda images: nn.functional.batch_norm(images, None, None, training=True), "native_batch_norm"),
        (lambda images: torch.sort(images, 0)[0], "sort"),
    ],
)
def test_the_operation_that_mixes_images_is_named(change, operation):
    """The first whose result for an image is another one in another batch, with its line."""
    with pytest.raises(ModelError, match=rf"\({operation} at .*test_trial\.py:\d+: \(lambda images: "):
        tried(Prepared(change))


class Normalised(nn.Module):
    """A network with a BatchNorm, whose result has a weight; `training` puts it into training mode in every run."""

    def __init__(self, *, tracks=True, training=False, weight=1.0):
        super().__init__()
        self.norm, self.inner = nn.BatchNorm2d(3, track_running_stats=tracks), TwoLayers()
        self.training_norm, self.weight = training, weight

    def forward(self, x):
        if self.training_norm:
            self.norm.train()
        return self.inner(x + self.weight * self.norm(x))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"training": True}, "it is in training mode while the model runs"),
        ({"training": True, "weight": 1e-3}, "it is in training mode while the model runs"),
        ({"tracks": False}, "it keeps no running statistics"),
    ],
)
def test_a_norm_of_the_batch_is_the_reason(options, reason):
    """A BatchNorm that uses the batch's statistics is named, also where it changes little; a later mean is not."""
    with pytest.raises(ModelError, match=rf"the BatchNorm layer 'norm' normalises .* of the batch: {reason}"):
        tried(Normalised(**options))


def test_a_norm_that_keeps_images_apart():
    """What a BatchNorm in training mode normalises need not be the images."""

    class OfWeights(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.weight, self.inner = nn.BatchNorm1d(4), nn.Parameter(torch.randn(3, 4)), TwoLayers()

        def forward(self, x):
            self.norm.train()
            return self.inner(x) + self.norm(self.weight).sum()

    assert (3, TwoLayers()(IMAGES).shape[1]) == tried(OfWeights()).logits.shape


def test_a_model_of_one_size_of_batch():
    """The size of the batch is the reason; the number of images that it takes is said."""

    class InPairs(TwoLayers):
        def forward(self, x):
            return super().forward(x.reshape(2, 3, 8, 8))

    with pytest.raises(ModelError, match=r"bound to one size of batch: it takes 2 at a time, and not 3.*test_trial.py"):
        tried(InPairs())


def test_a_larger_size_of_batch():
    """The size of the batch is also the reason where only a larger one is taken."""
    said = bound_to_batch(lambda batch: batch.reshape(8, 3 * 8 * 8), IMAGES)

    assert said is not None
    assert "it takes 8 at a time, and not 3" in said


def test_a_larger_batch_that_stands_for_one_image():
    """Four images that are too small make one of the right size, so that the size of the batch is not the reason."""
    assert bound_to_batch(lambda batch: batch.reshape(1, 4 * 3 * 8 * 8), IMAGES) is None


def test_torchscript_is_refused():
    """A compiled model has no Python code to follow."""
    with pytest.warns(Warning, match="torch.jit"):
        model = torch.jit.trace(TwoLayers().eval(), IMAGES)

    with pytest.raises(ModelError, match="TorchScript"):
        tried(model)


def test_the_input_of_the_caller_stays():
    """A model that writes into its input gets a copy."""
    before = IMAGES.clone()

    tried(nn.Sequential(nn.ReLU(inplace=True), TwoLayers()))

    assert torch.equal(before, IMAGES)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda logits: logits, False),
        (lambda logits: logits.softmax(1), True),
        (lambda logits: logits.sigmoid(), False),  # of several classes at once
        (lambda logits: logits[:, 0].sigmoid(), True),
        (lambda logits: logits[:, :1] * 1e-3 + 0.5, False),  # between 0 and 1 for usual images only
    ],
)
def test_probabilities(change, expected):
    """Told by their values, for usual images and for very large ones."""
    assert expected is gives_probabilities(Changed(change).eval(), IMAGES, ModelCall())


@pytest.mark.parametrize(("change", "expected"), [(0.0, True), (1e-6, True), (0.5, False)])
def test_closeness_is_a_share_of_the_difference_between_images(change, expected):
    """Rounding is far below it; another computation is not."""
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])

    assert expected is bool(is_close(logits[:2] + change, logits))
