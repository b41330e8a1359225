"""What is refused before Ray is asked for anything."""

import sys

import pytest

from isplit.errors import InputError, MissingExtraError
from isplit.runtime.server.ray import RayEngines


@pytest.mark.parametrize("replicas", [(0, 2), (3, 2)])
def test_replicas(tiny, replicas):
    """Numbers of replicas that make no sense are refused before Ray is asked."""
    low, high = replicas
    with pytest.raises(InputError, match="replicas"):
        RayEngines(tiny.bundle, min_replicas=low, max_replicas=high)


def test_without_ray(tiny, monkeypatch):
    """Where Ray is not installed, the message says which extra brings it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"isplit\[ray\]"):
        RayEngines(tiny.bundle)
