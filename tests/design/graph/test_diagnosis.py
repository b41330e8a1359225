"""Which line of a model's own code is named."""

import random
import sys

import numpy as np
import pytest
import torch

from isplit.design.graph.diagnosis import (
    changed_state,
    differing_operation,
    first_line,
    gradient_call,
    mixing_operation,
    pixel_reads,
    place_of,
    python_random,
    random_operations,
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("first\nsecond", "first"),
        ("", "ValueError"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "…"),
    ],
)
def test_first_line(message, expected):
    """The first line of a message, or the error's type; at most 200 characters."""
    assert expected == first_line(ValueError(message))


def test_reads_that_depend_on_pixels():
    """A reading whose value differs between batches is named by its line; one that is always the same is not."""

    def run(batch: torch.Tensor) -> None:
        batch.new_ones(1).item()  # the same for all
        batch.max().item()

    (read,) = pixel_reads(run, [torch.zeros(2), torch.ones(2)])
    assert "batch.max().item()" in read.place
    assert [] == pixel_reads(run, [torch.ones(2), torch.ones(2)])


def test_whole_tensors_that_are_read():
    """Leaving torch with a whole tensor is a reading too."""
    (read,) = pixel_reads(lambda batch: batch.tolist(), [torch.zeros(2), torch.ones(2)])
    assert "tolist" in read.place


def test_random_operations():
    """Random operations are listed in their order, with arguments given by name as well; dropout that is off is not."""

    def run() -> None:
        torch.normal(mean=torch.zeros(2), std=1.0)
        torch.dropout(torch.ones(2), 0.5, train=False)
        torch.ones(2).add(other=1.0)
        torch.rand(2, generator=None)

    assert ["normal", "rand"] == [event.operation for event in random_operations(run)]


def test_operation_that_mixes_images():
    """The first whose row for an image changes with the batch, as it was before it was overwritten in place."""
    images = torch.arange(12.0).reshape(3, 4)

    def run(batch: torch.Tensor) -> None:
        doubled = batch * 2
        doubled.sub_(batch.mean(0))

    event = mixing_operation(run, images, equal=lambda part, whole: torch.equal(part, whole[: len(part)]))

    assert event is not None
    assert "sub_" == event.operation
    assert "doubled.sub_(batch.mean(0))" in event.place


def test_operations_that_keep_images_apart():
    """No operation is named, nor where two batches take different ways through the code."""

    def separate(batch: torch.Tensor) -> None:
        batch.mul(2).sum((0, 1))

    def of_two_ways(batch: torch.Tensor) -> None:
        _ = batch + 1 if len(batch) == 3 else batch - 1

    for run in (separate, of_two_ways):
        assert (
            mixing_operation(run, torch.randn(3, 4), equal=lambda part, whole: bool((part == whole[:2]).all())) is None
        )


def drawn_by_python():
    _ = abs(-1)
    return [helper(), random.choice([1, 2])]


def drawn_by_numpy():
    np.random.rand(2)
    return random.random()


def drawn_after_an_error():
    return [helper(), recovered(), random.random()]


def helper():
    return 0


def recovered():
    try:
        return int("no number")
    except ValueError:
        return 0


@pytest.mark.parametrize(
    ("run", "operation", "line"),
    [
        (drawn_by_python, "random", "return [helper(), random.choice([1, 2])]"),
        (drawn_by_numpy, "numpy.random", "np.random.rand(2)"),
        (drawn_after_an_error, "random", "return [helper(), recovered(), random.random()]"),
    ],
)
def test_random_numbers_of_python(run, operation, line):
    """The first line that draws is named, also where it has called another function before; tracing ends with it."""
    tracing = sys.gettrace()

    event = python_random(lambda: [helper(), run()])

    assert event is not None
    assert operation == event.operation
    assert event.place.startswith(f"{__file__}:")
    assert event.place.endswith(f": {line}")
    assert tracing is sys.gettrace()


def test_no_random_numbers_of_python():
    """A run that draws nothing, or from a generator of its own, has no such line."""
    assert python_random(lambda: [helper(), random.Random(0).random()]) is None


def test_place_of_an_error():
    """The innermost line that is neither torch's nor ours."""
    try:
        torch.zeros(2).reshape(3)
    except RuntimeError as error:
        place = place_of(error)
    assert "torch.zeros(2).reshape(3)" in place


def test_operation_that_differs_between_runs():
    """The first result that is another one in the second run is named, be it a value, a shape or the line."""
    count = iter(range(1, 99))

    def run() -> None:
        torch.ones(2).add(1.0)
        torch.ones(2).mul(next(count))

    event = differing_operation(run)

    assert event is not None
    assert "mul" == event.operation
    assert "next(count)" in event.place
    assert differing_operation(lambda: torch.full((2,), float("nan")).add(1.0)) is None


def test_gradients_that_a_run_takes():
    """The call is named with its line; a run without one has none."""
    weight = torch.ones(2, requires_grad=True)

    def run() -> None:
        weight.sum().backward()

    event = gradient_call(run)

    assert event is not None
    assert "backward" == event.operation
    assert "weight.sum().backward()" in event.place
    assert gradient_call(weight.sum) is None


def test_state_that_a_run_changes():
    """Buffers by their values and attributes by what they are; the rest is not named."""
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    model[0].calls = 0

    def run() -> None:
        model[0].calls += 1
        model(torch.randn(2, 3, 4, 4))

    assert ["0.running_mean", "0.running_var", "0.num_batches_tracked", "0.calls"] == changed_state(model, run)
    model.eval()
    assert [] == changed_state(model, lambda: model(torch.randn(2, 3, 4, 4)))
