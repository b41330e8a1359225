"""isplit.design.measure.whole: right answers are counted, whatever the output is wrapped in, and no thread is left."""

import numpy as np
import pytest
import torch
from torch import nn

from isplit.design.class_subsets import ClassSubset, parse_groups
from isplit.design.inputs.data import open_data
from isplit.design.measure.whole import BaseAccuracy, measure_accuracy
from isplit.errors import ModelError
from isplit.progress import silent
from isplit.records import Accuracy


class Constant(nn.Module):
    """Says "cat" whatever it sees, in the form that `wrap` gives the logits."""

    def __init__(self, wrap=lambda logits: logits):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(torch.tensor([[1.0, 0.0]]).expand(len(x), 2))


@pytest.fixture
def measure(tmp_path, class_files, write_files, preprocessing_of):
    """Measure a model on ten cats and six of ten dogs, in batches of four."""
    data = open_data(str(write_files(tmp_path, class_files())))
    (group,) = parse_groups((), data)

    def run(model, progress=silent):
        return measure_accuracy(
            model,
            dataset=data,
            indices=np.arange(16),
            preprocessing=preprocessing_of(image_size=(6, 6), resize_size=6),
            group=ClassSubset(group, data.classes, (0, 1)),
            batch_size=4,
            progress=progress,
        )

    return run


def test_counts(measure):
    """The share of right answers, and of the most frequent class; progress goes from nothing to all."""
    seen = []

    accuracy = measure(Constant(), lambda what, done, total: seen.append((done, total)))

    assert BaseAccuracy(accuracy=Accuracy.from_counts(10, 16), chance=10 / 16) == accuracy
    assert [(0, 16), (4, 16), (8, 16), (12, 16), (16, 16)] == seen


@pytest.mark.parametrize(
    "wrap",
    [lambda logits: (logits, None), lambda logits: {"features": logits[:, :, None], "out": [logits]}],
    ids=["tuple", "nested"],
)
def test_logits_inside_the_output(measure, wrap):
    """Logits are found in tuples, lists and mappings, as when the model is loaded."""
    assert 10 == measure(Constant(wrap)).accuracy.correct


def test_output_without_logits(measure):
    """An output without them is an error."""
    with pytest.raises(ModelError, match="no tensor N×K"):
        measure(Constant(lambda logits: logits[:, :, None]))


def test_failing_model_stops_the_decoding(measure, decoding_threads):
    """When the model raises, the threads that decode have ended before the caller sees it."""

    def fail(logits):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory") as caught:
        measure(Constant(fail))

    assert caught.traceback  # it holds the frames, and with them whatever was not closed
    assert [] == decoding_threads()
