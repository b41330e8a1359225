"""Compare splits under a limit of the device's operations with compressed images, in bytes on the wire.

    python experiments/frontier.py STUDY NAME untrained --cuts A,B --budgets 96,192
    python experiments/frontier.py STUDY NAME images --settings avif:50
    python experiments/frontier.py STUDY NAME trained --cuts A,B --budgets 96,192 [--open-head] [--epochs 2]
    python experiments/frontier.py STUDY NAME opponents --settings webp:80,webp:50@0.5
    python experiments/frontier.py --table

STUDY is what `isplit analyze` wrote, and NAME what its rows are called. Untrained splits and images are measured on the
select part and on the test part, neither of which they are made from; networks that are trained, splits and opponents
alike, on the test part alone. Rows are kept in experiments/results/frontier.jsonl; a row that is there is not measured
again. The table has the fewest bytes with which something stays within a loss, and accuracies at equal bytes.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pausing import pause_point
from result_rows import Row, packed, read_budgets, read_options, read_rows, unpacked
from wire import RULES, fewest

from isplit.design.fit import fit_task, run_fit, trained_directory
from isplit.design.fit_remote import fit_remote
from isplit.design.measure.compressed_images import measure_remote
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.predict import predict
from isplit.design.settings import FitSettings, PredictSettings
from isplit.design.splits import load_split, split_directory
from isplit.design.study import Study, open_study
from isplit.records import Budget, Compression, Measurement, Paired, RemoteImage, WireBytes, wire_overhead

RESULTS = Path(__file__).parent / "results" / "frontier.jsonl"
LIMITS = (0.25, 0.5, 0.75)
LOSSES = (0.01, 0.03)
HEAD_OPEN = ", head open"


def main() -> None:
    """Measure what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("what", choices=("untrained", "images", "trained", "opponents"), nargs="?")
    parser.add_argument("--cuts", type=lambda text: text.split(","), default=[])
    parser.add_argument("--budgets", type=read_budgets, default=[])
    parser.add_argument("--settings", type=lambda text: text.split(","), default=[])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000, help="images of the fit part in an epoch")
    parser.add_argument("--open-head", action="store_true", help="train the layers before the cut, too")
    parser.add_argument("--table", action="store_true")
    options = read_options(parser)
    if not options.table:
        study = open_study(options.study)
        how = FitSettings(epochs=options.epochs, images=options.images)
        if options.what == "untrained":
            measure_untrained(study, options.name, options.cuts, options.budgets)
        elif options.what == "images":
            measure_images(study, options.name, options.settings)
        elif options.what == "trained":
            how = replace(how, train_head=options.open_head)
            measure_trained(study, options.name, options.cuts, options.budgets, how)
        else:
            measure_opponents(study, options.name, options.settings, how)
    print_table()


def measure_untrained(study: Study, name: str, cuts: Sequence[str], budgets: Sequence[Budget]) -> None:
    """Predict the splits, and measure them and the compressed images on the test part, too."""
    record = predict(study, budgets, cuts=cuts, settings=PredictSettings(images=None, remote_images=None))
    view = study.view()
    test = view.images("test")
    kept = Rows(name, training="none")
    selected = [
        row
        for row in record.predictions
        if row.cut in cuts and row.budget in budgets and kept.lacks(split_place(row.cut, row.budget))
    ]
    folders = [
        split_directory(view.directory, cut=row.cut, group=view.name, design="linear", budget=row.budget, trained=False)
        for row in selected
    ]
    splits = [load_split(study, folder) for folder in folders]
    for row, evaluation in zip(selected, evaluate_splits(view, splits, images=test), strict=True):
        parts = [row.measurement, measure(view, evaluation, part="test")]
        kept.add({**split_place(row.cut, row.budget), **split_figures(parts)})
    measure_images(study, name, [image.tag for image in record.remote])


