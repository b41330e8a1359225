"""Ground truth with small errors: MobileNetV2 on tiny-imagenet-100, whose test part has 5,000 images.

    python experiments/reproduction/many_images.py --data FOLDER [--budgets 64B 1in64] [--hours N] [--device NAME]
        [--share K/N]
    python experiments/reproduction/many_images.py --join

A thousand test images cannot tell the cuts of a network apart at one in 64 of the elements. Here each block of the
network has a cut, and three cuts lie inside blocks. Every cut is trained at three budgets in bytes and at one in 64 of
the elements, and at 128 bytes a second time from another seed. Each set of splits that is whole gets one pass over the
test part, which keeps for every image whether each split was right: halves of the test part and bootstrap intervals
follow from it.

Each split adds a line to results/many-images.jsonl, and each whole set one to results/many-images-answers.jsonl. What
is there is not trained again. The network is trained by networks.py; a network that was trained on another machine has
other weights, and its lines are kept apart. `--budgets` chooses what to add of it.

Many cores, or an accelerator, are shared by several processes: `--share 3/16` takes every sixteenth split that is
missing, from the third on. Each process has a study, lines and answers of its own, and `--join` adds them to the
others. All train in float32, wherever they run.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairs import MANY_IMAGES, Pair
from run import CACHE, HERE, PREDICTION, RATIO, RECIPE, kept, line, prepare, say
from truth import packed, read_rows

from isplit.design.devices import placed, resolve_device
from isplit.design.fit import fit
from isplit.design.measure.splits import SplitEvaluation, evaluate_splits
from isplit.design.predict import predict
from isplit.design.settings import FitSettings
from isplit.design.splits import BuiltSplit, load_split, split_directory
from isplit.design.study import Study
from isplit.records import Budget, Prediction

RESULTS = HERE / "results" / "many-images.jsonl"
ANSWERS = HERE / "results" / "many-images-answers.jsonl"
IMAGES = 3000
INSIDE_BLOCKS = ("features.2.conv.1.2", "features.7.conv.1.2", "features.14.conv.1.2")
SETS: tuple[tuple[Budget, int], ...] = (
    (Budget(payload_bytes=128), 0),
    (Budget(payload_bytes=128), 1),
    (Budget(payload_bytes=64), 0),
    (Budget(payload_bytes=256), 0),
    (RATIO, 0),
)
"""Budgets and seeds, in the order in which they are trained."""
_SAME_SPLIT = 1e-3
"""Accuracies of one split from two runs differ less."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of the splits that one of several processes trains.

    Attributes:
        number: Which process this is, from 1.
        count: How many there are; a single one has the study and the files of results to itself.

    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read a share as in "3/16"."""
        number, count = map(int, text.split("/"))
        if not 1 <= number <= count:
            raise argparse.ArgumentTypeError(f"{text!r} is no share: write one as in 3/16")
        return cls(number=number, count=count)

    def path(self, path: Path) -> Path:
        """Return the process's own file or directory beside that of a single process."""
        return path if self.count == 1 else path.with_name(f"{path.stem}.{self.number}-of-{self.count}{path.suffix}")

    def rows(self, path: Path, pair: Pair, study: Study) -> list[dict[str, Any]]:
        """Return the pair's lines of a file of results, and those of the process's own file."""
        paths = dict.fromkeys((path, self.path(path)))
        return [row for part in paths for row in kept(part, pair, study)]


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of the data sets")
    tags = list(dict.fromkeys(budget.tag for budget, _ in SETS))
    parser.add_argument("--budgets", nargs="+", choices=tags, default=tags, help="of these, in this order")
    parser.add_argument("--hours", type=float, default=1e6, help="begin no other split after so long")
    parser.add_argument("--device", default="cpu", help="where to compute, as `isplit fit` takes it")
    parser.add_argument("--share", type=Share.parse, default=Share(), metavar="K/N", help="the part of this process")
    parser.add_argument("--join", action="store_true", help="only add the results of all shares to the others")
    options = parser.parse_args()
    if options.join:
        join_lines(RESULTS)
        join_answers(ANSWERS, shares_of(ANSWERS))
        return
    os.nice(19)
    ends = time.monotonic() + options.hours * 3600
    study = prepare(MANY_IMAGES, options.data, options.share.path(CACHE / MANY_IMAGES.name))
    sets = [(budget, seed) for tag in options.budgets for budget, seed in SETS if budget.tag == tag]
    run = Run(pair=MANY_IMAGES, study=study, device=options.device, share=options.share)
    jobs = run.jobs(sets)
    for budget, seed in sets:
        names = [name for name, of_budget, of_seed in jobs if (of_budget, of_seed) == (budget, seed)]
        if not run.train(names, budget, seed, ends):
            return
        run.keep_answers(budget, seed)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a process trains, and where.

    Attributes:
        pair: Network and data.
        study: The process's study.
        device: Where it computes.
        share: Its part of the splits.

    """

    pair: Pair
    study: Study
    device: str
    share: Share

    def lines(self, path: Path) -> list[dict[str, Any]]:
        """Return all lines of the pair's network that the process knows of."""
        return self.share.rows(path, self.pair, self.study)

    def jobs(self, sets: Sequence[tuple[Budget, int]]) -> list[tuple[str, Budget, int]]:
        """Return cut, budget and seed of the splits that this process trains: set by set, and the deepest cut first."""
        there = {(row["cut"], row["budget"], row["seed"]) for row in kept(RESULTS, self.pair, self.study)}
        names = [*reversed(chosen_cuts(self.study))]
        missing = [
            (name, budget, seed) for budget, seed in sets for name in names if (name, budget.tag, seed) not in there
        ]
        return missing[self.share.number - 1 :: self.share.count]

    def train(self, names: list[str], budget: Budget, seed: int, ends: float) -> bool:
        """Train these cuts at one budget from one seed, but those that have a line; False if time ran out first."""
        there = {(row["cut"], row["budget"], row["seed"]) for row in self.lines(RESULTS)}
        missing = [name for name in names if (name, budget.tag, seed) not in there]
        if not missing:
            return True
        before = self.predictions(budget, missing)
        for name in missing:
            if time.monotonic() > ends:
                return False
            settings = FitSettings(
                **RECIPE["linear"],
                patience=1,
                images=IMAGES,
                seed=seed,
                features="auto",
                device=self.device,
                precision="fp32",
            )
            started = time.perf_counter()
            record = fit(self.study, name, budget, settings=settings, progress=say)
            prediction = before[name]
            row = line(self.pair, self.study, record, prediction) | {
                "fit_seconds": time.perf_counter() - started,
                "device": record.device,
                "predicted_accuracy": prediction.predicted_accuracy,
                "predicted_low": prediction.predicted_low,
                "predicted_high": prediction.predicted_high,
            }
            append(self.share.path(RESULTS), row)
            shown = ("cut", "budget", "seed", "closed_form_select", "trained_select", "trained_test", "fit_seconds")
            print({field: row[field] for field in shown}, flush=True)
        return True

    def predictions(self, budget: Budget, names: list[str]) -> dict[str, Prediction]:
        """Return what `predict` says of the cuts; what it said before it does not compute again."""
        settings = replace(PREDICTION, device=self.device, precision="fp32")
        rows = predict(self.study, [budget], cuts=names, settings=settings, progress=say).predictions
        return {row.cut: row for row in rows if (row.budget, row.design) == (budget, "linear")}

    def keep_answers(self, budget: Budget, seed: int) -> None:
        """Run the trained splits of a set on the test part, and keep which images each has right.

        Splits whose answers are there are not run again. A split is taken with the tail that was trained.
        """
        key = budget.tag, seed
        trained = {row["cut"]: row for row in self.lines(RESULTS) if (row["budget"], row["seed"]) == key}
        answered = [row for row in self.lines(ANSWERS) if (row["budget"], row["seed"]) == key]
        known = {name for row in answered for name in row["right"]}
        view = self.study.view()
        directories = {
            name: split_directory(
                self.study.directory, cut=name, group=view.name, design="linear", budget=budget, trained=True
            )
            for name in chosen_cuts(self.study)
            if name in trained and name not in known
        }
        splits: list[BuiltSplit] = [load_split(self.study, path) for path in directories.values() if path.exists()]
        if not splits:
            return
        with placed(self.study.graph.module, device=resolve_device(self.device)):
            evaluations: list[SplitEvaluation] = evaluate_splits(
                view, splits, images=view.images("test"), precision="fp32", progress=say
            )
        for evaluation in evaluations:
            check_against_line(evaluation, trained[evaluation.split.cut.name])
        row = {
            "pair": self.pair.name,
            "weights_sha256": self.study.record.model.weights_sha256,
            "budget": budget.tag,
            "seed": seed,
            "images": len(evaluations[0].labels),
            "whole": packed(evaluations[0].whole == evaluations[0].labels),
            "right": {
                evaluation.split.cut.name: packed(evaluation.answers == evaluation.labels) for evaluation in evaluations
            },
        }
        answers = self.share.path(ANSWERS)
        append(answers, row)
        join_answers(answers)


