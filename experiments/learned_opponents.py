"""Compare splits with learned bottlenecks at the same cut, the same head and the same mean bytes.

    python experiments/learned_opponents.py STUDY NAME CUT... [--budgets 96,256] [--epochs 2,10] [--operations 1]

STUDY is what `isplit analyze` wrote, and NAME what its rows are called. At every cut and budget there are the closed
form, `isplit fit` and a learned bottleneck with a factorised prior (learned_training.py), the latter two for each
number of epochs over the same images of the fit part, with the head frozen. All are measured on the whole test part.

*Equal bytes.* The mean payload of every split is brought to the budget on the select part, header of 2 bytes included.
`fit` does that after each epoch. The learned bottleneck's Lagrange weight is steered while its first stage trains (see
there). Then a gain in front of the rounding is bisected until payloads that CompressAI's coder has really made are
within 1 % of the budget.

*Comparable encoders.* The width of the learned encoder is such that its operations come nearest to those of the
closed form's encoder at the same cut and budget, times each number of `--operations`.

CompressAI (BSD-3-Clause-Clear) is no dependency of isplit. Make an environment of its own, from the root of a checkout:

    python -m venv learned && learned/bin/pip install '.[design]' && learned/bin/pip install --no-deps compressai
    learned/bin/pip install einops psutil pytorch-msssim torch-geometric

(`--no-deps`, because CompressAI asks for numpy 1; what is used here runs with numpy 2 as well.) Rows are kept in
experiments/results/learned-opponents.jsonl; a row that is there is not measured again. `--table` prints the table of
docs/experiment-notes.md instead, and needs no CompressAI.
"""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learned_bottleneck import LearnedBottleneck, coded_bytes, width_for, work_of
from learned_training import LearnedSplit, Recipe
from pausing import pause_point
from result_rows import Row, cut_parser, packed, read_options, read_rows, unpacked
from torch.nn import functional

from isplit.codec.frame import HEADER_BYTES
from isplit.design.class_subsets import ALL
from isplit.design.fit import fit_task, run_fit, trained_directory
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.predict import predict
from isplit.design.running import chosen_precision
from isplit.design.settings import FitSettings, PredictSettings
from isplit.design.splits import BuiltSplit, load_split, split_directory
from isplit.design.study import Study, open_study
from isplit.design.training.features import Features, FeatureSource
from isplit.design.training.start import channel_statistics
from isplit.records import Accuracy, Budget, Cut, Paired, PartName

RESULTS = Path(__file__).parent / "results" / "learned-opponents.jsonl"
_LATENTS = 512  # elements of a learned latent; the price of bytes leaves unused those that are too many


def main() -> None:
    """Measure what is missing, or print the table."""
    parser = cut_parser(__doc__, budgets="96,256")
    parser.add_argument("--epochs", type=_numbers, default="2,10")
    parser.add_argument("--operations", type=_numbers, default="1", help="of the encoder over the closed form's")
    parser.add_argument("--images", type=int, default=2000, help="images of the fit part in an epoch")
    options = read_options(parser)
    if not options.table:
        study = open_study(options.study, allow_code=options.allow_code)
        pairs = [
            Pair(study, cut, budget, options.images) for cut in study.cuts(options.cuts) for budget in options.budgets
        ]
        for method in methods(options.epochs, options.operations):
            for pair in pairs:
                pair.keep_row(options.name, method)
    print_table(read_rows(RESULTS))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def methods(epochs: list[int], operations: list[int]) -> list[Row]:
    """Return what identifies each method's row, in the order in which they are measured: what takes longest, last."""
    compared = [("closed form", 0, 0), ("fit", epochs[0], 0)]
    compared += [("learned", number, share) for number in epochs for share in operations]
    compared += [("fit", number, 0) for number in epochs[1:]]
    return [dict(zip(("method", "epochs", "operations"), values, strict=True)) for values in compared]