def measure_images(study: Study, name: str, texts: Sequence[str]) -> None:
    """Measure the network as it is on images compressed in these settings, on both parts."""
    kept, view = Rows(name, training="none"), study.view()
    settings = [Compression.from_tag(text) for text in texts if kept.lacks(image_place(text))]
    measured = [
        measure_remote(view, images=view.images(part), part=part, compressions=settings) for part in ("select", "test")
    ]
    for of_parts in zip(*measured, strict=True):
        kept.add({**image_place(of_parts[0].tag), **image_figures(of_parts, classes=len(view.group.classes))})


def measure_trained(
    study: Study, name: str, cuts: Sequence[str], budgets: Sequence[Budget], settings: FitSettings
) -> None:
    """Train splits, and measure them on the test part."""
    kept = Rows(name, training=training_text(settings))
    for cut in cuts:
        for budget in budgets:
            if kept.lacks(split_place(cut, budget)):
                pause_point()
                task = fit_task(study, cut, budget, settings=settings)
                record = run_fit(task)
                assert record.training is not None
                split = load_split(study, trained_directory(task))
                (evaluation,) = evaluate_splits(task.view, [split], images=task.view.images("test"))
                right = {"right": packed(evaluation.answers == evaluation.labels)}
                how = {"kept": record.training.kept, "seconds": record.training.seconds}
                kept.add({**split_place(cut, budget), **split_figures([record.measurement]), **how, **right})


def measure_opponents(study: Study, name: str, texts: Sequence[str], settings: FitSettings) -> None:
    """Train the network on compressed images for as long as a split, and measure it on the test part."""
    kept = Rows(name, training=training_text(settings))
    for text in texts:
        if kept.lacks(image_place(text)):
            pause_point()
            record = fit_remote(study, text, settings=settings)
            of_image = image_figures([record.measurement], classes=len(study.view().group.classes))
            kept.add({**image_place(text), **of_image, "seconds": record.seconds})


class Rows:
    """The rows of one network, which are trained in one way."""

    def __init__(self, name: str, *, training: str) -> None:
        self._same = {"name": name, "training": training}

    def lacks(self, place: Row) -> bool:
        """Whether there is no row yet at this place."""
        wanted = {**self._same, **place}
        return not any(wanted.items() <= row.items() for row in read_rows(RESULTS))

    def add(self, row: Row) -> None:
        """Append a row to the results."""
        pause_point()
        with RESULTS.open("a") as file:
            file.write(json.dumps({**self._same, **row}) + "\n")


def training_text(settings: FitSettings) -> str:
    """Say how long something is trained, and what of it."""
    return f"{settings.epochs} x {settings.images}{HEAD_OPEN if settings.train_head else ''}"


def split_place(cut: str, budget: Budget) -> Row:
    """Return what tells one split from the others."""
    return {"kind": "split", "cut": cut, "budget": budget.payload_bytes}


def image_place(setting: str) -> Row:
    """Return what tells one setting of the compressed image from the others."""
    return {"kind": "image", "setting": setting}


def split_figures(parts: Sequence[Measurement]) -> Row:
    """Return the figures of a split on all parts together."""
    overhead = wire_overhead(len(parts[0].per_class)).of_split
    return {"head_mac_share": parts[0].head_mac_share, **figures(parts, overhead)}


def image_figures(parts: Sequence[RemoteImage], *, classes: int) -> Row:
    """Return the figures of a compressed image on all parts together."""
    return figures(parts, wire_overhead(classes).of_image)


def figures(parts: Sequence[Measurement | RemoteImage], overhead: Callable[[float], WireBytes]) -> Row:
    """Return the figures of a split or an image on all parts together; `overhead` adds what the protocol takes."""
    counts = [part.accuracy.images for part in parts]
    payload = float(np.average([part.payload_bytes.mean for part in parts], weights=counts))
    paired = pooled([part.against_whole for part in parts], images=sum(counts))
    return {
        "images": sum(counts),
        "accuracy": float(np.average([part.accuracy.accuracy for part in parts], weights=counts)),
        "loss": -paired.difference,
        "loss_stderr": paired.stderr,
        "payload_bytes": payload,
        "wire_up_bytes": overhead(payload).up,
        "wire_down_bytes": overhead(payload).down,
    }


