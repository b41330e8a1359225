"""Compare training from the closed form with the paper's autoencoder, and measure how few bytes a split needs.

    python experiments/training.py STUDY [--only start,payload,open] [--images N] [--page]

STUDY is a folder that `isplit analyze` wrote. The figures of the docs are from VGG16 (fine-tuned ImageNet trunk) on
tiny-imagenet-20.

start       At a shallow, a middle and a deep cut, trains the undercomplete autoencoder with one in 64 of the elements
            from random values for five epochs, and the linear bottleneck with its bytes from the closed form for one.
payload     Takes the cuts that need the fewest bytes without training to stay within three points
            (experiments/closed_form.py), and trains them with the same bytes for two epochs.
open        At the cuts of `payload` with half and three quarters of the network on the device, and 0.3 and 0.12 of the
            best compressed image's bytes, trains the head too, on all images of the fit part and their mirror images,
            for four epochs. The compressed images are measured again, on this network.

Except in `open`, an epoch is N images of the fit part, so that everything fits into an hour on two cores. Figures are
measured on the whole test part. Rows are stored in experiments/results/training.jsonl. Rows that are there are not
measured again. docs/trained-splits.md is made from the rows; --page only writes that page.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from closed_form import CLASSES, SHARES, compressed_images, fewest_bytes, keep, known, loss_text, points, table
from pausing import pause_point
from wire import HEADS, wire_cells, wire_lines

from isplit.design.fit import fit
from isplit.design.settings import FitSettings
from isplit.design.study import Study, open_study
from isplit.records import Budget, SplitRecord

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "training.jsonl"
PAGE = ROOT.parent / "docs" / "trained-splits.md"
RATIO = Budget(element_ratio=64)
DEPTHS = (0.3, 0.6, 0.95)
# At most so much of the network on the device, and so much of the best compressed image's bytes.
OPEN = ((0.5, 0.3), (0.75, 0.12))

Row = dict[str, Any]


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--only", default="start,payload,open")
    parser.add_argument("--images", type=int, default=3000, help="of the fit part, per epoch")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if not options.page:
        study = open_study(options.study)
        for name in options.only.split(","):
            for row in {"start": run_start, "payload": run_payload, "open": run_open}[name](study, options.images):
                keep(RESULTS, study, {"part": name, **row}, beside=trained(name))
    write_page()


def trained(part: str) -> list[Row]:
    """Return the rows of a part that are there."""
    if not RESULTS.exists():
        return []
    return [row for row in map(json.loads, RESULTS.read_text().splitlines()) if row["part"] == part]


def run_start(study: Study, images: int) -> Iterator[Row]:
    """The autoencoder for five epochs, then the closed form for one at the same bytes."""
    cuts, macs = study.cuts(), study.graph_record.macs
    there = {row["cut"]: row for row in trained("start") if row["design"] == "undercomplete"}
    finished = {row["cut"] for row in trained("start") if row["design"] == "linear"}
    for depth in reversed(DEPTHS):
        cut = min(cuts, key=lambda cut: abs(cut.head_macs / macs - depth)).name
        if cut not in there:
            settings = FitSettings(epochs=4, feature_epochs=1, images=images, patience=9)
            there[cut] = row_of(fit(study, cut, RATIO, design="undercomplete", settings=settings, progress=say))
            yield there[cut]
        if cut not in finished:
            budget = Budget(payload_bytes=round(there[cut]["payload_bytes"]))
            settings = FitSettings(epochs=1, images=images)
            yield row_of(fit(study, cut, budget, settings=settings, progress=say))


def run_payload(study: Study, images: int) -> Iterator[Row]:
    """The fewest bytes that lose at most three points without training."""
    there = {(row["cut"], row["budget"]) for row in trained("payload")}
    for share in sorted(SHARES, reverse=True):
        best = least_untrained(study, share)
        if best is None:
            continue
        budget = round(best["payload_bytes"])
        if (best["cut"], budget) not in there:
            settings = FitSettings(epochs=2, images=images)
            record = fit(study, best["cut"], Budget(payload_bytes=budget), settings=settings, progress=say)
            there.add((best["cut"], budget))
            yield row_of(record)


def least_untrained(study: Study, share: float) -> Row | None:
    """Return the split with the fewest bytes within three points, at most so much of the network on the device."""
    network = study.record.model.weights_sha256
    untrained = [row for row in known("payload") if "cut" in row and row.get("weights_sha256") == network]
    return fewest_bytes(untrained, share=share, loss=0.03)


def run_open(study: Study, images: int) -> Iterator[Row]:
    """All images, mirrored too, and the head trained with the rest; `images` is not for this part."""
    del images
    there = trained("open")
    remote = [row for row in there if "format" in row]
    if not remote:
        remote = list(compressed_images(study, None))
        yield from remote
    image = least_image(remote, 0.01)
    for share, ratio in OPEN:
        best = least_untrained(study, share)
        if best is None or best["cut"] in {row.get("cut") for row in there}:
            continue
        settings = FitSettings(epochs=4, flip=True, train_head=True)
        record = fit(study, best["cut"], Budget(payload_bytes=int(ratio * image)), settings=settings, progress=say)
        yield row_of(record)


def least_image(remote: list[Row], loss: float) -> float:
    """Return the fewest bytes of a compressed image within a loss."""
    return min(row["payload_bytes"] for row in remote if row["loss"] <= loss)


def row_of(record: SplitRecord) -> Row:
    """Return what is kept of a trained split."""
    training, result = record.training, record.measurement
    assert training is not None
    return {
        "cut": record.cut,
        "budget": record.budget.payload_bytes,
        "design": record.bottleneck.design,
        "start": training.start,
        "before": None if training.before is None else training.before.accuracy.accuracy,
        "accuracy": result.accuracy.accuracy,
        "whole": result.whole.accuracy,
        "images": result.accuracy.images,
        "loss": -result.against_whole.difference,
        "loss_stderr": result.against_whole.stderr,
        "payload_bytes": result.payload_bytes.mean,
        "elements": result.elements,
        "head_mac_share": result.head_mac_share,
        "training_images": training.images,
        "epochs": training.epochs,
        "best_epoch": training.best_epoch,
        "curve": [
            {"stage": entry.stage, "epoch": entry.epoch, "select_accuracy": entry.select_accuracy}
            for entry in training.curve
        ],
        "seconds": training.seconds,
        "threads": training.threads,
        "settings": training.settings,
    }


def say(what: str, part: int, total: int) -> None:
    """Print each step that has come to its end, and stand still while tests or benchmarks run."""
    pause_point()
    if part == total:
        print(f"  {what}: {total}", flush=True)


# --- the page


PREFACE = """# Trained splits

