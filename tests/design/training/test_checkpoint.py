"""Runs on disk."""

import pytest
import torch

from isplit.codec.quantise import Quantiser
from isplit.design.training.checkpoint import (
    Checkpoint,
    RunState,
    Scales,
    load_optimiser,
    optimiser_tensors,
)


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(directory=tmp_path / "split", key="this run")


def test_round_trip(checkpoint):
    """State and tensors come back as they were; only the newest file stays."""
    tensors = {"now.a": torch.randn(3), "rates": torch.tensor([1e-3], dtype=torch.float64)}
    quantiser = Quantiser.common(0.3, levels=12)
    for done in (1, 2):
        checkpoint.save(RunState(key="this run", done=done, price=0.25, quantiser=Scales.of(quantiser)), tensors)
    state, kept = checkpoint.load()
    assert (2, 0.25, quantiser) == (state.done, state.price, state.quantiser.quantiser())
    assert all(torch.equal(tensors[name], kept[name]) for name in tensors)
    assert 2 == len(list(checkpoint.directory.iterdir()))
    checkpoint.clear()
    assert [] == list(checkpoint.directory.iterdir())


def test_another_runs_checkpoint(checkpoint):
    """A run with other settings does not go on from this one's."""
    checkpoint.save(RunState(key="this run", done=1), {})
    assert Checkpoint(directory=checkpoint.directory, key="another").load() is None


@pytest.mark.parametrize("name", ["checkpoint.json", "checkpoint-1.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_damaged(checkpoint, name, content):
    """A file that is missing or damaged is as good as none."""
    checkpoint.save(RunState(key="this run", done=1), {"a": torch.zeros(2)})
    path = checkpoint.directory / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert checkpoint.load() is None


def test_optimiser_goes_on():
    """An optimiser with its memory back takes the same steps, bit for bit, in any memory layout."""

    def make():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return layer, torch.optim.Adam(layer.parameters(), lr=0.1)

    def step(layer, optimiser, seed):
        optimiser.zero_grad()
        generator = torch.Generator().manual_seed(seed)
        layer(torch.randn(2, 3, 5, 5, generator=generator)).square().sum().backward()
        optimiser.step()

    layer, optimiser = make()
    step(layer, optimiser, 1)
    other, resumed = make()
    other.load_state_dict(layer.state_dict())
    load_optimiser(resumed, optimiser_tensors(optimiser))
    for pair in ((layer, optimiser), (other, resumed)):
        step(*pair, 2)
    assert torch.equal(layer.weight, other.weight)
