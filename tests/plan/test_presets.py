"""isplit.plan.presets: every preset is a record under its own name, and says that it is an estimate."""

from isplit.plan.presets import device_presets, link_presets


def test_devices():
    """The devices that the documentation names are there, estimated, with rates or a factor to another device."""
    presets = device_presets()
    assert {"pi4", "pi5", "jetson-nano", "jetson-orin-nano", "phone"} <= set(presets)
    assert [*presets] == [profile.name for profile in presets.values()]
    assert {"estimated"} == {profile.source for profile in presets.values()}
    assert all(profile.rates is not None and profile.rates.macs_per_s > 0 for profile in presets.values())


def test_links():
    """The links that the documentation names are there, and a faster kind of link has a faster uplink."""
    presets = link_presets()
    assert {"wifi", "4g", "lte-m"} <= set(presets)
    assert [*presets] == [link.name for link in presets.values()]
    assert presets["lte-m"].up_bits_per_s < presets["4g"].up_bits_per_s < presets["wifi"].up_bits_per_s
