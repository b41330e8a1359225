"""Settings of a client: what does not fit is refused at once, and single fields can be replaced."""

import pytest

from isplit.errors import InputError
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.settings import EdgeSettings, positive_ms


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"wire": "floats"}, "wire is 'floats'; choose payload"),
        ({"protocol": "ftp"}, "protocol is 'ftp'; choose auto, lean, grpc"),
        ({"wire": "latent", "protocol": "lean"}, 'leave out protocol "lean", or wire "latent"'),
        ({"deadline_ms": 0.0}, "deadline_ms is 0.0; give a number of milliseconds above zero"),
        ({"attempt_timeout_ms": float("inf")}, "attempt_timeout_ms is inf"),
        ({"best_classes": 0}, "best_classes is 0; give a number from 1 to 255"),
        ({"best_classes": 256}, "best_classes is 256"),
        ({"threads": 0}, "threads is 0; give a number from 1 to 256"),
        ({"threads": 257}, "threads is 257"),
        ({"provider": "abacus"}, "abacus"),
    ],
)
def test_refused(changes, says):
    """A value out of its range is an error that names it, and so are two that do not fit each other."""
    with pytest.raises(InputError, match=says):
        EdgeSettings(**changes)


def test_limits_are_allowed():
    """The smallest and the largest number of classes, and the shortest times."""
    assert (1, 255) == (EdgeSettings(best_classes=1).best_classes, EdgeSettings(best_classes=255).best_classes)
    assert 1e-3 == EdgeSettings(deadline_ms=1e-3).deadline_ms
    assert positive_ms(None, "deadline_ms") is None


def test_a_token_is_not_shown():
    """Settings can be printed without giving the token away."""
    assert "secret" not in repr(EdgeSettings(token="secret-of-16-characters"))


def test_settings_and_single_fields(tiny):
    """A client takes settings, and fields as keywords replace theirs; other keywords are refused."""
    settings = EdgeSettings(placement="local", best_classes=2)
    with EdgeClient(tiny.bundle, settings=settings) as client:
        assert 2 == len(client.classify(tiny.images[0]).best)
    with EdgeClient(tiny.bundle, settings=settings, best_classes=3) as client:
        answer = client.classify(tiny.images[0])
        assert ("local", 3) == (answer.placement, len(answer.best))
    with pytest.raises(TypeError, match="cut_off"):
        EdgeClient(tiny.bundle, settings=settings, cut_off=3)
