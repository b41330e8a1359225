"""Measure splits on images: what the tail answers behind the bottleneck, and how many bytes the payloads take."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from isplit.design.bottleneck.sides import measure_work
from isplit.design.devices import device_of
from isplit.design.graph import ModelGraph, split
from isplit.design.graph.features import FeaturePass
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.weights import fingerprint
from isplit.design.kept_work import NOTHING_KEPT, KeptWork
from isplit.design.running import autocast
from isplit.design.splits import BuiltSplit
from isplit.design.study import StudyView
from isplit.progress import Progress, silent
from isplit.records import Accuracy, Cut, Measurement, Paired, PartName, PayloadBytes, Precision


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitEvaluation:
    """Hold the answers of one split and of the whole model to the same images, and the bytes that cross.

    Attributes:
        split: The split.
        labels: The images' classes, counted within the view's (N).
        whole: The whole model's answers (N).
        answers: The split's answers (N).
        payload_bytes: The length of each image's payload (N).
        divergences_nats: For each image (N, float64), the Kullback-Leibler divergence of the split's class
            probabilities from the whole model's.
        clipped_share: The share of latents beyond the quantiser's range.
        precision: The precision in which head, tail and the whole model compute.

    """

    split: BuiltSplit
    labels: NDArray[np.int64]
    whole: NDArray[np.int64]
    answers: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    divergences_nats: NDArray[np.float64]
    clipped_share: float
    precision: Precision

    @property
    def divergence_nats(self) -> float:
        """The mean divergence of an image."""
        return float(self.divergences_nats.mean())


def evaluate_splits(
    view: StudyView,
    splits: Sequence[BuiltSplit],
    *,
    images: NDArray[np.int64],
    batch_size: int = 64,
    precision: Precision = "fp32",
    progress: Progress = silent,
    label: str = "accuracy of the splits",
    kept: KeptWork = NOTHING_KEPT,
) -> list[SplitEvaluation]:
    """Run every split on the images, through its quantiser, and count the bytes of real payloads.

    One pass of the model serves all splits that share its head. `precision` holds for heads, tails and the whole model;
    bottlenecks compute in float32.

    Args:
        view: The study, as a set of its classes sees it.
        splits: The splits.
        images: Indices of the images.
        batch_size: The number of images in one pass.
        precision: The precision of the model.
        progress: Called after each batch.
        label: The name of the work, which `progress` is called with.
        kept: The store that keeps each batch until the run is finished, so that an interrupted run continues after it.

    Returns:
        An evaluation for each split, in the order of `splits`.

    """
    device = device_of(view.graph.module)
    kept = kept.with_inputs(splits=[_identity(built) for built in splits], images=images, batch=batch_size)
    runners = [_SplitRunner(view.graph, built, precision, device) for built in splits]
    whole: list[torch.Tensor] = []
    while len(whole) * batch_size < len(images) and (batch := kept.load("evaluation", batch=len(whole))) is not None:
        whole.append(torch.from_numpy(batch["whole"]))
        for number, runner in enumerate(runners):
            runner.resume(*(batch[f"{number}.{name}"] for name in ("logits", "symbols", "clipped")))
    done = len(whole) * batch_size
    passes = _Passes(view, runners, precision)
    coming = iter_batches(view.data, images[done:], view.preprocessing, batch_size=batch_size, device=device)
    with closing(coming) as batches:
        for batch in batches:
            whole.append(passes(batch.images))
            arrays = {f"{number}.{name}": part for number, of in enumerate(runners) for name, part in of.last().items()}
            kept.save({"whole": whole[-1].numpy(), **arrays}, "evaluation", batch=len(whole) - 1)
            progress(label, min(len(images), len(whole) * batch_size), len(images))
    labels, expected = torch.from_numpy(view.labels(images)), torch.cat(whole)
    return [runner.evaluation(view, labels, expected) for runner in runners]


def _identity(built: BuiltSplit) -> list[str]:
    """Return what distinguishes a split from every other: its cut, its codec, and a hash of its weights."""
    sides = [side for side in (built.bottleneck, built.tail, built.head) if side is not None]
    return [built.cut.name, built.codec.codec_id.hex(), *map(fingerprint, sides)]


class _Passes:
    """Run a batch once through the whole model, and its features through every split that has the model's own head."""

    def __init__(self, view: StudyView, runners: Sequence["_SplitRunner"], precision: Precision) -> None:
        self._view, self._device = view, device_of(view.graph.module)
        self._precision: Precision = precision
        self._by_cut: dict[str, list[_SplitRunner]] = {}
        self._with_heads = [runner for runner in runners if runner.built.head is not None]
        for runner in runners:
            if runner.built.head is None:
                self._by_cut.setdefault(runner.built.cut.name, []).append(runner)
        self._pass = FeaturePass(view.graph, [of_cut[0].built.cut for of_cut in self._by_cut.values()])

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Run a batch, and return the whole model's logits of the view's classes."""
        logits = self._pass(images, self._visit, precision=self._precision)
        for runner in self._with_heads:
            assert runner.built.head is not None
            with torch.no_grad(), autocast(self._precision, device=self._device):
                crossing = runner.built.head(images.to(self._device))
            runner(crossing.float())
        return self._view.classes(logits)

    def _visit(self, cut: Cut, tensor: torch.Tensor) -> None:
        for runner in self._by_cut[cut.name]:
            runner(tensor)


class _SplitRunner:
    """Run features through one split's bottleneck and tail, which stay on the device until `evaluation`."""

    def __init__(self, graph: ModelGraph, built: BuiltSplit, precision: Precision, device: torch.device) -> None:
        self._graph = graph
        self.built = built
        self._precision: Precision = precision
        self._device = device
        self._tail = (built.tail or split(graph, built.cut.name).tail).eval()
        built.bottleneck.eval()
        # The model's own head and tail are on the device already.
        self._placed = [part for part in (built.head, built.bottleneck, built.tail) if part is not None]
        for part in self._placed:
            part.to(device)
        self._logits: list[torch.Tensor] = []
        self._symbols: list[torch.Tensor] = []
        self._clipped: list[int] = []

    @torch.no_grad()
    def __call__(self, crossing: torch.Tensor) -> None:
        built = self.built
        latents = built.bottleneck.encode(crossing)
        symbols = built.quantiser.symbols(latents)
        self._clipped.append(built.quantiser.count_clipped(latents))
        decoded = self._graph.lay_out(built.decode(symbols), built.cut)
        with autocast(self._precision, device=self._device):
            answer = self._tail(decoded)
        self._logits.append(answer.float().cpu())
        self._symbols.append(symbols.cpu())

    def last(self) -> dict[str, NDArray[Any]]:
        """Return the results of the last batch, which `resume` takes."""
        parts = {"logits": self._logits[-1].numpy(), "symbols": self._symbols[-1].numpy()}
        return {**parts, "clipped": np.array(self._clipped[-1])}

    def resume(self, logits: NDArray[Any], symbols: NDArray[Any], clipped: NDArray[Any]) -> None:
        """Adopt the results of a batch from an earlier run."""
        self._logits.append(torch.from_numpy(logits))
        self._symbols.append(torch.from_numpy(symbols))
        self._clipped.append(int(clipped))

    def evaluation(self, view: StudyView, labels: torch.Tensor, expected: torch.Tensor) -> SplitEvaluation:
        """Return all batches with the labels and the whole model's answers, and move the split back to the CPU."""
        for part in self._placed:
            part.to("cpu")
        logits = view.classes(torch.cat(self._logits))
        symbols = torch.cat(self._symbols)
        return SplitEvaluation(
            split=self.built,
            labels=labels.numpy(),
            whole=expected.argmax(1).numpy(),
            answers=logits.argmax(1).numpy(),
            payload_bytes=self.built.codec.payload_bytes(symbols.numpy()),
            divergences_nats=_divergences(logits, expected),
            clipped_share=sum(self._clipped) / max(1, symbols.numel()),
            precision=self._precision,
        )


