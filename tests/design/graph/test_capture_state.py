"""Models with hooks, random numbers and state of their own are captured, or refused with the true reason."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from isplit.design.graph import ModelGraph, split
from isplit.design.graph.capture import capture
from isplit.errors import ModelError
from tests.design.graph.nets import Stateful, TwoLayers


class Hooked(TwoLayers):
    """Two layers with a hook that looks at the output of the first one."""

    def __init__(self, hook: Callable[["Hooked", torch.Tensor], object], *, reads: bool = False) -> None:
        super().__init__()
        self.features: dict[str, torch.Tensor] = {}
        self.reads = reads
        self.body = nn.Sequential(self.conv, self.relu)
        self.body.register_forward_hook(lambda module, inputs, output: hook(self, output))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        if self.reads:
            x = x + self.features["body"].flip(2)
        return self.linear(torch.flatten(self.pool(x), 1))


def keep(model: Hooked, output: torch.Tensor) -> None:
    model.features["body"] = output


def keep_array(model: Hooked, output: torch.Tensor) -> None:
    model.features["body"] = output.detach().cpu().numpy()  # type: ignore[assignment]


def raise_if_large(model: Hooked, output: torch.Tensor) -> None:
    if output.max() > 1e6:
        raise FloatingPointError


def keep_largest(model: Hooked, output: torch.Tensor) -> None:
    model.features["largest"] = torch.tensor(max(0.0, float(output.detach().max())))


def double_if_large(model: Hooked, output: torch.Tensor) -> torch.Tensor | None:
    return output * 2 if output.max() > 1 else None


@pytest.mark.parametrize("was_run", [False, True])
@pytest.mark.parametrize(
    ("hook", "reads", "expected"),
    [
        (keep, False, ""),
        (keep, True, ""),
        (keep_array, False, ""),
        (raise_if_large, False, "a check that only raises or warns"),
        (keep_largest, False, "a forward hook"),
    ],
)
def test_hooks_that_keep_or_check_features(hook, reads, expected, was_run) -> None:
    """Features may be kept, read by the forward pass or not; a hook that no graph can hold is left out and named."""
    model, images = Hooked(hook, reads=reads).eval(), torch.randn(2, 3, 8, 8)
    if was_run:
        model(torch.randn(5, 3, 8, 8))

    graph = ModelGraph(model, (3, 8, 8))

    assert ([expected] if expected else []) == [notice[: len(expected)] for notice in graph.notices]
    assert 1 == len(model.body._forward_hooks)
    for point in graph.default_points:
        assert torch.equal(model(images), split(graph, point.name)(images))


def test_a_hook_that_decides_by_pixel_values_is_refused() -> None:
    """It changes the answers, so it cannot be left out; the message names its line."""
    with pytest.raises(ModelError, match=r"depends on pixel values in Python at .*output\.max\(\)"):
        ModelGraph(Hooked(double_if_large).eval(), (3, 8, 8))


def with_generator(x: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return x + torch.rand(x.shape, generator=generator)


def with_seed(x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return x + torch.randn_like(x)


def with_forked_seed(x: torch.Tensor) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return functional.dropout(x, 0.5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (with_generator, "return x + torch.rand(x.shape, generator=generator)"),
        (with_seed, "return x + torch.randn_like(x)"),
        (with_forked_seed, "return functional.dropout(x, 0.5)"),
    ],
)
def test_random_numbers_that_are_seeded_anew_are_the_reason(change, line) -> None:
    """The model repeats its answers, which its graph would not: the operation and the line are named, in one line."""

    class Noisy(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(change(x))

    with pytest.raises(
        ModelError, match=r"draws random numbers in its forward pass.*test_capture_state\.py:\d+: "
    ) as refusal:
        capture(Noisy().eval(), (3, 8, 8))

    assert line in str(refusal.value)
    assert 1 == len(str(refusal.value).splitlines())


def test_seeded_numbers_of_a_fixed_shape_are_a_constant() -> None:
    """They are no reason to refuse a model: the graph keeps the numbers."""

    class Shifted(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x + torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)))

    model, images = Shifted().eval(), torch.randn(2, 3, 8, 8)

    captured, _ = capture(model, (3, 8, 8))

    assert "torch.fx" == captured.captured_by
    torch.testing.assert_close(captured.module(images), model(images), rtol=0, atol=0)


def moving_mean(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    model.mean.add_(1.0)
    return model.answer(x * model.mean)


def moving_centre(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    """Change so little that a graph agrees with the model on the images of the trial, and drifts away afterwards."""
    model.mean.mul_(0.9).add_(0.1 * x.mean().detach())
    return model.answer(x - model.mean)


def own_gradient(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(model.answer(x).sum(), x)
    return model.answer(x + slope)


def slow_clock(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    return model.answer(x + CLOCK(x))


class _Clock:
    """A value that moves so little from run to run that answers look alike."""

    def __init__(self) -> None:
        self.ticks = 0

    def __call__(self, x: torch.Tensor) -> float:
        self.ticks += 1
        return self.ticks * (1e-4 if type(x) is torch.Tensor else 1.0)


CLOCK = _Clock()


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (moving_mean, "answers depend on the images before: its forward pass changes mean, also in evaluation mode"),
        (moving_centre, "answers depend on the images before: its forward pass changes mean, also in evaluation mode"),
        (own_gradient, r"takes gradients in its forward pass \(torch.autograd.grad at .*\(slope,\) = "),
        (slow_clock, r"differ from run to run, also in evaluation mode \(first that of add at .*CLOCK\(x\)"),
    ],
)
def test_the_true_reason(forward: Callable[[Stateful, torch.Tensor], torch.Tensor], reason: str) -> None:
    """A state, gradients or other values that no graph can hold are named, and the state is as it was."""
    model = Stateful(forward)

    with pytest.raises(ModelError, match=reason):
        capture(model, (3, 8, 8))
    assert 0 == float(model.mean)


def statistics(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    model.calls += 1
    model.mean.mul_(0.9).add_(x.mean())
    return model.answer(x)


def test_what_only_counts_is_left_out() -> None:
    """Statistics that no answer reads are no part of the graph: no cut is lost to them."""
    graph = ModelGraph(Stateful(statistics), (3, 8, 8))
    record = graph.record(all_cuts=True)

    assert () == record.unavailable
    assert ["conv", ":relu_1", ":mean_1"] == [cut.name for cut in record.cuts]


def test_the_image_is_written_to_at_last() -> None:
    """What torch.export writes back into the image comes after the logits, and is left out."""

    def forward(model: Stateful, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.5)
        y = model.conv(x)
        y[:, 0] = 0
        y.relu_()
        y += 1
        return model.linear(y.mean((2, 3))) if y.shape[2] > 1 else y

    model = Stateful(forward).eval()
    graph = ModelGraph(model, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(images.clone())

        assert all(torch.equal(expected, split(graph, cut.name)(images)) for cut in graph.record(all_cuts=True).cuts)


def test_random_numbers_that_change_no_answer() -> None:
    """They are allowed, with a notice that names the line; rare changes are found by more runs."""

    def harmless(model: Stateful, x: torch.Tensor) -> torch.Tensor:
        random.random()
        return model.answer(x)

    def often(model: Stateful, x: torch.Tensor) -> torch.Tensor:
        return model.answer(x * 2 if random.random() < 0.5 else x)

    (notice,) = ModelGraph(Stateful(harmless), (3, 8, 8)).notices

    assert "random.random()" in notice
    assert "the same in 10 runs" in notice
    state = random.getstate()
    random.seed(1)  # the first two runs are alike
    try:
        with pytest.raises(ModelError, match=r"differently from run to run.*random.random\(\) < 0.5"):
            capture(Stateful(often), (3, 8, 8))
    finally:
        random.setstate(state)


def one_branch(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    y = model.answer(x)
    if x.abs().max() > 1e-9:
        y = y * 2
    return y


def one_branch_in_a_range(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    if x.abs().max() > 5:
        raise ValueError("the images are not normalised")
    return one_branch(model, x)


def a_state_in_a_range(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    if x.abs().max() > 5:
        raise ValueError("the images are not normalised")
    return moving_mean(model, x)


def image_by_image(model: Stateful, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([model.answer(image[None]) for image in x])


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (one_branch, r"depends on pixel values in Python at .*: if x.abs\(\).max\(\) > 1e-9"),
        (one_branch_in_a_range, r"depends on pixel values in Python at .*: if x.abs\(\).max\(\) > 1e-9"),
        (a_state_in_a_range, "the model cannot be captured"),
        (image_by_image, r"(?s)for image in x.*bound to one size of batch.*Compute with the whole batch as one tensor"),
    ],
)
def test_decisions_and_loops(forward: Callable[[Stateful, torch.Tensor], torch.Tensor], reason: str) -> None:
    """A decision that is the same for all images that were tried is a reason too, and so is a loop over images.

    A model that refuses images beyond a range gets its reason all the same.
    """
    with pytest.raises(ModelError, match=reason):
        capture(Stateful(forward), (3, 8, 8))
