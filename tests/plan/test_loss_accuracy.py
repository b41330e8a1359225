"""Accuracy under loss: with a tail whose answers can be worked out."""

import numpy as np
import pytest

from isplit.errors import InputError
from isplit.plan.loss_accuracy import accuracy_under_loss

ZERO = np.full((10,), 7, np.uint8)


def case(count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Latents of which the last number says the class, 10 or 20; the others say nothing."""
    labels = np.arange(count) % 2
    latents = np.full((count, 10), 7, np.uint8)
    latents[:, 9] = 10 + 10 * labels
    return latents, labels


def tail(latents: np.ndarray) -> np.ndarray:
    """Class 1 where the last number is 20, class 0 where it is 10 or was lost."""
    return np.stack([np.full(len(latents), 0.5), (latents[:, 9] == 20).astype(float)], axis=1).astype(np.float32)


def test_what_is_lost_is_zeroed():
    """Half of the images need the last packet; where it is lost, with the loss as probability, they are wrong."""
    latents, labels = case()
    results = accuracy_under_loss(latents, labels, tail, zero=ZERO, packets=2, losses=(0.0, 0.2, 1.0))
    assert [1.0, 0.5] == [results[0].accuracy, results[2].accuracy]
    assert 1 - 0.5 * 0.2 == pytest.approx(results[1].accuracy, abs=0.015)
    assert 0.2 == pytest.approx(results[1].lost_share, abs=0.01)
    assert [0.0, 1.0] == [results[0].lost_share, results[2].lost_share]


def test_more_loss_loses_more_of_the_same():
    """The same packets are lost at a larger share, so accuracy falls without noise; and it can be repeated."""
    latents, labels = case(200)
    losses = tuple(np.linspace(0, 1, 11).tolist())
    results = accuracy_under_loss(latents, labels, tail, zero=ZERO, packets=5, losses=losses)
    accuracies = [result.accuracy for result in results]
    assert accuracies == sorted(accuracies, reverse=True)
    assert results == accuracy_under_loss(latents, labels, tail, zero=ZERO, packets=5, losses=losses)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"packets": 0}, "packets is 0"), ({"losses": (1.5,)}, "shares from 0 to 1"), ({"zero": ZERO[:5]}, "same shape")],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], words: str):
    """No packets, a share above 1, and zeros of another shape."""
    latents, labels = case(4)
    arguments: dict[str, object] = {"zero": ZERO, "packets": 2, "losses": (0.1,), **change}
    with pytest.raises(InputError, match=words):
        accuracy_under_loss(latents, labels, tail, **arguments)  # type: ignore[arg-type]