def _divergences(logits: torch.Tensor, expected: torch.Tensor) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of each image's (N) class probabilities from those that are expected."""
    wanted = expected.double().log_softmax(1)
    answered = logits.double().log_softmax(1)
    return functional.kl_div(answered, wanted, log_target=True, reduction="none").sum(1).numpy()


def joined(first: SplitEvaluation, second: SplitEvaluation) -> SplitEvaluation:
    """Join two evaluations of a split on different images into the evaluation on all of them."""
    counts = len(first.labels), len(second.labels)
    clipped = counts[0] * first.clipped_share + counts[1] * second.clipped_share
    return replace(
        first,
        labels=np.concatenate([first.labels, second.labels]),
        whole=np.concatenate([first.whole, second.whole]),
        answers=np.concatenate([first.answers, second.answers]),
        payload_bytes=np.concatenate([first.payload_bytes, second.payload_bytes]),
        divergences_nats=np.concatenate([first.divergences_nats, second.divergences_nats]),
        clipped_share=clipped / sum(counts),
    )


def measure(view: StudyView, evaluation: SplitEvaluation, *, part: PartName) -> Measurement:
    """Summarise an evaluation as a record, with the MACs of both sides of the split."""
    labels, built = evaluation.labels, evaluation.split
    right, whole = evaluation.answers == labels, evaluation.whole == labels
    work = measure_work(built.bottleneck, built.cut.shape)
    head_macs = built.cut.head_macs + work.encoder_macs
    return Measurement(
        part=part,
        precision=evaluation.precision,
        accuracy=Accuracy.from_counts(int(right.sum()), len(right)),
        whole=Accuracy.from_counts(int(whole.sum()), len(whole)),
        against_whole=Paired.from_answers(whole, right),
        per_class={
            name: Accuracy.from_counts(int(right[labels == number].sum()), int((labels == number).sum()))
            for number, name in enumerate(view.group.classes)
        },
        payload_bytes=PayloadBytes.from_lengths(evaluation.payload_bytes),
        divergence_nats=evaluation.divergence_nats,
        elements=int(np.prod(built.bottleneck.latent_shape)),
        clipped_share=evaluation.clipped_share,
        encoder_macs=work.encoder_macs,
        encoder_parameters=work.encoder_parameters,
        decoder_macs=work.decoder_macs,
        decoder_parameters=work.decoder_parameters,
        head_macs=head_macs,
        head_mac_share=head_macs / view.study.graph_record.macs,
    )