@dataclass(frozen=True)
class Pair:
    """A cut and a budget, where all methods are measured with so many images of the fit part in an epoch."""

    study: Study
    cut: Cut
    budget: Budget
    images: int

    def keep_row(self, name: str, method: Row) -> None:
        """Measure a method and keep its row, unless there is one."""
        place = {"name": name, "cut": self.cut.name, "budget": self.budget.payload_bytes}
        known = [row for row in read_rows(RESULTS) if place.items() <= row.items()]
        if any(method.items() <= row.items() for row in known):
            return
        pause_point()
        started = time.process_time()
        if method["method"] == "closed form":
            measured = self._closed_form()
        elif method["method"] == "fit":
            measured = self._fitted(method["epochs"])
        else:
            closed_form = next(row for row in known if row["method"] == "closed form")
            measured = self._learned(method["epochs"], macs=method["operations"] * closed_form["encoder_macs"])
        about = {"weights_sha256": self.study.record.model.weights_sha256, "training_images": self.images}
        row = place | method | about | measured | {"cpu_seconds": time.process_time() - started}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({key: value for key, value in row.items() if key != "right"}, flush=True)

    def _closed_form(self) -> Row:
        predict(
            self.study,
            [self.budget],
            cuts=[self.cut.name],
            settings=PredictSettings(images=None, remote_images=0),
        )
        directory = split_directory(
            self.study.directory, cut=self.cut.name, group=ALL, design="linear", budget=self.budget, trained=False
        )
        return self._measured(load_split(self.study, directory))

    def _fitted(self, epochs: int) -> Row:
        settings = FitSettings(epochs=epochs, images=self.images, patience=epochs, features="keep")
        task = fit_task(self.study, self.cut.name, self.budget, settings=settings)
        record = run_fit(task)
        assert record.training is not None
        about = {"kept": record.training.kept, "best_epoch": record.training.best_epoch}
        return about | self._measured(load_split(self.study, trained_directory(task)))

    def _measured(self, built: BuiltSplit) -> Row:
        """Return the row of a split of isplit on the test part."""
        view = self.study.view()
        (evaluation,) = evaluate_splits(view, [built], images=view.images("test"), precision=chosen_precision("auto"))
        measured = measure(view, evaluation, part="test")
        return {
            "encoder_macs": measured.encoder_macs,
            "encoder_parameters": measured.encoder_parameters,
            "decoder_macs": measured.decoder_macs,
            "decoder_parameters": measured.decoder_parameters,
            **_answers(evaluation.answers == evaluation.labels, evaluation.whole == evaluation.labels),
            "divergence_nats": measured.divergence_nats,
            "payload_bytes": measured.payload_bytes.mean,
        }

    def _learned(self, epochs: int, *, macs: float) -> Row:
        assert self.budget.payload_bytes is not None
        channels, height, width = self.cut.shape
        latents = 16 * _LATENTS // (height * width)
        with ExitStack() as stack:
            fit, select, test = (stack.enter_context(self._features(part)) for part in ("fit", "select", "test"))
            mean, scale = channel_statistics(fit, self.cut, images=FitSettings().statistics_images)
            torch.manual_seed(0)
            bottleneck = LearnedBottleneck(
                self.cut.shape,
                latents=latents,
                width=width_for(macs, self.cut.shape, latents=latents),
                mean=mean,
                scale=scale,
            )
            recipe = Recipe(epochs=epochs, budget_bytes=self.budget.payload_bytes)
            trained = LearnedSplit(self.study.graph, self.cut, bottleneck, recipe)
            curve = trained.train(fit, select)
            encoder = work_of(bottleneck.encoder, torch.zeros(1, channels, height, width))
            decoder = work_of(bottleneck.decoder, torch.zeros(1, latents, height // 4, width // 4))
            return {
                "select_curve": curve,
                "price": trained.price.weight,
                "encoder_macs": encoder.macs,
                "encoder_parameters": encoder.parameters,
                "decoder_macs": decoder.macs,
                "decoder_parameters": decoder.parameters,
                **_coded_answers(trained, test),
            }

    def _features(self, part: PartName) -> Features:
        view = self.study.view()
        images = view.images(part, limit=self.images if part == "fit" else None)
        source = FeatureSource(view=view, cut=self.cut, images=images, precision=chosen_precision("auto"))
        return Features(source, store="keep")


@torch.no_grad()
def _coded_answers(trained: LearnedSplit, test: Features) -> Row:
    """Send every image's latents through the coder and back, and return what the tail answers and what it took."""
    logits, sizes, ideal = [], [], []
    bottleneck = trained.bottleneck
    with test.batches(np.arange(len(test)), batch_size=50) as examples:
        for example in examples:
            latents = bottleneck.encode(example.inputs)
            payloads = bottleneck.payloads(latents)
            logits.append(trained.answer(bottleneck.received(payloads, latents.shape[2:])))
            sizes += [len(payload) + HEADER_BYTES for payload in payloads]
            ideal.append(float(coded_bytes(bottleneck.quantised(latents)[1])))
    answered, expected = torch.cat(logits), test.teacher
    divergence = functional.kl_div(
        answered.log_softmax(1), expected.log_softmax(1), log_target=True, reduction="batchmean"
    )
    return {
        **_answers(*((of.argmax(1) == test.labels).numpy() for of in (answered, expected))),
        "divergence_nats": float(divergence),
        "payload_bytes": float(np.mean(sizes)),
        "ideal_bytes": float(np.mean(ideal)),
    }


def _answers(right: np.ndarray, whole: np.ndarray) -> Row:
    """Return how many answers are right, which, and how that compares with the whole network."""
    paired = Paired.from_answers(whole, right)
    return {
        "images": len(right),
        "accuracy": float(right.mean()),
        "whole": float(whole.mean()),
        "against_whole": paired.difference,
        "against_whole_stderr": paired.stderr,
        "right": packed(right),
    }


def print_table(rows: list[Row]) -> None:
    """Print all rows, each with its paired differences to the closed form and to `fit` with the fewest epochs."""
    print("| cut | bytes | split | encoder: MACs, parameters | bytes on test | accuracy | to closed form | to `fit` |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for _, group in sorted(_grouped(rows).items(), key=lambda item: item[0]):
        references = [_of(group, "closed form"), _of(group, "fit")]
        for row in group:
            print(_line(row, references))


def _grouped(rows: list[Row]) -> dict[tuple[str, str, int], list[Row]]:
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["name"], row["cut"], row["budget"]), []).append(row)
    return groups


def _of(rows: list[Row], method: str) -> Row | None:
    return min((row for row in rows if row["method"] == method), key=lambda row: row["epochs"], default=None)


def _line(row: Row, references: list[Row | None]) -> str:
    accuracy = Accuracy.from_counts(round(row["accuracy"] * row["images"]), row["images"])
    cells: list[Any] = [
        f"`{row['cut']}`",
        row["budget"],
        described(row),
        f"{row['encoder_macs']:,}, {row['encoder_parameters']:,}",
        f"{row['payload_bytes']:.1f}",
        f"{100 * accuracy.accuracy:.1f} ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})",
        *(difference(row, reference) for reference in references),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def described(row: Row) -> str:
    """Say in words how a split was made."""
    if row["method"] == "closed form":
        return "closed form"
    if row["method"] == "fit":
        return f"`fit`, {row['epochs']} epochs"
    larger = "" if row["operations"] == 1 else f", {row['operations']} times the encoder"
    return f"learned, {row['epochs']} epochs{larger}"


def difference(row: Row, reference: Row | None) -> str:
    """Return the paired difference to another split in points, with its standard error; nothing to itself."""
    if reference is None or row is reference:
        return ""
    first, second = (unpacked(of["right"], of["images"]) for of in (reference, row))
    paired = Paired.from_answers(first, second)
    return f"{100 * paired.difference:+.1f} ± {100 * paired.stderr:.1f}"


if __name__ == "__main__":
    main()
