"""How a model is captured, and why it is not."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from isplit.design.graph import ModelGraph, split
from isplit.design.graph import capture as capture_module
from isplit.design.graph.capture import WAYS, capture
from isplit.errors import ModelError
from tests.design.graph.nets import Residual, TwoLayers


def test_of_several_outputs_the_logits_are_kept() -> None:
    """Auxiliary outputs are left out, with what only they needed."""

    class Auxiliary(TwoLayers):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(256, 7)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            features = self.relu(self.conv(x))
            return {"aux": self.extra(features.flatten(1)), "logits": self.linear(self.pool(features).flatten(1))}

    record = ModelGraph(Auxiliary(), (3, 8, 8)).record()

    assert (5,) == record.output_shape
    assert 4 * 28 + 65 * 5 == record.parameters


def test_export_follows_where_fx_cannot() -> None:
    """Control flow on shapes stops torch.fx; names, kinds and exactness are those of the modules all the same."""

    class Shapes(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] > 4 and x.dim() == 4:
                x = self.pool(self.relu(self.conv(x)))
            return self.linear(torch.flatten(x, 1))

    model = Shapes().eval()
    graph = ModelGraph(model, (3, 8, 8))
    record = graph.record(pre_activation=True)
    images = torch.randn(3, 3, 8, 8)

    assert "torch.export" == record.captured_by
    assert (3, 8, 8) == record.input_shape
    assert ["conv", "relu", "pool"] == [cut.name for cut in record.cuts]
    assert 4 * 64 * 27 + 64 * 5 == record.macs
    for cut in record.cuts:
        with torch.no_grad():
            assert torch.equal(model(images), split(graph, cut.name)(images))


def test_fx_and_export_name_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model has the same cuts, by the same names, whichever way it is captured."""
    model = Residual().eval()
    by_fx = ModelGraph(model, (3, 4, 4)).record()

    monkeypatch.setattr(capture_module, "WAYS", {"torch.export": WAYS["torch.export"]})
    by_export = ModelGraph(model, (3, 4, 4)).record()

    assert ("torch.fx", "torch.export") == (by_fx.captured_by, by_export.captured_by)
    assert [cut.name for cut in by_fx.cuts] == [cut.name for cut in by_export.cuts]
    assert by_fx.macs == by_export.macs


def test_what_cannot_be_traced_says_where() -> None:
    """The message names the file, the line and the operation."""

    class Pixels(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:
                x = x + 1
            return super().forward(x)

    with pytest.raises(ModelError, match=r"test_capture\.py:\d+: if x\.sum\(\) > 0"):
        ModelGraph(Pixels(), (3, 8, 8))


def test_a_wrong_image_size_names_the_operation() -> None:
    """An image that the model cannot take is an input error."""
    with pytest.raises(ModelError, match="linear"):
        ModelGraph(TwoLayers(), (3, 10, 10))


@pytest.mark.parametrize("fails", [False, True])
def test_capturing_leaves_modes_and_gradients_alone(fails: bool) -> None:
    """Training mode, requires_grad and hooks are as before, also after a failure."""

    class Pixels(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if not fails or x.sum() > 0 else x + 1)

    model = Pixels().train()
    model.pool.eval()
    model.conv.weight.requires_grad_(False)
    try:
        capture(model, (3, 8, 8))
    except ModelError:
        assert fails
    assert [True, True, True, False, True] == [module.training for module in model.modules()]
    assert [False, True, True, True] == [parameter.requires_grad for parameter in model.parameters()]
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())


def test_a_detached_tensor_leaves_no_operation():
    """Gradients are taken through `detach`, which is then no operation of the graph; a notice says so."""

    class Detached(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.flatten(self.pool(self.relu(self.conv(x))).detach(), 1))

    graph = ModelGraph(Detached(), (3, 8, 8))
    assert "detach" not in graph.flow.ops.values()
    assert ["detaches a tensor" in notice for notice in graph.notices] == [True]


def test_regions_without_autocast_are_opened() -> None:
    """Also those that name the kind of device of their input, which torch.fx cannot follow, and nested ones."""

    class Regions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.linear = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x).relu()
            with torch.autocast(x.device.type, enabled=False):
                x = self.second(x.float()).relu()
                with torch.autocast(x.device.type, enabled=False), torch.enable_grad():
                    x = self.third(x).relu()
            return self.linear(x.mean((2, 3)))

    model = Regions().eval()
    graph = ModelGraph(model, (3, 6, 6))
    images = torch.randn(2, 3, 6, 6)

    assert "torch.export" == graph.flow.capture.captured_by
    assert [":relu_1", ":relu_2", ":relu_3", ":mean_1"] == [point.name for point in graph.default_points]
    assert () == graph.record().uncounted
    for point in graph.default_points:
        assert torch.equal(model(images), split(graph, point.name)(images))


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
        ModelError, match=r"draws random numbers in its forward pass.*test_capture\.py:\d+: "
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


class Stateful(nn.Module):
    """Two layers whose forward pass is given, with a buffer and a counter."""

    def __init__(self, forward: Callable[["Stateful", torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(()))
        self.calls = 0
        self.body = [forward]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body[0](self, x)

    def answer(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(x)).mean((2, 3)))


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


def test_submodules_called_like_words_of_python() -> None:
    """The graph's code cannot name them so; its cuts do."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("class", nn.Conv2d(3, 4, 3))
            self.add_module("lambda", nn.ModuleDict({"a/b": nn.ReLU(), "in": nn.Conv2d(4, 4, 1)}))
            self.add_module("schöne linie", nn.Linear(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, inner, last = self._modules.values()
            assert isinstance(inner, nn.ModuleDict)
            return last(inner["in"](inner["a/b"](first(x))).mean((2, 3)))

    record = ModelGraph(Words(), (3, 8, 8)).record(pre_activation=True)

    assert ["class", "lambda.a/b", "lambda.in", ":mean_1"] == [cut.name for cut in record.cuts]


def test_answers_that_are_not_numbers() -> None:
    """A model whose answers overflow is captured; where they do is said by the importance."""
    record = ModelGraph(Stateful(lambda model, x: model.answer(x) / 0 * 0), (3, 8, 8)).record()

    assert [":relu_1", ":mean_1"] == [cut.name for cut in record.cuts]