`python experiments/training.py STUDY` writes this page from a study of VGG16 (ImageNet trunk, fine-tuned) on
tiny-imagenet-20 at 64×64 pixels. An epoch is {images} images of the fit part. Accuracy on the select part ends the
training, and figures are measured on the whole test part, in percent. Bytes are mean lengths of real payloads,
including a header of 20 bytes. The network was trained more than once by the same recipe, on other CPUs. Each section
uses one of these networks and states its accuracy."""


ON_THE_WIRE = """**These images are no fair opponent of trained splits**: their network was not trained on compressed
images, and none was trained beside these splits (`isplit fit --remote` does that). The ratios of trained splits flatter
them. The next table restates all of it with the bytes that cross the wire, with today's header of 2 bytes instead of
20. *Surely* means that the one-sided 95 % bound of the paired difference stays within the loss, as verdicts of isplit
decide."""


def write_page() -> None:
    """Write docs/trained-splits.md from the rows."""
    rows = trained("start") + trained("payload")
    if rows:
        preface = PREFACE.format(images=f"{rows[0]['training_images']:,}")
        PAGE.write_text(
            "\n\n".join(part for part in (preface, start_table(), payload_table(), open_table()) if part) + "\n"
        )


def start_table() -> str:
    """Return the table that compares the two starts of training."""
    rows = trained("start")
    lines = []
    for row in rows:
        name = "closed form" if row["design"] == "linear" else "autoencoder, random"
        before = "" if row["before"] is None else points(row["before"])
        lines.append(
            [
                row["cut"],
                f"{row['head_mac_share']:.0%}",
                name,
                f"{row['payload_bytes']:.0f}",
                before,
                str(len([entry for entry in row["curve"] if entry["epoch"]])),
                points(row["accuracy"]),
                loss_text(row),
            ]
        )
    heads = ["cut", "MACs", "start", "bytes", "before training", "epochs", "trained", "loss, points"]
    if not rows:
        return ""
    title = "## From the closed form, and from the paper's autoencoder, at the same bytes"
    return f"{title}\n\nThe whole model has {points(rows[0]['whole'])} %.\n\n{table(heads, lines)}"


def payload_table() -> str:
    """Return the table of the fewest bytes within one and three points, relative to the best compressed image."""
    rows = trained("payload")
    network = rows[0].get("weights_sha256") if rows else None
    before = [row for row in known("payload") if row.get("weights_sha256") == network]
    remote = [row for row in before if "format" in row]
    if not rows or not remote:
        return ""
    rows += [row for row in trained("start") if row["design"] == "linear" and row.get("weights_sha256") == network]
    # Where few were trained, the fewest bytes may be those of a split that was not.
    either = rows + [{"untrained": True, **row} for row in before if "cut" in row]
    lines = []
    for share in SHARES:
        line = [f"{share:.0%}"]
        for loss in (0.01, 0.03):
            image = least_image(remote, loss)
            best = fewest_bytes(either, share=share, loss=loss)
            if best is None:
                line += ["none", f"{image:.0f}", ""]
            else:
                text = loss_text(best) + (", untrained" if best.get("untrained") else "")
                line += [
                    f"{best['payload_bytes']:.0f} at {best['cut']} ({text})",
                    f"{image:.0f}",
                    f"{best['payload_bytes'] / image:.2f}",
                ]
        lines.append(line)
    heads = ["MACs on the device at most"]
    for loss in (1, 3):
        heads += [f"fewest bytes within {loss}", "best image", "ratio"]
    every = [
        [row["cut"], f"{row['payload_bytes']:.0f}", points(row["before"]), points(row["accuracy"])]
        for row in rows
        if row["before"] is not None
    ]
    return "\n\n".join(
        [
            "## Fewest bytes within a loss, trained or not, over the best compressed image within it",
            f"The whole model has {points(rows[0]['whole'])} %.",
            table(heads, lines),
            ON_THE_WIRE,
            table(
                ["loss, points", "MACs at most", *HEADS],
                wire_lines(
                    [{"untrained": False, **row} for row in either],
                    remote,
                    SHARES,
                    classes=CLASSES,
                    losses=(0.01, 0.03),
                ),
            ),
            "All trained splits:",
            table(["cut", "bytes", "before", "trained"], every),
        ]
    )


def open_table() -> str:
    """Return the table of splits whose head was trained too, on one network."""
    rows = trained("open")
    remote, splits = [row for row in rows if "format" in row], [row for row in rows if "cut" in row]
    if not splits:
        return ""
    images = {loss: least_image(remote, loss) for loss in (0.01, 0.03)}
    lines = [
        [
            row["cut"],
            f"{row['head_mac_share']:.0%}",
            f"{row['payload_bytes']:.0f}",
            *(f"{row['payload_bytes'] / images[loss]:.2f}" for loss in images),
            *(wire_cells(row, {"payload_bytes": images[loss]}, classes=CLASSES)[5] for loss in images),
            points(row["before"]),
            points(row["accuracy"]),
            loss_text(row),
        ]
        for row in splits
    ]
    heads = ["cut", "MACs", "bytes", *(f"over the best image within {100 * loss:.0f}" for loss in images)]
    heads += [f"within {100 * loss:.0f}, gRPC both ways" for loss in images]
    return "\n\n".join(
        [
            "## With the head open",
            f"Here the head is trained too, on all {splits[0]['training_images']:,} images of the fit part and their "
            "mirror images, for at most four epochs; accuracy on the select part ends the training. The whole model "
            f"has {points(splits[0]['whole'])} %. The best compressed images take {images[0.01]:.0f} bytes within one "
            f"point of it, and {images[0.03]:.0f} within three; their network was not trained on such images.",
            table([*heads, "before training", "trained", "loss, points"], lines),
        ]
    )


if __name__ == "__main__":
    main()