def chosen_cuts(study: Study) -> list[str]:
    """Return the end of every block, of the stem and of the last convolution, and three cuts inside blocks."""
    ends: dict[str, str] = {}
    for cut in study.cuts():
        if cut.name.startswith("features."):
            ends[cut.name.split(".")[1]] = cut.name
    chosen = {*ends.values(), *INSIDE_BLOCKS}
    return [cut.name for cut in study.cuts() if cut.name in chosen]


def check_against_line(evaluation: SplitEvaluation, row: dict[str, Any]) -> None:
    """Refuse answers of another split than the one of the line: later seeds write over the files of earlier ones."""
    accuracy = float((evaluation.answers == evaluation.labels).mean())
    if abs(accuracy - row["trained_test"]) > _SAME_SPLIT:
        key = row["cut"], row["budget"], row["seed"]
        msg = f"{key} is right on {accuracy:.1%} of the images, its line says {row['trained_test']:.1%}: remove it"
        raise SystemExit(msg)


def join_lines(path: Path) -> None:
    """Add the lines of all shares to a file, and remove the files of the shares."""
    parts = shares_of(path)
    replace_text(path, "".join(part.read_text() for part in (path, *parts) if part.exists()))
    for part in parts:
        part.unlink()


def join_answers(path: Path, parts: Sequence[Path] = ()) -> None:
    """Join the lines of one set in a file and in those of shares, and remove the files of the shares."""
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in (row for file in (path, *parts) for row in read_rows(file)):
        key = row["weights_sha256"], row["budget"], row["seed"]
        right = rows[key]["right"] | row["right"] if key in rows else row["right"]
        rows[key] = row | {"right": right}
    replace_text(path, "".join(f"{json.dumps(row)}\n" for row in rows.values()))
    for part in parts:
        part.unlink()


def shares_of(path: Path) -> list[Path]:
    """Return the files that the processes of a share wrote beside a file of results."""
    return sorted(path.parent.glob(f"{path.stem}.*-of-*{path.suffix}"))


def replace_text(path: Path, text: str) -> None:
    """Replace a file whole or not at all."""
    whole = path.with_suffix(".tmp")
    whole.write_text(text)
    whole.replace(path)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line to a file of results."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
