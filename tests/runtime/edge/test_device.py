"""What runs on the device: how its time is taken, what the sample looks like, and what models here may give."""

from types import SimpleNamespace

import numpy as np
import pytest

from isplit.errors import EngineError
from isplit.runtime.edge import device as module
from isplit.runtime.edge.device import LOCAL, Device, placements_of
from isplit.runtime.providers import ProviderChoice


class Model:
    """Stands for a session: every run takes so many milliseconds of the test's clock, and gives the same."""

    choice = ProviderChoice(name="cpu")

    def __init__(self, clock, *, takes_ms=0.0, gives=None):
        self.clock, self.takes_ms, self.gives = clock, takes_ms, gives
        self.inputs = []

    def run(self, array):
        self.inputs.append(array)
        self.clock.now_s += self.takes_ms / 1000
        return self.gives


class Clock:
    now_s = 3.0

    def perf_counter(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    """The clock that the device reads."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def device(*, channels=3, **models):
    """A device whose models are loaded already; images are 2 high and 4 wide, and there are two classes."""
    record = SimpleNamespace(
        preprocessing=SimpleNamespace(image_size=(2, 4), channels=channels),
        group=SimpleNamespace(classes=("x", "y")),
        cut=lambda name: SimpleNamespace(latent_shape=(3,)),
    )
    device = Device(SimpleNamespace(record=record), plain=True, threads=1, provider="cpu")
    device._sessions.update(models)
    return device


@pytest.mark.parametrize(
    ("takes_ms", "runs"), [(1.0, 10), (25.0, 10), (30.0, 9), (62.5, 4), (125.0, 2), (249.0, 2), (250.0, 1), (5000.0, 1)]
)
def test_time_of_the_whole_model(clock, takes_ms, runs):
    """A first run does not count; then it is run ten times, or until a quarter of a second is over."""
    model = Model(clock, takes_ms=takes_ms)
    times_ms = device(local=model).time_whole()
    assert [pytest.approx(takes_ms)] * runs == times_ms
    assert runs + 1 == len(model.inputs)


@pytest.mark.parametrize("channels", [1, 3])
def test_sample(clock, channels):
    """The sample is a ramp from black to white, of the model's size, and is a batch of one."""
    model = Model(clock)
    device(channels=channels, local=model).time_whole()
    (sample,) = {array.tobytes() for array in model.inputs}
    assert ((1, 2, 4, channels), np.uint8) == (model.inputs[0].shape, model.inputs[0].dtype)
    assert [0, 85, 170, 255] == model.inputs[0][0, 0, :, 0].tolist() == model.inputs[0][0, 1, :, -1].tolist()
    assert 2 * 4 * channels == len(sample)


def test_what_is_loaded(clock):
    """A model that was not needed yet is not loaded."""
    it = device(local=Model(clock))
    assert (True, False) == (it.has_loaded(LOCAL), it.has_loaded("a"))


def test_what_models_run_on(clock):
    """Why models do not run where they should is said once for each reason, in the order in which they were loaded."""
    models = {name: Model(clock) for name in ("a", "b", "c", "local")}
    for name, reason in (("b", "cuda: lost"), ("c", "cuda: lost"), ("local", "cuda: no memory")):
        models[name].choice = ProviderChoice(name="cpu", fallback=reason)
    it = device(**models)
    assert ("cuda: lost", "cuda: no memory") == it.provider_fallbacks()
    assert (None, "cuda: lost") == (it.ran_on("a").fallback, it.ran_on("b").fallback)


@pytest.mark.parametrize(
    "gives",
    [
        np.zeros((1, 3), np.float32),
        np.zeros((1, 2), np.float64),
        np.zeros((1, 2, 1), np.float32),
        np.array([[0, np.nan]], np.float32),
        np.array([[-np.inf, 0]], np.float32),
    ],
)
def test_logits_that_are_none(clock, gives):
    """The whole model gives one finite float32 for each class, or it is an error of this image."""
    with pytest.raises(EngineError, match="the model on this device gives"):
        device(local=Model(clock, gives=gives)).whole(np.zeros((2, 4, 3), np.uint8))


def test_logits(clock):
    """What it gives otherwise is the answer."""
    gives = np.array([[0, 3e38]], np.float32)
    np.testing.assert_array_equal(
        gives[0], device(local=Model(clock, gives=gives)).whole(np.zeros((2, 4, 3), np.uint8))
    )


@pytest.mark.parametrize(
    "gives", [np.zeros((1, 4), np.uint8), np.zeros((1, 3), np.int8), np.zeros((1, 1, 3), np.uint8)]
)
def test_latents_that_are_none(clock, gives):
    """A head gives the latent that the manifest says, or it is an error of this image."""
    with pytest.raises(EngineError, match="the head of a gives"):
        device(a=Model(clock, gives=gives)).head("a", np.zeros((2, 4, 3), np.uint8))


def test_plain_latent(clock):
    """A plain latent is sent as it is, as a batch of one."""
    it = device(a=Model(clock, gives=np.array([[1, 2, 3]], np.uint8)))
    wire = it.sample("a")
    assert ("latent", b"\1\2\3", (1, 3)) == (wire.tensor, wire.content, wire.shape)


@pytest.mark.parametrize(
    ("remote", "local", "expected"),
    [(True, True, ("b", "a", "remote", "local")), (False, True, ("b", "a", "local")), (False, False, ("b", "a"))],
)
def test_placements(remote, local, expected):
    """Placements are the cuts in the bundle's order, then remote and local where the bundle has them."""
    cuts = [SimpleNamespace(name=name) for name in ("b", "a")]
    assert expected == placements_of(
        SimpleNamespace(cuts=cuts, remote=remote or None, local=local or None, segmented=None)
    )
