"""What crosses cuts is kept between passes: the deepest cuts first, and only what was seen of all images."""

import numpy as np
import torch

from isplit.design.closed_form.kept_features import FeatureStore
from tests.design.conftest import make_cut

IMAGES = np.array([7, 3, 9, 4, 8])
SHALLOW = make_cut((4, 2, 2)).model_copy(update={"name": "shallow", "depth": 1})
DEEP = make_cut((2, 1, 1)).model_copy(update={"name": "deep", "depth": 5})
DEEP_BYTES = 4 * 2 * len(IMAGES)
VALUES = {cut.name: torch.randn(len(IMAGES), *cut.shape) for cut in (SHALLOW, DEEP)}


def filled(store: FeatureStore, *, images: int = len(IMAGES)) -> FeatureStore:
    """Show the store both cuts in batches of two images."""
    store.begin([SHALLOW, DEEP], IMAGES)
    for start in range(0, images, 2):
        for cut in (SHALLOW, DEEP):
            store.keep(cut, VALUES[cut.name][start : start + 2])
    return store


def test_batches_come_back() -> None:
    """A later pass over the same images, or over some that follow one another, gets their values batch by batch."""
    store = filled(FeatureStore())
    whole = store.batches(SHALLOW, IMAGES)
    part = store.batches(DEEP, IMAGES[1:4])
    assert whole is not None
    assert part is not None
    assert [2, 2, 1] == [len(batch) for batch in whole]
    assert torch.equal(VALUES["shallow"], torch.cat(whole))
    assert [1, 2] == [len(batch) for batch in part]
    assert torch.equal(VALUES["deep"][1:4], torch.cat(part))


def test_the_deepest_cuts_are_kept_first() -> None:
    """Where there is no room for all, the deepest cut is kept, because a pass without it ends earlier."""
    store = filled(FeatureStore(room_bytes=DEEP_BYTES))
    assert store.batches(DEEP, IMAGES) is not None
    assert store.batches(SHALLOW, IMAGES) is None
    assert filled(FeatureStore(room_bytes=DEEP_BYTES - 1)).batches(DEEP, IMAGES) is None


def test_other_images_and_stopped_passes() -> None:
    """Nothing is found for images in another order or of no pass, nor where a pass ended before its last image."""
    store = filled(FeatureStore())
    assert store.batches(DEEP, IMAGES[::-1].copy()) is None
    assert store.batches(DEEP, np.array([1, 2])) is None
    assert filled(FeatureStore(), images=3).batches(DEEP, IMAGES) is None


def test_what_is_forgotten_makes_room() -> None:
    """After a pass's images are forgotten, another pass can be kept in their memory."""
    store = filled(FeatureStore(room_bytes=DEEP_BYTES))
    others = IMAGES + 10
    store.begin([DEEP], others)
    store.keep(DEEP, VALUES["deep"])
    assert store.batches(DEEP, others) is None
    store.forget(IMAGES)
    store.begin([DEEP], others)
    store.keep(DEEP, VALUES["deep"])
    assert store.batches(DEEP, others) is not None


def test_a_copy_is_kept() -> None:
    """A later operation of the network may work in place on what it showed."""
    store, shown = FeatureStore(), VALUES["deep"].clone()
    store.begin([DEEP], IMAGES)
    store.keep(DEEP, shown)
    shown.zero_()
    kept = store.batches(DEEP, IMAGES)
    assert kept is not None
    assert torch.equal(VALUES["deep"], kept[0])