def pooled(parts: Sequence[Paired], *, images: int) -> Paired:
    """Return comparisons on different images as one."""
    only_first, only_second = sum(part.only_first for part in parts), sum(part.only_second for part in parts)
    order = np.arange(images)
    return Paired.from_answers(order < images - only_second, order >= only_first)


def print_table() -> None:
    """Print all rows, then for each kind of training what stays within a loss, and accuracies at equal bytes."""
    rows = read_rows(RESULTS)
    for row in rows:
        share = f"{row['head_mac_share']:.1%}" if row["kind"] == "split" else ""
        print(f"{row['name']} {row['training']:18} {share:6} {row['images']} images  {described(row)}")
    for same in dict.fromkeys((row["name"], row["training"]) for row in rows):
        group = [row for row in rows if (row["name"], row["training"]) == same]
        if any(row["kind"] == "image" for row in group):
            print_frontier(group)
    print_open_heads(rows)


def print_open_heads(rows: Sequence[Row]) -> None:
    """Print what training the head, too, gains on the same images, for as long a training."""
    print("\nhead open, against frozen")
    frozen = {(row["name"], row["training"], row["cut"], row["budget"]): row for row in rows if "right" in row}
    for (name, training, cut, budget), row in frozen.items():
        opened = frozen.get((name, f"{training}{HEAD_OPEN}", cut, budget))
        if opened is not None:
            before, after = (unpacked(some["right"], some["images"]) for some in (row, opened))
            paired = Paired.from_answers(before, after)
            gain = f"{100 * paired.difference:+.1f} ± {100 * paired.stderr:.1f} points"
            print(
                f"  {name} {training}  {cut} at {budget} B: {row['accuracy']:.1%} to {opened['accuracy']:.1%}, {gain}"
            )


def print_frontier(rows: Sequence[Row]) -> None:
    """Print the splits of the fewest bytes over such images, and the best split at the bytes of each image."""
    images = sorted((row for row in rows if row["kind"] == "image"), key=lambda row: row["wire_up_bytes"])
    print(f"\n{rows[0]['name']}, training {rows[0]['training']}: bytes up on the wire, the split's over the image's")
    for limit in LIMITS:
        print(f"at most {limit:.0%} of the operations on the device")
        splits = [row for row in rows if row["kind"] == "split" and row["head_mac_share"] <= limit]
        for loss, rule in itertools.product(LOSSES, RULES):
            split, image = (fewest(some, loss=loss, rule=rule) for some in (splits, images))
            ratio = f"{split['wire_up_bytes'] / image['wire_up_bytes']:.2f}" if split and image else "none"
            print(f"  {rule} within {100 * loss:.0f}: {ratio:4}  {described(split)} over {described(image)}")
        for number, image in enumerate(images):
            if any(cheaper["loss"] <= image["loss"] for cheaper in images[:number]):
                continue
            affordable = [row for row in splits if row["wire_up_bytes"] <= image["wire_up_bytes"]]
            best = min(affordable, key=lambda row: row["loss"], default=None)
            print(f"  at the bytes of {described(image)}: {described(best)}")


def described(row: Row | None) -> str:
    """Return what a row is of, its bytes and its loss in points."""
    if row is None:
        return "nothing"
    what = f"{row['cut']} at {row['budget']} B" if row["kind"] == "split" else row["setting"]
    loss = f"{100 * row['loss']:.1f} ± {100 * row['loss_stderr']:.1f}"
    return f"{what} ({row['wire_up_bytes']:.0f} B up, {row['accuracy']:.1%}, loss {loss})"


if __name__ == "__main__":
    main()
