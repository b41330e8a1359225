"""Splits measured on images: what the tail answers to what it gets through the bottleneck, and the bytes it took."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from isplit.design.bottleneck.sides import measure_work
from isplit.design.devices import device_of
from isplit.design.graph import ModelGraph, split
from isplit.design.graph.features import FeaturePass
from isplit.design.inputs.batches import iter_batches
from isplit.design.running import autocast
from isplit.design.splits import BuiltSplit
from isplit.design.study import StudyView
from isplit.progress import Progress, silent
from isplit.records import Accuracy, Cut, Measurement, Paired, PartName, PayloadBytes, Precision


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitEvaluation:
    """What one split and the whole model answer to the same images, and what crosses.

    Attributes:
        split: The split.
        labels: The images' classes, counted within the view's (N).
        whole: The whole model's answers (N).
        answers: The split's answers (N).
        payload_bytes: The length of each image's payload (N).
        divergence_nats: The mean Kullback-Leibler divergence of the split's class probabilities from the whole model's.
        clipped_share: The share of latents beyond the quantiser's range.
        precision: That of heads, tails and the whole model.

    """

    split: BuiltSplit
    labels: NDArray[np.int64]
    whole: NDArray[np.int64]
    answers: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    divergence_nats: float
    clipped_share: float
    precision: Precision


def evaluate_splits(
    view: StudyView,
    splits: Sequence[BuiltSplit],
    *,
    images: NDArray[np.int64],
    batch_size: int = 64,
    precision: Precision = "fp32",
    progress: Progress = silent,
    label: str = "accuracy of the splits",
) -> list[SplitEvaluation]:
    """Run every split on the images, through its quantiser; one pass of the model serves all that share its head.

    Payload lengths are those of real payloads. Precision is that of heads, tails and the whole model; bottlenecks
    compute in float32.

    Returns:
        An evaluation for each split, in their order.

    """
    device = device_of(view.graph.module)
    runners = [_SplitRunner(view.graph, built, precision, device) for built in splits]
    by_cut: dict[str, list[_SplitRunner]] = {}
    for runner in runners:
        if runner.built.head is None:
            by_cut.setdefault(runner.built.cut.name, []).append(runner)
    run = FeaturePass(view.graph, [of_cut[0].built.cut for of_cut in by_cut.values()])
    labels: list[torch.Tensor] = []
    whole: list[torch.Tensor] = []

    def visit(cut: Cut, tensor: torch.Tensor) -> None:
        for runner in by_cut[cut.name]:
            runner(tensor)

    coming = iter_batches(view.data, images, view.preprocessing, batch_size=batch_size, device=device)
    with closing(coming) as batches:
        for batch in batches:
            whole.append(view.classes(run(batch.images, visit, precision=precision)))
            for runner in runners:
                if runner.built.head is not None:
                    with torch.no_grad(), autocast(precision, device=device):
                        crossing = runner.built.head(batch.images)
                    runner(crossing.float())
            labels.append(torch.from_numpy(view.classes.label_map)[batch.labels])
            progress(label, sum(map(len, labels)), len(images))
    expected = torch.cat(whole)
    return [runner.evaluation(view, torch.cat(labels), expected) for runner in runners]


class _SplitRunner:
    """Runs what crosses through one split's bottleneck and tail, on a device until `evaluation`."""

    def __init__(self, graph: ModelGraph, built: BuiltSplit, precision: Precision, device: torch.device) -> None:
        self._graph = graph
        self.built = built
        self._precision: Precision = precision
        self._device = device
        self._tail = (built.tail or split(graph, built.cut.name).tail).eval()
        built.bottleneck.eval()
        # The model's own sides are there already.
        self._placed = [part for part in (built.head, built.bottleneck, built.tail) if part is not None]
        for part in self._placed:
            part.to(device)
        self._logits: list[torch.Tensor] = []
        self._symbols: list[torch.Tensor] = []
        self._clipped = 0

    @torch.no_grad()
    def __call__(self, crossing: torch.Tensor) -> None:
        built = self.built
        latents = built.bottleneck.encode(crossing)
        symbols = built.quantiser.symbols(latents)
        self._clipped += built.quantiser.count_clipped(latents)
        decoded = self._graph.lay_out(built.decode(symbols), built.cut)
        with autocast(self._precision, device=self._device):
            answer = self._tail(decoded)
        self._logits.append(answer.float().cpu())
        self._symbols.append(symbols.cpu())

    def evaluation(self, view: StudyView, labels: torch.Tensor, expected: torch.Tensor) -> SplitEvaluation:
        """Summarise all batches beside the labels and the whole model's logits; the split goes back to the CPU."""
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
            divergence_nats=_divergence(logits, expected),
            clipped_share=self._clipped / max(1, symbols.numel()),
            precision=self._precision,
        )


def _divergence(logits: torch.Tensor, expected: torch.Tensor) -> float:
    wanted = expected.double().log_softmax(1)
    answered = logits.double().log_softmax(1)
    return float(functional.kl_div(answered, wanted, log_target=True, reduction="batchmean"))


def measure(view: StudyView, evaluation: SplitEvaluation, *, part: PartName) -> Measurement:
    """Summarise an evaluation as a record, with what both sides of the split compute."""
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
