"""Guards on pixel values are left out of a graph, and lengths of tensors follow the batch."""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph, split
from isplit.errors import ModelError

Forward = Callable[["Net", torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """Two convolutions and a linear layer, whose features a function checks."""

    def __init__(self, change: Forward) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.linear = nn.Linear(4, 3)
        self.change = [change]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.change[0](self, torch.relu(self.a(x)))
        return self.linear(torch.relu(self.b(features)).mean((2, 3)))


def asserted(net: Net, x: torch.Tensor) -> torch.Tensor:
    assert torch.isfinite(x).all(), "not finite"
    return x


def raised(net: Net, x: torch.Tensor) -> torch.Tensor:
    if torch.isnan(x).any() or not (x < 1e9).all():
        raise ValueError("not a number")
    return x


def raised_for_some(net: Net, x: torch.Tensor) -> torch.Tensor:
    if any(torch.isnan(part).any() for part in (x, x + 1)):
        raise ValueError("not a number")
    return x


def warned(net: Net, x: torch.Tensor) -> torch.Tensor:
    if x.max() > 1e9:
        warnings.warn("large", stacklevel=2)
    return x


def asserted_where_shapes_decide(net: Net, x: torch.Tensor) -> torch.Tensor:
    assert not torch.isnan(x).any()
    return x * 2 if x.shape[1] > 2 and x.dim() == 4 else x


def raised_before_else(net: Net, x: torch.Tensor) -> torch.Tensor:
    if torch.isnan(x).any():
        raise ValueError("not a number")
    else:  # noqa: RET506 - this is how such models are written
        x = x * 2
    return x


def warned_in_steps(net: Net, x: torch.Tensor) -> torch.Tensor:
    if x.max() > 1e9:
        warnings.warn("very large", stacklevel=2)
    elif x.max() > 1e8:
        warnings.warn("large", stacklevel=2)
    return x


def raised_again(net: Net, x: torch.Tensor) -> torch.Tensor:
    try:
        return asserted(net, x)
    except AssertionError as error:
        raise ValueError("not finite") from error


GUARDED = [
    asserted,
    raised_for_some,
    warned,
    asserted_where_shapes_decide,
    raised_before_else,
    warned_in_steps,
    raised_again,
]


@pytest.mark.parametrize("change", GUARDED)
def test_guards(change: Forward) -> None:
    """The graph answers as the model does at every cut, and a notice names the line."""
    model = Net(change).eval()
    graph = ModelGraph(model, (3, 8, 8))
    images = torch.randn(5, 3, 8, 8)
    cuts = graph.record().cuts

    assert {"a check that only raises or warns is left out of the graph"} == {
        text.partition(" (")[0] for text in graph.notices
    }
    assert __file__ in graph.notices[0]
    assert cuts
    with torch.no_grad():
        expected = model(images)

        assert all(torch.equal(expected, split(graph, cut.name)(images)) for cut in cuts)


def branch(net: Net, x: torch.Tensor) -> torch.Tensor:
    if x.mean() > -1e9:
        x = x * 2
    return x


def warned_or_changed(net: Net, x: torch.Tensor) -> torch.Tensor:
    if x.max() > 50:
        warnings.warn("large", stacklevel=2)
    else:
        x = x * 2
    return x


def passed_or_changed(net: Net, x: torch.Tensor) -> torch.Tensor:
    if x.max() > 50:
        pass
    else:
        x = x * 2
    return x


def caught(net: Net, x: torch.Tensor) -> torch.Tensor:
    try:
        assert x.max() < 50
    except AssertionError:
        return x
    return x * 2


def suppressed(net: Net, x: torch.Tensor) -> torch.Tensor:
    with contextlib.suppress(AssertionError):
        assert x.max() < 50
        x = x * 2
    return x


def caught_by_the_caller(net: Net, x: torch.Tensor) -> torch.Tensor:
    try:
        return checked(x) * 2
    except ValueError:
        return x


def beside_another_error(net: Net, x: torch.Tensor) -> torch.Tensor:
    try:
        assert x.max() < 1e9
        if x.min() < -1e9:
            raise OverflowError("large")
        x = x * 2
    except (KeyError, ValueError):
        x = x * 3
    return x


def caught_by_a_base_class(net: Net, x: torch.Tensor) -> torch.Tensor:
    try:
        if x.max() > 50:
            raise OverflowError("large")
    except ArithmeticError:
        return x
    return x * 2


def checked(x: torch.Tensor) -> torch.Tensor:
    if x.max() > 50:
        raise ValueError("large")
    return x


_IN_PYTHON = "(depends on pixel values in|reads values of tensors into) Python"
"""The second is said where the decision was the same for all images that were tried."""


@pytest.mark.parametrize(
    "change",
    [
        branch,
        raised,
        warned_or_changed,
        passed_or_changed,
        caught,
        caught_by_a_base_class,
        suppressed,
        caught_by_the_caller,
    ],
)
def test_what_is_no_guard(change: Forward) -> None:
    """A decision after which the model answers in two ways, or whose parts should differ, is not left out."""
    with pytest.raises(ModelError, match=rf"{_IN_PYTHON} at .*(if|assert) "):
        ModelGraph(Net(change), (3, 8, 8))


def test_a_file_that_was_edited(tmp_path: Path) -> None:
    """What stood on a line before a file was edited and loaded again decides nothing."""
    path = tmp_path / "edited.py"
    guard = "def change(net, x):\n    if x.max() > 50:\n        raise ValueError\n    return x\n"

    def load() -> Forward:
        names: dict[str, Forward] = {}
        exec(compile(path.read_text(), str(path), "exec"), names)
        return names["change"]

    path.write_text(guard)
    ModelGraph(Net(load()), (3, 8, 8))
    path.write_text(guard.replace("raise ValueError", "x = x * 2  # large"))

    with pytest.raises(ModelError, match=_IN_PYTHON):
        ModelGraph(Net(load()), (3, 8, 8))


def flattened(net: Net, x: torch.Tensor) -> torch.Tensor:
    return x.view(len(x), -1).view(x.shape)


def flattened_where_shapes_decide(net: Net, x: torch.Tensor) -> torch.Tensor:
    if len(x.shape) == 4 and len(x.split(2, 1)) == 2:
        x = x.reshape(len(x), -1).reshape(x.shape)
    return x


@pytest.mark.parametrize("change", [flattened, flattened_where_shapes_decide])
def test_lengths(change: Forward) -> None:
    """The length of a batch is that of any batch; those of shapes and of parts are numbers."""
    model = Net(change).eval()
    graph = ModelGraph(model, (3, 8, 8))
    images = torch.randn(5, 3, 8, 8)
    cuts = graph.record(all_cuts=True).cuts

    assert "len" not in globals()
    assert cuts
    with torch.no_grad():
        expected = model(images)

        assert all(torch.equal(expected, split(graph, cut.name)(images)) for cut in cuts)
