"""Payloads of experiments restated on the wire, by hand."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments"))

from wire import fewest, wire_cells, wire_lines

SPLITS = [
    {"cut": "a", "head_mac_share": 0.2, "payload_bytes": 518, "loss": 0.009, "loss_stderr": 0.008},
    {"cut": "b", "head_mac_share": 0.6, "payload_bytes": 118, "loss": 0.01, "loss_stderr": 0.0, "untrained": False},
]
IMAGES = [
    {"payload_bytes": 900, "loss": 0.009, "loss_stderr": 0.008},
    {"payload_bytes": 1100, "loss": 0.0, "loss_stderr": 0.006},
]


@pytest.mark.parametrize(("rule", "expected"), [("measured", 900), ("surely", 1100)])
def test_the_bound_decides_what_is_sure(rule, expected):
    """0.9 ± 0.8 points may be more than one; 0.0 ± 0.6 are surely not (0.99)."""
    assert expected == fewest(IMAGES, loss=0.01, rule=rule)["payload_bytes"]
    assert fewest(IMAGES, loss=-0.01, rule=rule) is None


def test_bytes_by_hand():
    """18 bytes of the old header go; 20 classes answer with 278 bytes over gRPC, and 33 on the lean wire."""
    ratios = (500 / 900, 612 / 1010, (612 + 278) / (1010 + 278), (509 + 33) / (909 + 33))
    expected = ["a", "500 / 612", "900 / 1010", *(f"{ratio:.2f}" for ratio in ratios)]
    assert expected == wire_cells(SPLITS[0], IMAGES[0], classes=20)
    assert "b, trained" == wire_cells(SPLITS[1], IMAGES[0], classes=20)[0]


def test_a_line_for_every_question():
    """Where no split stays within the loss, the image still stands there."""
    lines = wire_lines(SPLITS, IMAGES, (0.5, 0.75), classes=20, losses=(0.01,))
    assert [
        ["within 1", "50%", "a"],
        ["within 1", "75%", "b, trained"],
        ["surely within 1", "50%", "none"],
        ["surely within 1", "75%", "b, trained"],
    ] == [line[:3] for line in lines]
    assert ["none", "", "1100", "", "", "", ""] == lines[2][2:]
    assert {len(line) for line in lines} == {9}
