"""The frontier's figures by hand: parts taken together, the fewest bytes under a limit, and rows that are there."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments"))

import frontier
from frontier import Rows, image_place, pooled, print_frontier, split_place

from isplit.records import Budget, Paired


def test_parts_are_taken_together():
    """3 losses and 1 win of 100 images and 2 losses of 50 are 5 and 1 of 150."""
    first = Paired.from_answers([True] * 99 + [False], [False] * 3 + [True] * 97)
    second = Paired.from_answers([True] * 50, [False] * 2 + [True] * 48)
    together = pooled([first, second], images=150)
    assert (5, 1) == (together.only_first, together.only_second)
    assert -4 / 150 == pytest.approx(together.difference)


def row(place: dict[str, object], loss: float, up: float, share: float | None = None) -> dict[str, object]:
    """Return a row of the results."""
    figures = {"loss": loss, "loss_stderr": 0.001, "payload_bytes": up - 9, "wire_up_bytes": up, "accuracy": 0.8 - loss}
    return {"name": "net", "training": "none", "images": 1000, "head_mac_share": share, **place, **figures}


def test_splits_over_the_limit_do_not_count(capsys):
    """40 bytes at 60 % of the operations count at 75 %, and at 50 % the split of 100 bytes over the image of 1,000."""
    rows = [
        row(split_place("early", Budget(payload_bytes=91)), 0.005, 100, 0.4),
        row(split_place("late", Budget(payload_bytes=31)), 0.005, 40, 0.6),
        row(image_place("webp:50"), 0.005, 1000),
    ]
    print_frontier(rows)
    ratios = [line.split()[3] for line in capsys.readouterr().out.splitlines() if "measured within 1" in line]
    assert ["none", "0.10", "0.04"] == ratios


def test_rows_that_are_there_are_not_measured_again(monkeypatch, tmp_path):
    """A row stands for its network, its training and its place."""
    monkeypatch.setattr(frontier, "RESULTS", tmp_path / "frontier.jsonl")
    place = split_place("early", Budget(payload_bytes=91))
    Rows("net", training="none").add({**place, "loss": 0.1})
    assert not Rows("net", training="none").lacks(place)
    assert Rows("net", training="2 x 2000").lacks(place)
    assert Rows("other", training="none").lacks(place)
