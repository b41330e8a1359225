"""Passes over images show what crosses a cut, be it kept from an earlier pass or computed."""

from math import inf, prod

import numpy as np
import pytest
import torch

from isplit.design.closed_form import kept_sums
from isplit.design.closed_form.kept_features import FeatureStore
from isplit.design.closed_form.kept_gradients import GradientStore
from isplit.design.closed_form.moments import CutVectors
from isplit.design.closed_form.passes import StatisticsPasses
from isplit.design.graph.features import FeaturePass
from isplit.design.graph.gradients import GradientPass
from isplit.design.kept_work import KeptWork
from isplit.design.settings import PredictSettings
from isplit.progress import silent

SETTINGS = PredictSettings(statistics_images=16, precision="fp32", batch_size=6)


@pytest.fixture
def cuts(opened):
    """A shallow cut and a deep one."""
    return opened.cuts(("relu1", "pool2"))


@pytest.fixture
def computed(monkeypatch):
    """The names of the cuts of every pass through the network, in their order."""
    names, make = [], FeaturePass.__init__

    def counted(run, graph, cuts):
        names.append([cut.name for cut in cuts])
        make(run, graph, cuts)

    monkeypatch.setattr(FeaturePass, "__init__", counted)
    return names


def passes_with_room_for(opened, *cuts):
    """Passes that keep as much as crosses these cuts for the images of the moments."""
    room = 4 * SETTINGS.statistics_images * sum(prod(cut.shape) for cut in cuts)
    return StatisticsPasses(opened.view(), SETTINGS, silent, features=FeatureStore(room_bytes=room))


def crossing(passes, cuts, images):
    """What crosses each cut for the images, and how many images each progress told."""
    parts, told = {cut.name: [] for cut in cuts}, []
    passes.show(cuts, images, lambda cut, tensor: parts[cut.name].append(tensor.clone()), progress=told.append)
    return {name: torch.cat(of_cut) for name, of_cut in parts.items()}, told


@pytest.mark.parametrize("first_pass", ["moments", "latents"])
def test_what_was_kept_is_shown_again(opened, cuts, computed, first_pass):
    """After a pass that keeps the deep cut, the network runs to the shallow one alone, and the values are the same."""
    size = opened.view().preprocessing.image_size
    vectors = [CutVectors.of(cut, image_size=size) for cut in cuts]
    deep = cuts[1]
    plain, passes = passes_with_room_for(opened), passes_with_room_for(opened, deep)
    images = plain.images.moments
    expected, told = crossing(plain, cuts, images)
    assert [6, 12, 16] == told

    if first_pass == "moments":
        passes.moments(vectors, images, "statistics", keep=True)
    else:
        (solution,) = plain.moments(vectors[1:], images, "statistics")[0].solve().solutions
        passes.latents([(vectors[1], [solution.keep(2)])], images, keep=[deep])
    computed.clear()

    both, told = crossing(passes, cuts, images)
    assert [6, 12, 16] == told
    some, told = crossing(passes, [deep], images[4:9])
    assert [5] == told

    assert [["relu1"]] == computed
    assert all(torch.equal(expected[name], both[name]) for name in expected)
    assert torch.equal(expected["pool2"][4:9], some["pool2"])


def test_latents_are_those_of_as_many_images_whether_kept_or_computed(opened, cuts):
    """A cut that was kept brings the latents of all images, as one that is computed beside it does."""
    vectors = [CutVectors.of(cut, image_size=opened.view().preprocessing.image_size) for cut in cuts]
    plain, passes = passes_with_room_for(opened), passes_with_room_for(opened, cuts[1])
    images = plain.images.moments
    moments = passes.moments(vectors, images, "statistics", keep=True)
    maps = [(of_cut.vectors, [of_cut.solve().solutions[0].keep(1)]) for of_cut in moments]

    first, second = (run.latents(maps, images) for run in (plain, passes))

    assert [len(images)] * 2 == [len(of_cut[0]) for of_cut in first]
    assert all(torch.equal(*pair) for of_cuts in zip(first, second, strict=True) for pair in zip(*of_cuts, strict=True))


@pytest.mark.parametrize(("room", "computed_again"), [(16, 4), (9, 10), (5, 16)])
def test_the_pilots_gradients_are_taken_again(opened, cuts, monkeypatch, room, computed_again):
    """The batches of the pilot that there was room for are not computed again, and the moments are the same."""
    vectors = [CutVectors.of(cut, image_size=opened.view().preprocessing.image_size) for cut in cuts]
    image_bytes = 2 * 4 * sum(prod(cut.shape) for cut in cuts)
    passes = StatisticsPasses(opened.view(), SETTINGS, silent, gradients=GradientStore(room_bytes=room * image_bytes))
    images, pilot = passes.images.moments, passes.images.moments[:14]
    expected = StatisticsPasses(opened.view(), SETTINGS, silent).moments(vectors, images, "statistics of patches")
    shown, run = [], GradientPass.__call__

    def counted(gradients, batch, *rest, **how):
        shown.append(len(batch))
        return run(gradients, batch, *rest, **how)

    monkeypatch.setattr(GradientPass, "__call__", counted)
    passes.moments(vectors, pilot, "statistics of channels", keep_gradients=True)
    both = passes.moments(vectors, images, "statistics of patches")
    assert 14 + computed_again == sum(shown)
    for row, other in zip(expected, both, strict=True):
        assert all(np.array_equal(part, other.state()[name]) for name, part in row.state().items())

    passes.moments(vectors, images, "statistics of patches")
    assert 14 + computed_again + 16 == sum(shown)  # what was kept is gone


def test_gradients_of_other_images_or_cuts_are_not_taken(opened, cuts):
    """A pass over images that begin otherwise, or at other cuts, finds nothing."""
    passes = StatisticsPasses(opened.view(), SETTINGS, silent)
    vectors = [CutVectors.of(cut, image_size=opened.view().preprocessing.image_size) for cut in cuts]
    images = passes.images.moments
    for asked, batches in (((cuts, images[1:]), 0), ((cuts[:1], images), 0), ((cuts, images), 2)):
        passes.moments(vectors, images[:12], "statistics of channels", keep_gradients=True)
        assert batches == len(list(passes.gradients.take(*asked)))


def test_gradients_are_let_go_where_the_next_pass_goes_on_from_kept_sums(opened, cuts, monkeypatch, tmp_path):
    """A pass that an earlier run began needs none of the pilot's batches, and does not leave them in memory."""
    monkeypatch.setattr(kept_sums, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(kept_sums, "_LARGEST_SHARE", inf)
    vectors = [CutVectors.of(cut, image_size=opened.view().preprocessing.image_size) for cut in cuts]

    def stop(what, done, total):
        if done:
            raise KeyboardInterrupt

    passes = StatisticsPasses(opened.view(), SETTINGS, stop, KeptWork(tmp_path))
    images = passes.images.moments
    with pytest.raises(KeyboardInterrupt):
        passes.moments(vectors, images, "statistics of patches")

    passes = StatisticsPasses(opened.view(), SETTINGS, silent, KeptWork(tmp_path))
    passes.moments(vectors, images[:12], "statistics of channels", keep_gradients=True)
    passes.moments(vectors, images, "statistics of patches")
    assert [] == list(passes.gradients.take(cuts, images))
