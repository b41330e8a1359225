"""Which settings a network that trains on compressed images has, and which are refused."""

from dataclasses import fields, replace

import pytest

from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.remote_settings import (
    SPLIT_SETTINGS,
    check_remote_settings,
    read_compression,
    without_split_settings,
)
from isplit.design.settings import FitSettings
from isplit.errors import InputError
from isplit.records import Compression

OF_SPLITS = {
    "train_encoder": False,
    "train_decoder": False,
    "train_tail": False,
    "train_head": True,
    "bottleneck_rate": 0.1,
    "feature_epochs": 2,
    "features": "recompute",
    "memory_gib": 1.0,
    "statistics_images": 12,
    "coder": "zstd",
    "tuning": replace(ClosedFormTuning(), **{fields(ClosedFormTuning)[0].name: 123}),
}


def test_every_setting_of_splits_is_tried():
    """The cases below are all there are."""
    assert SPLIT_SETTINGS == set(OF_SPLITS)


@pytest.mark.parametrize("name", sorted(OF_SPLITS))
def test_settings_of_splits_are_refused(name):
    """Each is named with its value; without it, the settings are let through."""
    settings = replace(FitSettings(epochs=7), **{name: OF_SPLITS[name]})
    with pytest.raises(InputError) as error:
        check_remote_settings(settings)
    assert str(error.value).startswith(f"`{name}={OF_SPLITS[name]}`: such settings are about splits")
    assert FitSettings(epochs=7) == without_split_settings(settings)


def test_other_settings_are_kept():
    """What a network has is neither refused nor taken away."""
    settings = FitSettings(epochs=2, images=30, model_rate=1e-3, flip=True, precision="fp32", seed=4)
    check_remote_settings(settings)
    assert settings == without_split_settings(settings)


def test_compression():
    """A text is read, and one that names no format is refused."""
    assert Compression(format="webp", quality=50, scale=0.5) == read_compression("webp:50@0.5")
    with pytest.raises(InputError, match=r"webp:50@0\.5"):
        read_compression("webp-50")
