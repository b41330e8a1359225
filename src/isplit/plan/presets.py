"""Read the presets of devices and links: files of this package with estimates and the source of each figure."""

from functools import cache
from importlib import resources
from importlib.metadata import version

import yaml

from isplit.records import LinkRecord, ProfileRecord


@cache
def device_presets() -> dict[str, ProfileRecord]:
    """Return the profiles of devices that nobody measured, by name."""
    return {
        name: ProfileRecord.model_validate(
            {"isplit_version": version("isplit"), "name": name, "source": "estimated", **figures}
        )
        for name, figures in _read("device_presets.yaml").items()
    }


@cache
def link_presets() -> dict[str, LinkRecord]:
    """Return the links of the usual kinds, by name."""
    return {
        name: LinkRecord.model_validate({"name": name, "source": "estimated", **figures})
        for name, figures in _read("link_presets.yaml").items()
    }


def _read(file: str) -> dict[str, dict[str, object]]:
    return yaml.safe_load(resources.files("isplit.plan").joinpath(file).read_text(encoding="utf-8"))
