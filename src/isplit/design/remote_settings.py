"""Say which settings of `fit` a network that trains on compressed images has; this module loads no torch."""

from dataclasses import MISSING, fields, replace
from typing import Any

from isplit.codec.image import check_format
from isplit.design.settings import FitSettings
from isplit.errors import InputError
from isplit.records import Compression

SPLIT_SETTINGS = frozenset(
    (
        "train_encoder",
        "train_decoder",
        "train_tail",
        "train_head",
        "bottleneck_rate",
        "feature_epochs",
        "features",
        "memory_gib",
        "statistics_images",
        "coder",
        "tuning",
    )
)
"""The fields of `FitSettings` that are about splits and their features alone."""


def read_compression(compression: Compression | str) -> Compression:
    """Read a setting of the image, such as "webp:50@0.5".

    Raises:
        InputError: it is not understood, or its format is not available here.

    """
    compression = Compression.from_tag(compression) if isinstance(compression, str) else compression
    check_format(compression.format)
    return compression


def check_remote_settings(settings: FitSettings) -> None:
    """Refuse settings that say nothing about a network that trains on compressed images.

    Raises:
        InputError: one of them differs from its default; the message names the argument.

    """
    defaults = _defaults()
    changed = [name for name in defaults if getattr(settings, name) != defaults[name]]
    if changed:
        values = ", ".join(f"`{name}={getattr(settings, name)}`" for name in changed)
        msg = (
            f"{values}: such settings are about splits and say nothing about a network that trains on compressed "
            "images; leave them out"
        )
        raise InputError(msg)


def without_split_settings(settings: FitSettings) -> FitSettings:
    """Return settings for splits as those of a network beside them: what is about splits alone has its default.

    Examples:
        >>> without_split_settings(FitSettings(epochs=1, coder="zstd")) == FitSettings(epochs=1)
        True

    """
    return replace(settings, **_defaults())


def _defaults() -> dict[str, Any]:
    """Return the default of each of the settings that are about splits."""
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(FitSettings)
        if field.name in SPLIT_SETTINGS
    }
