"""Splits measured on images: what the tail answers to what it gets through the bottleneck, and the bytes it took."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from isplit.design.graph import ModelGraph, split
from isplit.design.graph.features import FeaturePass
from isplit.design.inputs.batches import iter_batches
from isplit.design.progress import Progress, silent
from isplit.design.running import autocast
from isplit.design.splits import BuiltSplit
from isplit.design.study import StudyView
from isplit.records import Accuracy, Cut, Measurement, Paired, PartName, PayloadBytes, Precision


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Answers to some images: of the whole model, and of every split in the order they were given.

    `labels` (N) and `answers` (N) count the group's classes; `payload_bytes` (N) is the length of each payload.
    `divergence_nats` is the mean Kullback-Leibler divergence of a split's class probabilities from the whole model's.
    """

    labels: NDArray[np.int64]
    whole: NDArray[np.int64]
    answers: list[NDArray[np.int64]]
    payload_bytes: list[NDArray[np.int64]]
    divergence_nats: list[float]
    clipped: list[float]
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
) -> Evaluation:
    """Run every split on the images, through its quantiser; one pass of the model serves all that share its head.

    Payload lengths are those of real payloads. Precision is that of heads, tails and the whole model; bottlenecks
    compute in float32.
    """
    shared = [one for one in splits if one.head is None]
    runners = {id(one): _Runner(view.graph, one, precision) for one in splits}
    by_cut: dict[str, list[BuiltSplit]] = {}
    for one in shared:
        by_cut.setdefault(one.cut.name, []).append(one)
    run = FeaturePass(view.graph, [named[0].cut for named in by_cut.values()])
    labels: list[torch.Tensor] = []
    whole: list[torch.Tensor] = []

    def visit(cut: Cut, tensor: torch.Tensor) -> None:
        for one in by_cut[cut.name]:
            runners[id(one)](tensor)

    with closing(iter_batches(view.data, images, view.preprocessing, batch_size=batch_size)) as batches:
        for batch in batches:
            whole.append(view.classes(run(batch.images, visit, precision=precision)))
            for one in splits:
                if one.head is not None:
                    with torch.no_grad(), autocast(precision):
                        crossing = one.head(batch.images)
                    runners[id(one)](crossing.float())
            labels.append(torch.from_numpy(view.classes.label_map)[batch.labels])
            progress(label, sum(map(len, labels)), len(images))
    done = [runners[id(one)] for one in splits]
    expected = torch.cat(whole)
    logits = [view.classes(torch.cat(runner.logits)) for runner in done]
    return Evaluation(
        labels=torch.cat(labels).numpy(),
        whole=expected.argmax(1).numpy(),
        answers=[found.argmax(1).numpy() for found in logits],
        payload_bytes=[one.codec.payload_bytes(torch.cat(runners[id(one)].symbols).numpy()) for one in splits],
        divergence_nats=[_divergence(found, expected) for found in logits],
        clipped=[runner.clipped / max(1, sum(part.numel() for part in runner.symbols)) for runner in done],
        precision=precision,
    )


def _divergence(logits: torch.Tensor, expected: torch.Tensor) -> float:
    wanted = expected.double().log_softmax(1)
    found = logits.double().log_softmax(1)
    return float(functional.kl_div(found, wanted, log_target=True, reduction="batchmean"))


class _Runner:
    """Runs what crosses through one split's bottleneck and tail."""

    def __init__(self, graph: ModelGraph, built: BuiltSplit, precision: Precision) -> None:
        self.graph = graph
        self.built = built
        self.precision: Precision = precision
        self.tail = (built.tail or split(graph, built.cut.name).tail).eval()
        built.bottleneck.eval()
        self.logits: list[torch.Tensor] = []
        self.symbols: list[torch.Tensor] = []
        self.clipped = 0

    @torch.no_grad()
    def __call__(self, tensor: torch.Tensor) -> None:
        bottleneck = self.built.bottleneck
        latents = bottleneck.encode(tensor)
        symbols = bottleneck.symbols(latents)
        self.clipped += bottleneck.count_clipped(latents)
        decoded = bottleneck.decode(bottleneck.values(symbols))
        decoded = self.graph.lay_out(decoded, self.built.cut)
        with autocast(self.precision):
            answer = self.tail(decoded)
        self.logits.append(answer.float())
        self.symbols.append(symbols)


def measure(view: StudyView, built: BuiltSplit, found: Evaluation, number: int, *, part: PartName) -> Measurement:
    """Summarise what `evaluate_splits` found for its split of that number."""
    right, whole = found.answers[number] == found.labels, found.whole == found.labels
    bottleneck, graph = built.bottleneck, view.study.graph_record
    head_macs = built.cut.head_macs + bottleneck.encoder_macs
    return Measurement(
        part=part,
        precision=found.precision,
        accuracy=Accuracy.from_counts(int(right.sum()), len(right)),
        whole=Accuracy.from_counts(int(whole.sum()), len(whole)),
        against_whole=Paired.from_answers(whole, right),
        per_class={
            name: Accuracy.from_counts(int(right[found.labels == k].sum()), int((found.labels == k).sum()))
            for k, name in enumerate(view.group.classes)
        },
        payload_bytes=PayloadBytes.from_lengths(found.payload_bytes[number]),
        divergence_nats=found.divergence_nats[number],
        elements=int(np.prod(bottleneck.latent_shape)),
        clipped_share=found.clipped[number],
        encoder_macs=bottleneck.encoder_macs,
        encoder_parameters=bottleneck.encoder_parameters,
        decoder_macs=bottleneck.decoder_macs,
        decoder_parameters=bottleneck.decoder_parameters,
        head_macs=head_macs,
        head_mac_share=head_macs / graph.macs,
    )
