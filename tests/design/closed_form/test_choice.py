"""Between closed forms of a cut and budget, the network's own answers decide."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
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


@pytest.fixture(scope="module")
def groups(opened) -> list[list[BuiltSplit]]:
    """Two cuts: at each a split and one that decodes nothing but the mean, which stands first at the first cut."""
    first, second = closed_forms(opened.view(), [Budget(payload_bytes=40)], opened.cuts(("relu1", "pool2")), SETTINGS)
    return [[broken(first.split), first.split], [second.split, broken(second.split)]]


def broken(split: BuiltSplit) -> BuiltSplit:
    """Return the split with a decoder of zeros."""
    bottleneck = deepcopy(split.bottleneck)
    assert isinstance(bottleneck, LinearBottleneck)
    with torch.no_grad():
        for linear_map in bottleneck.linear_maps:
            linear_map.decoder.zero_()
    return replace(split, bottleneck=bottleneck)


def passes_of(opened, *, tuning: ClosedFormTuning = FEW, statistics_images: int = 16) -> StatisticsPasses:
    settings = replace(SETTINGS, tuning=tuning, statistics_images=statistics_images)
    return StatisticsPasses(opened.view(), settings, silent)


def test_the_split_that_answers_like_the_network_is_taken(opened, groups) -> None:
    """It is the one that decodes its latents, wherever it stands."""
    assert [1, 0] == choose_by_answers(passes_of(opened), groups)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], 1),
        ([1.0, 2.0, 3.0], [1.5, 2.5, 3.5], 0),
        # Lower by 1/30 in the mean, with a standard error of 0.3.
        ([1.0, 2.0, 3.0], [1.5, 2.0, 2.4], 0),
    ],
)
def test_the_first_stays_unless_another_is_clearly_better(opened, groups, monkeypatch, first, second, expected) -> None:
    """A lower mean divergence does not do: it has to be lower by more than a standard error of the difference."""
    answers = [SimpleNamespace(divergences_nats=np.array(values)) for values in (first, second)]
    monkeypatch.setattr("isplit.design.closed_form.choice.evaluate_splits", lambda *_, **__: answers)

    assert [expected] == choose_by_answers(passes_of(opened), groups[:1])


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


def test_a_split_that_is_surely_worse_is_judged_on_the_first_images_only(groups, monkeypatch) -> None:
    """A group that is settled after the first images is not evaluated on the others, and one that is not is."""
    passes = SimpleNamespace(
        images=SimpleNamespace(are_shared=False, held_out=np.arange(40)),
        settings=replace(SETTINGS, tuning=replace(FEW, compared_images=32)),
        view=None,
        precision="fp32",
        progress=silent,
    )
    shown = []

    def evaluated(view, splits, *, images, **_):
        shown.append((len(splits), len(images)))
        noise = np.linspace(-1, 1, len(images))
        # The first split of the first group is far worse; the two of the second group are alike.
        return [
            SimpleNamespace(
                divergences_nats=np.full(len(images), 5.0) if split is groups[0][0] else noise * (place % 2)
            )
            for place, split in enumerate(splits)
        ]

    monkeypatch.setattr("isplit.design.closed_form.choice.evaluate_splits", evaluated)

    assert 1 == choose_by_answers(passes, [groups[0], groups[1][:2]])[0]
    assert [(4, 16), (2, 16)] == shown
