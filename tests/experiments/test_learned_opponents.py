"""Splits beside learned bottlenecks: what needs no CompressAI, by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "experiments"))

from learned_bottleneck import coded_bytes, width_for, work_of
from learned_opponents import described, difference, methods, print_table
from learned_training import Price
from result_rows import packed

KEYS = ("method", "epochs", "operations")


def row(method: str, epochs: int, right: list[int], *, operations: int = 0) -> dict[str, object]:
    return {
        "name": "net",
        "cut": "features.5",
        "budget": 96,
        "method": method,
        "epochs": epochs,
        "operations": operations,
        "images": len(right),
        "accuracy": sum(right) / len(right),
        "right": packed(np.array(right, bool)),
        "payload_bytes": 95.25,
        "encoder_macs": 1234,
        "encoder_parameters": 56,
    }


CLOSED_FORM = row("closed form", 0, [1, 1, 0, 0])
FIT = row("fit", 2, [1, 1, 1, 0])
LEARNED = row("learned", 10, [0, 1, 1, 1], operations=1)


def test_what_takes_longest_is_measured_last():
    """A run that is stopped has one row of each method for every cut before any method has a second."""
    expected = [
        ("closed form", 0, 0),
        ("fit", 2, 0),
        ("learned", 2, 1),
        ("learned", 2, 4),
        ("learned", 10, 1),
        ("learned", 10, 4),
        ("fit", 10, 0),
    ]
    assert expected == [tuple(method[key] for key in KEYS) for method in methods([2, 10], [1, 4])]


def test_differences_are_paired():
    """Two of four images changed, one for the better and one for the worse; a split is not compared with itself."""
    assert "+0.0 ± 35.4" == difference(LEARNED, FIT)
    assert "+25.0 ± 21.7" == difference(FIT, CLOSED_FORM)
    assert "" == difference(FIT, FIT)
    assert "" == difference(FIT, None)


def test_the_table_compares_with_the_closed_form_and_the_shortest_fit(capsys):
    """Rows keep their order, and each says its bytes and its accuracy with the interval."""
    print_table([CLOSED_FORM, FIT, LEARNED, row("fit", 10, [1, 1, 1, 1])])
    lines = capsys.readouterr().out.splitlines()[2:]
    assert "| `features.5` | 96 | closed form | 1,234, 56 | 95.2 | 50.0 (15.0 to 85.0) |  | -25.0 ± 21.7 |" == lines[0]
    assert ["closed form", "`fit`, 2 epochs", "learned, 10 epochs", "`fit`, 10 epochs"] == [
        line.split(" | ")[2] for line in lines
    ]
    assert lines[3].endswith("| +50.0 ± 25.0 | +25.0 ± 21.7 |")


def test_a_larger_encoder_is_named():
    """The table tells encoders of several sizes apart."""
    assert "learned, 2 epochs, 4 times the encoder" == described(row("learned", 2, [1], operations=4))


@pytest.mark.parametrize("macs", [100_000, 677_888])
def test_the_encoder_computes_what_was_asked_for(macs):
    """The width is the nearest one, counting GDN as the product with a square matrix that it is."""
    latents, shape = 128, (32, 8, 8)
    width = width_for(macs, shape, latents=latents)

    def counted(number: int) -> int:
        down = [nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in ((32, number), (number, latents))]
        return work_of(nn.Sequential(down[0], nn.Conv2d(number, number, 1), down[1]), torch.zeros(1, *shape)).macs

    errors = [abs(counted(number) - macs) for number in (width - 1, width, width + 1)]
    assert min(errors) == errors[1]


def test_bytes_are_the_information_of_the_latents_and_the_header():
    """Two images of 16 latents with a likelihood of a quarter take 32 bits each, and two bytes of header."""
    assert 6 == float(coded_bytes(torch.full((2, 4, 2, 2), 0.25)))


def test_the_price_leads_to_the_budget():
    """Bytes that shrink as their price rises fall to the budget by the middle of the training, and stay there."""
    price, sizes = Price(100, steps=400), []
    for _ in range(400):
        sizes.append(1000 / (1 + price.weight))
        price(torch.tensor(sizes[-1]))
    assert sizes[0] > 900
    assert 100 == pytest.approx(sizes[200], rel=0.2)
    assert 100 == pytest.approx(sizes[-1], rel=0.01)
