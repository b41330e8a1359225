"""Measure accuracy under loss of packets: zero the lost part of each latent, and run the tail on the rest."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.records import Accuracy, LossAccuracy

Symbols = NDArray[np.uint8]


def accuracy_under_loss(
    latents: Symbols,
    labels: NDArray[np.intp],
    run_tail: Callable[[Symbols], NDArray[np.float32]],
    *,
    zero: Symbols,
    packets: int,
    losses: Sequence[float],
    seed: int = 0,
) -> tuple[LossAccuracy, ...]:
    """Measure the accuracy of a split at several shares of lost packets.

    Each latent travels in `packets` parts of equal size, in the order of its numbers, that can be decoded one by one (a
    payload that is coded as one stream would be lost with its first packet). A lost part is replaced by the symbols of
    zero, which for the linear bottleneck is the mean of the data.

    Args:
        latents: Quantised latents (N x the latent's shape).
        labels: The true classes (N).
        run_tail: Maps latents to logits (N x K).
        zero: The symbols of a latent of zeros (the latent's shape).
        packets: The number of parts of a latent, at least one.
        losses: Shares of packets that are lost.
        seed: The seed of the losses. A packet that is lost at one share is also lost at every larger share.

    Raises:
        InputError: the shapes do not fit together, there is no image or no packet, or a share is outside 0 to 1.

    """
    if len(latents) == 0 or len(latents) != len(labels) or latents.shape[1:] != zero.shape:
        msg = (
            f"there are {len(latents)} latents of shape {latents.shape[1:]} and {len(labels)} labels, and zero has the "
            f"shape {zero.shape}; give as many of each, at least one, and the same shape"
        )
        raise InputError(msg)
    if packets < 1 or any(not 0 <= loss <= 1 for loss in losses):
        msg = f"packets is {packets} and losses are {list(losses)}; give at least one packet, and shares from 0 to 1"
        raise InputError(msg)
    count, numbers = len(latents), int(zero.size)
    parts = min(packets, numbers)
    part = np.arange(numbers) * parts // numbers
    draws = np.random.default_rng(seed).random((count, parts))
    results: list[LossAccuracy] = []
    for loss in losses:
        gone = (draws < loss)[:, part].reshape(latents.shape)
        logits = run_tail(np.where(gone, zero, latents))
        accuracy = Accuracy.from_counts(int((logits.argmax(axis=1) == labels).sum()), count)
        results.append(
            LossAccuracy(
                packet_loss=loss,
                lost_share=float(gone.mean()),
                accuracy=accuracy.accuracy,
                low=accuracy.low,
                high=accuracy.high,
                images=count,
            )
        )
    return tuple(results)
