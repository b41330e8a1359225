"""Compare exported files with torch on real images; if latents or answers differ, no bundle is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isplit.design.inputs.batches import normalise
from isplit.design.onnx.sessions import run_outputs
from isplit.design.running import evaluating
from isplit.design.splits import ChosenSplit
from isplit.design.study import StudyView
from isplit.errors import ExportError
from isplit.records import ExportCheck, PartName

MAX_LSB = 1
"""The largest difference of a symbol: a value within a rounding error of a border may fall on either side of it."""
MAX_DIFFERENT_SHARE = 1e-3
"""The largest share of symbols that may differ."""

_BATCH = 8


def run_file(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Return an ONNX file's output for a batch, computed a few images at a time, on the CPU with one thread.

    Raises:
        ExportError: onnxruntime cannot load or run the file.

    """
    try:
        return run_outputs(path, array)[0]
    except Exception as error:  # onnxruntime's exceptions share no other base class
        msg = f"onnxruntime cannot load the exported {path.name}: {' '.join(str(error).split())[:300]}"
        raise ExportError(msg) from error


@dataclass(frozen=True, eq=False)
class TorchAnswers:
    """torch's answers to some images: logits of the group, N×K, and, for a split, its latents, N×latent_shape."""

    logits: NDArray[np.float32]
    latents: NDArray[np.uint8] | None = None


class TorchSplit:
    """Runs a split in torch with the operations of `evaluate_splits`. Its files have to give the same results."""

    def __init__(self, view: StudyView, chosen: ChosenSplit) -> None:
        self._view = view
        self._head, self._tail = chosen.head, chosen.tail
        self._built = chosen.built

    def __call__(self, pixels: NDArray[np.uint8]) -> TorchAnswers:
        """Answer images N×H×W×C."""
        latents = self.latents(pixels)
        return TorchAnswers(self.logits(latents), latents)

    def latents(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the quantised latents of images."""
        parts: list[torch.Tensor] = []
        with evaluating(self._head), torch.no_grad():
            for start in range(0, len(pixels), _BATCH):
                images = normalise(torch.from_numpy(pixels[start : start + _BATCH]), self._view.preprocessing)
                parts.append(self._built.symbols(self._head(images)))
        return torch.cat(parts).numpy()

    def logits(self, latents: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the group's logits of latents."""
        parts: list[torch.Tensor] = []
        with evaluating(self._tail), torch.no_grad():
            for start in range(0, len(latents), _BATCH):
                decoded = self._built.decode(torch.from_numpy(latents[start : start + _BATCH]))
                decoded = self._view.graph.lay_out(decoded, self._built.cut)
                parts.append(self._view.classes(self._tail(decoded).float()))
        return torch.cat(parts).numpy()


def load_pixels(view: StudyView, part: PartName, *, limit: int) -> NDArray[np.uint8]:
    """Return images of a part, N×H×W×C, as the runtime gives them to heads."""
    indices = view.images(part, limit=limit)
    return np.stack([view.data.pixels(int(index), view.preprocessing) for index in indices])


def answer_whole(view: StudyView, pixels: NDArray[np.uint8], *, network: nn.Module | None = None) -> TorchAnswers:
    """Answer images N×H×W×C with the model itself, or with another network in its place."""
    model: nn.Module = network or view.graph.module
    logits: list[torch.Tensor] = []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(pixels), _BATCH):
            images = normalise(torch.from_numpy(pixels[start : start + _BATCH]), view.preprocessing)
            logits.append(view.classes(model(images).float()))
    return TorchAnswers(torch.cat(logits).numpy())


def check_whole(path: Path, pixels: NDArray[np.uint8], expected: TorchAnswers, *, tolerance: float) -> ExportCheck:
    """Compare the whole model's file with torch.

    Raises:
        ExportError: its answers differ.

    """
    return check_segments([([path], 1)], pixels, expected, tolerance=tolerance)


def check_segments(
    segments: Sequence[tuple[Sequence[Path], int]],
    pixels: NDArray[np.uint8],
    expected: TorchAnswers,
    *,
    tolerance: float,
) -> ExportCheck:
    """Compare segments that are run one after the other, each on what the one before gave, with torch.

    Args:
        segments: The files of each segment, and the axis along which the outputs of several are concatenated.
        pixels: Images N×H×W×C.
        expected: torch's answers to them.
        tolerance: The largest difference of a logit.

    Raises:
        ExportError: they answer otherwise.

    """
    logits: NDArray[Any] = pixels
    for paths, axis in segments:
        logits = np.concatenate([run_file(path, logits) for path in paths], axis=axis)
    names = [path.name for paths, _ in segments for path in paths]
    difference = _check_logits(_names_text(names), logits, expected.logits, tolerance)
    return _summary(logits, expected, latents=None, tail_difference=difference)


