"""What `auto` exports, and the commands for it; writing segments is tested in tests/cli/test_auto.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from isplit.workflows.auto_export import answer_commands, split_to_export

BUNDLE = Path("bundle")


def placement(name, kind, *, cut=None, source="closed form", violates=(), worth=True, latency_ms=10.0):
    accuracy = SimpleNamespace(source=source)
    return SimpleNamespace(
        name=name,
        kind=kind,
        cut=cut,
        accuracy=accuracy,
        violates=violates,
        worth_considering=worth,
        latency_ms=latency_ms,
    )


def record(chosen, *placements):
    by_name = {each.name: each for each in placements}
    return SimpleNamespace(answer=SimpleNamespace(chosen=chosen), placements=placements, placement=by_name.__getitem__)


@pytest.mark.parametrize(
    ("chosen", "serve", "run"),
    [
        (placement("a", "split", cut="layer2"), True, "--server HOST:8001 --placement layer2"),
        (placement("a", "remote", source="decoded images"), True, "--server HOST:8001 --placement remote"),
        (placement("a", "local"), False, "--placement local"),
        (placement("a", "segmented"), False, "--placement segmented"),
    ],
)
def test_commands_of_an_answer(chosen, serve, run):
    """A split and a compressed image need the server, the other placements do not."""
    expected = ("isplit serve bundle" if serve else None, f"isplit run bundle IMAGES {run}")
    assert expected == answer_commands(record("a", chosen), BUNDLE)


def test_no_commands():
    """Without an answer there is nothing to run; the network trained on compressed images is not in its bundle."""
    trained = placement("a", "remote", source="trained")
    assert (None, None) == answer_commands(record("a", trained), BUNDLE)
    assert (None, None) == answer_commands(record(None, trained), BUNDLE)


def test_split_to_export():
    """The chosen split comes first, then splits that break fewer limits, leave work to the server, and are faster."""
    local = placement("local", "local")
    splits = [
        placement("broken", "split", violates=("max_latency_ms",), latency_ms=1.0),
        placement("late", "split", worth=False, latency_ms=2.0),
        placement("slow", "split", latency_ms=9.0),
        placement("fast", "split", latency_ms=8.0),
    ]
    for count, expected in ((4, "fast"), (3, "slow"), (2, "late"), (1, "broken")):
        assert expected == split_to_export(record("local", local, *splits[:count])).name
    assert "broken" == split_to_export(record("broken", local, *splits)).name
    assert split_to_export(record("local", local)) is None
