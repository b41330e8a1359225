"""Between closed forms of a cut and budget, the network's own answers decide."""

from dataclasses import replace

import pytest
import torch

from isplit.design.bottleneck.linear import LinearBottleneck
from isplit.design.closed_form.build import closed_forms
from isplit.design.closed_form.choice import choose_by_answers
from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.settings import PredictSettings
from isplit.design.splits import BuiltSplit
from isplit.progress import silent
from isplit.records import Budget

FEW = ClosedFormTuning(held_out_images=8, compared_images=8)
SETTINGS = PredictSettings(statistics_images=16, precision="fp32", tuning=FEW)
BUDGETS = [Budget(payload_bytes=16), Budget(payload_bytes=40)]


@pytest.fixture(scope="module")
def groups(opened) -> list[list[BuiltSplit]]:
    """Two cuts: the splits of both budgets, those of the second with a decoder that decodes nothing in front."""
    closed = closed_forms(opened.view(), BUDGETS, opened.cuts(("relu1", "pool2")), SETTINGS)
    built: list[list[BuiltSplit]] = []
    for first, second in zip(closed[::2], closed[1::2], strict=True):
        built.append([first.split, second.split])
    (broken, *_) = closed_forms(opened.view(), BUDGETS, opened.cuts(("pool2",)), SETTINGS)
    assert isinstance(broken.split.bottleneck, LinearBottleneck)
    with torch.no_grad():
        broken.split.bottleneck.linear_maps[0].decoder.zero_()
    built[1].insert(0, broken.split)
    return built


def passes_of(opened, *, tuning: ClosedFormTuning = FEW, statistics_images: int = 16) -> StatisticsPasses:
    settings = replace(SETTINGS, tuning=tuning, statistics_images=statistics_images)
    return StatisticsPasses(opened.view(), settings, silent)


def test_the_split_that_answers_like_the_network_is_taken(opened, groups) -> None:
    """With 40 bytes it answers better than with 16, and with either better than without a decoder."""
    assert [1, 2] == choose_by_answers(passes_of(opened), groups)


def test_one_split_needs_no_images(opened, groups, monkeypatch) -> None:
    """Where no group has two splits, the network does not run."""
    monkeypatch.setattr("isplit.design.closed_form.choice.evaluate_splits", lambda *_, **__: pytest.fail("it ran"))

    assert [0, 0] == choose_by_answers(passes_of(opened), [group[:1] for group in groups])


@pytest.mark.parametrize(
    ("tuning", "statistics_images"), [(replace(FEW, compared_images=0), 16), (ClosedFormTuning(), 10**6)]
)
def test_the_first_is_taken_where_nothing_can_be_told(opened, groups, tuning, statistics_images) -> None:
    """No images are to be compared on, or all of them are among those of the moments."""
    passes = passes_of(opened, tuning=tuning, statistics_images=statistics_images)

    assert [0, 0] == choose_by_answers(passes, groups)