def _names_text(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) <= 3 else f"the files {names[0]} to {names[-1]}"


def check_split(
    head: Path, tail: Path, pixels: NDArray[np.uint8], *, reference: TorchSplit, tolerance: float
) -> ExportCheck:
    """Compare a split's files with torch: the head's latents, the tail's logits of these, and both together.

    `tolerance` is the largest difference of a logit.

    Raises:
        ExportError: their results differ.

    """
    expected = reference(pixels)
    assert expected.latents is not None
    latents = run_file(head, pixels)
    _check_latents(head.name, latents, expected.latents)
    logits = run_file(tail, latents)
    # The tail gets the latents that the head really gave, because one different symbol can move a logit further than
    # rounding.
    same = bool(np.array_equal(latents, expected.latents))
    wanted = expected.logits if same else reference.logits(latents)
    difference = _check_logits(tail.name, logits, wanted, tolerance)
    _check_answers(f"{head.name} and {tail.name}", logits, expected.logits, tolerance)
    return _summary(logits, expected, latents=latents, tail_difference=difference)


def _check_latents(name: str, got: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> None:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        msg = f"{name} gives {got.dtype} {got.shape}, torch {wanted.dtype} {wanted.shape}: nothing was written"
        raise ExportError(msg)
    apart = np.abs(got.astype(np.int16) - wanted)
    share = float((apart > 0).mean())
    if apart.max(initial=0) > MAX_LSB or share > MAX_DIFFERENT_SHARE:
        msg = (
            f"{name} gives other latents than torch: {share:.2%} of the symbols differ, by up to {apart.max()}; "
            f"allowed are {MAX_DIFFERENT_SHARE:.1%}, by {MAX_LSB}. Nothing was written"
        )
        raise ExportError(msg)


def _check_logits(name: str, got: NDArray[np.float32], wanted: NDArray[np.float32], tolerance: float) -> float:
    """Return the largest difference of a logit, after checking that it is within the tolerance."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        msg = f"{name} gives {got.dtype} {got.shape}, torch {wanted.dtype} {wanted.shape}: nothing was written"
        raise ExportError(msg)
    # The comparison is written so that NaN fails too.
    difference = float(np.abs(got - wanted).max(initial=0))
    if not difference <= tolerance:
        msg = (
            f"{name} answers otherwise than torch: a logit differs by {difference:.3g}, allowed are "
            f"{tolerance:.3g}. Nothing was written; a larger `tolerance=SHARE` allows more"
        )
        raise ExportError(msg)
    _check_answers(name, got, wanted, tolerance)
    return difference


def _check_answers(name: str, got: NDArray[np.float32], wanted: NDArray[np.float32], tolerance: float) -> None:
    """Refuse another first choice, unless torch's two best logits are closer to each other than the tolerance."""
    best = np.sort(wanted, axis=1)
    tied = best[:, -1] - best[:, -2] <= tolerance
    changed = (got.argmax(1) != wanted.argmax(1)) & ~tied
    if changed.any():
        msg = f"{name} gives {int(changed.sum())} of {len(got)} images another class than torch. Nothing was written"
        raise ExportError(msg)


def _summary(
    logits: NDArray[np.float32], expected: TorchAnswers, *, latents: NDArray[np.uint8] | None, tail_difference: float
) -> ExportCheck:
    apart = np.zeros(1, np.int16)
    if latents is not None and expected.latents is not None:
        apart = np.abs(latents.astype(np.int16) - expected.latents)
    return ExportCheck(
        images=len(logits),
        classes_answered=len(np.unique(expected.logits.argmax(1))),
        latent_lsb_max=int(apart.max()),
        latents_different_share=float((apart > 0).mean()),
        logits_difference_max=float(np.abs(logits - expected.logits).max()),
        tail_difference_max=tail_difference,
        top1_changed=int((logits.argmax(1) != expected.logits.argmax(1)).sum()),
    )
