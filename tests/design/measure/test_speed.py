"""isplit.design.measure.speed: seconds of one image from a timed batch, and a model that is left as it was."""

from itertools import count

import torch

from isplit.design.inputs.models import load_model
from isplit.design.measure.speed import ModelSpeed, measure_speed


def test_seconds_of_one_image(tiny_model_file):
    """A batch of four that takes a second takes a quarter for an image; one long run is enough."""
    ticks = count(start=0.0, step=1.0)
    calls = []

    def clock():
        calls.append(None)
        return next(ticks)

    speed = measure_speed(load_model(f"{tiny_model_file}:build"), clock=clock)
    assert ModelSpeed(forward_s=0.25, gradient_s=0.25) == speed
    assert 4 == len(calls)


def test_short_runs_are_repeated(tiny_model_file):
    """Of five short runs the shortest counts, because the first warms up."""
    times = iter([0.0, 0.2, 1.0, 1.04, 2.0, 2.1, 3.0, 3.1, 4.0, 4.1] * 2)
    speed = measure_speed(load_model(f"{tiny_model_file}:build"), clock=lambda: next(times))
    assert 0.01 == round(speed.forward_s, 6)


def test_a_slow_first_run_is_not_the_measurement(tiny_model_file):
    """A run of 0.6 s is followed by others until a second has passed, since the first one may be twice too slow."""
    times = iter([0.0, 0.6, 1.0, 1.24, 2.0, 2.25] * 2)
    speed = measure_speed(load_model(f"{tiny_model_file}:build"), clock=lambda: next(times))
    assert 0.06 == round(speed.forward_s, 6)


def test_larger_batches(tiny_model_file):
    """A batch of ten images that takes a second takes a tenth for an image."""
    ticks = count(start=0.0, step=1.0)
    speed = measure_speed(load_model(f"{tiny_model_file}:build"), images=10, clock=lambda: next(ticks))
    assert ModelSpeed(forward_s=0.1, gradient_s=0.1) == speed


def test_the_clock_is_read_when_the_device_has_computed(tiny_model_file, monkeypatch):
    """Before each reading of the clock, the device is waited for: it may only have queued the operations."""
    events, ticks = [], count(start=0.0, step=1.0)

    def clock():
        events.append("clock")
        return next(ticks)

    monkeypatch.setattr("isplit.design.measure.speed.synchronise", lambda device: events.append(device.type))
    measure_speed(load_model(f"{tiny_model_file}:build"), clock=clock)
    assert ["cpu", "clock"] * 4 == events


def test_the_model_is_left_as_it_was(tiny_model_file):
    """Modes and gradients of the model stay."""
    model = load_model(f"{tiny_model_file}:build")
    model.module.train()
    measure_speed(model)
    assert model.module.training
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert torch.is_grad_enabled()
