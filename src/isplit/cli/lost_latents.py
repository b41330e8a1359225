"""Run a bundle's tail on latents of which packets were lost, for `isplit simulate --bundle`."""

from pathlib import Path

import numpy as np

from isplit.codec.image import decode_image, preprocess
from isplit.errors import InputError
from isplit.plan.loss_accuracy import accuracy_under_loss
from isplit.records import LossAccuracy, ScenarioResult, SimulationRecord
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.sources import IMAGE_SUFFIXES
from isplit.runtime.session import Session

_BATCH = 32
LOSSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of lost packets that are measured beside those of the scenario."""


def with_loss_accuracy(
    record: SimulationRecord, bundle: Path, images: Path, *, cuts: dict[str, str]
) -> SimulationRecord:
    """Return the record with the accuracy under loss of its splits, measured on images in folders by class.

    Args:
        record: The simulation.
        bundle: A bundle that holds the cuts.
        images: A folder with one folder of images for each class of the bundle.
        cuts: The cut of each split by the name of its placement.

    Raises:
        InputError: no image lies in a folder of a class.
        BundleError: the bundle is damaged.

    """
    opened = Bundle.open(bundle)
    known = {cut.name for cut in opened.record.cuts}
    pixels, labels = _labelled(opened, images)
    losses = sorted({*LOSSES, record.scenario.link.loss_up})
    measured: dict[str, tuple[LossAccuracy, ...]] = {}
    results: list[ScenarioResult] = []
    for result in record.results:
        cut = cuts.get(result.placement)
        if cut in known and cut is not None:
            if cut not in measured:
                measured[cut] = _measure(opened, cut, pixels, labels, losses, packet_bytes=record.scenario.packet_bytes)
            results.append(result.model_copy(update={"accuracy_under_loss": measured[cut]}))
        else:
            results.append(result)
    return record.model_copy(update={"results": tuple(results)})


def _labelled(bundle: Bundle, images: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the images of folders that have the name of a class; return pixels N x H x W x C and labels."""
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for label, name in enumerate(bundle.record.group.classes):
        for path in sorted((images / name).glob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                pixels.append(preprocess(decode_image(path, name=str(path)), bundle.record.preprocessing))
                labels.append(label)
    if not pixels:
        known = ", ".join(bundle.record.group.classes[:5])
        msg = f"{images} has no image in a folder named after a class ({known}, …)"
        raise InputError(msg)
    return np.stack(pixels), np.array(labels, np.intp)


def _measure(
    bundle: Bundle, cut: str, pixels: np.ndarray, labels: np.ndarray, losses: list[float], *, packet_bytes: int
) -> tuple[LossAccuracy, ...]:
    placement, codec = bundle.record.cut(cut), bundle.codec(cut)
    head, tail = Session(bundle.head_path(cut)), Session(bundle.tail_path(cut))

    def run(session: Session, batch: np.ndarray) -> np.ndarray:
        return np.concatenate([session.run(batch[start : start + _BATCH]) for start in range(0, len(batch), _BATCH)])

    zero = codec.quantiser.quantise(np.zeros(codec.shape, np.float32), channel_axis=codec.channel_axis)
    return accuracy_under_loss(
        run(head, pixels),
        labels,
        lambda latents: run(tail, latents),
        zero=zero.reshape(placement.latent_shape),
        packets=max(int(np.ceil(placement.payload_bytes_mean / packet_bytes)), 1),
        losses=losses,
    )
