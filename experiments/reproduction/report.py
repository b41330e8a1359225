"""Write docs/experiments.md, its figures, and the calibration that comes with the package (`make reproduce-report`).

Everything is made from committed results; nothing is trained.
"""

from collections.abc import Sequence
from math import hypot
from pathlib import Path

import matplotlib as mpl
from figures import draw
from intervals import coverage_text
from judge import calibration_splits, ceilings, from_fewer_images, judge, judge_all, mean, no_loss, ship_calibration
from many_images_text import many_images_section
from pairs import PAIRS
from text import PREFACE, subsets_text, verdict
from truth import RATIO, Row, Truth, first_by_closed_form, first_by_cui, gather, is_whole, read

from isplit.design.measure.ranking import kendall_tau

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = DOCS / "experiments.md"


def main() -> None:
    """Write everything."""
    mpl.use("Agg")
    lines, scores = read("trained"), read("predictors")
    truths = [
        truth
        for pair in PAIRS
        for budget in (RATIO, f"{pair.few_bytes}B")
        if (truth := gather(lines, pair.name, budget=budget)) is not None and is_whole(truth, scores)
    ]
    ratio = [truth for truth in truths if truth.budget == RATIO]
    few = [truth for truth in truths if truth.budget != RATIO]
    parts = [
        PREFACE,
        verdict(ratio, few, scores, lines),
        pairs_section(lines, ratio),
        predictors_section("## Predictors at one in 64 of the elements", ratio, truths, scores, lines),
        predictors_section("## Predictors at a few bytes", few, truths, scores, lines),
        coverage_text(calibration_splits(truths)) if truths else "",
        many_images_section(table),
        images_section(ratio, scores),
        subsets_section(lines),
        autoencoder_section(lines),
    ]
    ship_calibration(truths)
    for data in dict.fromkeys(pair.name.split("-")[1] for pair in PAIRS):
        networks = [
            of_pair for pair in PAIRS if pair.name.endswith(data) and (of_pair := of(truths, pair.name)) and of_pair[0]
        ]
        if networks:
            draw(networks, scores, DOCS / "images" / f"experiments-{data}.svg")
            parts.append(f"## {data}\n\n![Importance, size and accuracy](images/experiments-{data}.svg)")
            parts += [pair_section(truth) for truths_of in networks for truth in truths_of]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n", "utf-8")


def of(truths: Sequence[Truth], pair: str) -> list[Truth]:
    """Return a pair's truths."""
    return [truth for truth in truths if truth.pair == pair]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, the first column to the left and the others to the right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def points(share: float) -> str:
    """Write a share as points of 100."""
    return f"{100 * share:.1f}"


def or_dash(value: float | None, form: str) -> str:
    """Format a number, or return a dash if there is none."""
    return "–" if value is None else format(value, form)


def pairs_section(lines: Sequence[Row], ratio: Sequence[Truth]) -> str:
    """Return the section that lists the pairs of network and data."""
    whole = {truth.pair for truth in ratio}
    rows: list[list[str]] = []
    for pair in PAIRS:
        of_pair = [row for row in lines if row["pair"] == pair.name]
        if not of_pair:
            rows.append([pair.name, str(pair.image_size), *"––0––––"])
            continue
        truth, few = gather(of_pair, pair.name), gather(of_pair, pair.name, budget=f"{pair.few_bytes}B")
        of_ratio = list(truth.rows.values()) if truth else []
        state = "all" if pair.name in whole else "some"
        rows.append(
            [
                pair.name,
                str(pair.image_size),
                ", ".join(accuracies_of_networks(of_pair)),
                f"{max(row['test_images'] for row in of_pair):,}",
                f"{len(of_ratio)} ({state})",
                f"{sum(row['best_epoch'] > 0 for row in of_ratio)}",
                f"{len(few.rows)} ({pair.few_bytes} B)" if few else "–",
                str(len(of_pair)),
                f"{sum(row['fit_seconds'] for row in of_pair) / 3600:.1f}",
            ]
        )
    heads = [
        "pair",
        "pixels",
        "base accuracy",
        "test images",
        "cuts trained at 1 in 64",
        "improved by training",
        "cuts trained at a few bytes",
        "splits in all",
        "hours, one thread",
    ]
    return f"## Six pairs\n\n{table(heads, rows)}"


def accuracies_of_networks(lines: Sequence[Row]) -> list[str]:
    """Return each network's accuracy; a dash where only class subsets of it were split."""
    accuracies = {row["weights_sha256"]: "–" for row in lines}
    accuracies |= {row["weights_sha256"]: points(row["whole_test"]) for row in lines if row["group"] == "all classes"}
    return list(accuracies.values())


def predictors_section(
    title: str, truths: Sequence[Truth], every: Sequence[Truth], scores: Sequence[Row], lines: Sequence[Row]
) -> str:
    """Return the table of all predictors at one kind of budget, and below them what is known after training."""
    if not truths:
        return ""
    judgements = judge_all(truths, every, scores)
    names = sorted(
        judgements, key=lambda name: mean([judgement.tau for judgement in judgements[name]]) or 0.0, reverse=True
    )
    rows: list[list[str]] = []
    for name, results in [*((name, judgements[name]) for name in names), *ceilings(truths, lines).items()]:
        taus, clear = [judgement.tau for judgement in results], [judgement.clear_tau for judgement in results]
        rows.append(
            [
                name,
                or_dash(mean(taus), "+.2f"),
                or_dash(min(taus), "+.2f"),
                or_dash(mean(clear), "+.2f"),
                or_dash(mean([judgement.first_regret for judgement in results]), ".1f"),
                or_dash(mean([judgement.three_regret for judgement in results]), ".1f"),
                or_dash(mean([judgement.error_points for judgement in results]), ".1f"),
                or_dash(mean([judgement.cost_percent for judgement in results]), ".1f"),
            ]
        )
    rows.append(["*no loss assumed*", *"–––––", f"{no_loss(truths):.1f}", "–"])
    heads = [
        "predictor",
        "Kendall τ, mean",
        "lowest",
        "τ where clear",
        "regret of the first",
        "of the best of three",
        "error of the accuracy",
        "% of the training's time",
    ]
    spreads = [
        f"{truth.pair} {points(spread(truth))}"
        + ("" if truth.budget == RATIO else f" at {truth.budget.replace('B', ' B')}")
        for truth in truths
    ]
    return (
        f"{title}\n\nThe table covers the pairs whose cuts are all trained. After training, their best and worst cut "
        f"are this many points apart: {', '.join(spreads)}.\n\n{table(heads, rows)}"
    )


def images_section(ratio: Sequence[Truth], every: Sequence[Row]) -> str:
    """Return the section on the number of images: tau between the scores of some and of all, and with the truth."""
    scores = [row for row in every if len(row["means"]) > 1]
    if not scores:
        return ""
    names = list(dict.fromkeys(row["predictor"] for row in scores))
    counts = list(scores[0]["means"])[:-1]
    rows: list[list[str]] = []
    for name in names:
        cells: list[str] = []
        for count in counts:
            taus: list[float] = []
            for row in scores:
                if row["predictor"] == name and count in row["means"]:
                    everything = row["means"][max(row["means"], key=int)]
                    tau = kendall_tau(list(row["means"][count].values()), list(everything.values()))
                    taus.append(tau or 0.0)
            cells.append(or_dash(min(taus, default=None), "+.2f"))
        rows.append([name, *cells])
    judged = [
        [
            count,
            str(len(judgements)),
            or_dash(mean([judgement.tau for judgement in judgements]), "+.2f"),
            or_dash(mean([judgement.first_regret for judgement in judgements]), ".1f"),
        ]
        for count in (*counts, "500")
        if (judgements := from_fewer_images(ratio, every, count))
    ]
    return "\n\n".join(
        [
            "## How many images an order needs",
            "This table shows τ between the order from that many images and the order from all of them (500 of the fit "
            "part; for the closed form, those of the select part). Each figure is the lowest of the pairs.",
            table(["score", *counts], rows),
            "The next table compares the order of the closed form at one in 64 of the elements, measured on that many "
            "images of select, with the trained splits (for VGG16 on notMNIST, only the measurement on all images was "
            "kept):",
            table(["images", "pairs", "Kendall τ, mean", "regret of the first"], judged),
        ]
    )


def subsets_section(lines: Sequence[Row]) -> str:
    """Return the section that compares the first choice of all classes with the subset's own."""
    rows: list[list[str]] = []
    regrets: dict[str, list[float]] = {}
    gains: dict[str, list[float]] = {"CUI": [], "the closed form": []}
    for pair in PAIRS:
        curves = {(row["weights_sha256"], row["group"]): row for row in read("curves") if row["pair"] == pair.name}
        for (network, group), curve in curves.items():
            everything = curves[network, "all classes"]
            truth = None if curve is everything else gather(lines, pair.name, group=group, network=network)
            chosen = [choose(row) for choose in (first_by_cui, first_by_closed_form) for row in (everything, curve)]
            if truth is None or not set(chosen) <= set(truth.rows):
                continue
            for name, (of_all, of_own) in zip(gains, (chosen[:2], chosen[2:]), strict=True):
                if of_all != of_own:
                    error = hypot(*(truth.rows[cut]["loss_stderr"] for cut in (of_all, of_own)))
                    gains[name].append((truth.trained[of_own] - truth.trained[of_all]) / error)
            best = max(truth.trained, key=lambda cut, truth=truth: truth.trained[cut])
            named = [best, *chosen]
            error = mean([row["loss_stderr"] for row in truth.rows.values()]) or 0.0
            rows.append(
                [
                    f"{pair.name}: {group}",
                    str(len(truth.rows)),
                    *(f"{cut} ({points(truth.trained[cut])})" for cut in named),
                    points(error),
                ]
            )
            for name, cut in zip(("cui all", "cui own", "form all", "form own"), chosen, strict=True):
                regrets.setdefault(name, []).append(100 * (truth.trained[best] - truth.trained[cut]))
    heads = [
        "subset",
        "cuts trained",
        "its best",
        "CUI of all classes",
        "CUI of its own",
        "closed form of all classes",
        "closed form of its own",
        "± points",
    ]
    return f"## Class subsets\n\n{subsets_text(regrets, gains)}\n\n{table(heads, rows)}" if rows else ""


def autoencoder_section(lines: Sequence[Row]) -> str:
    """Return the section on the paper's autoencoder and its training: every cut, and how well scores rank them."""
    parts: list[str] = []
    ranked: dict[str, list[str]] = {}
    names: list[str] = []
    for pair in PAIRS:
        paper, ours = (gather(lines, pair.name, design=design) for design in ("undercomplete", "linear"))
        if paper is None or ours is None or set(paper.rows) != set(ours.rows):
            continue
        cuts = list(paper.rows.items())
        rows = [
            [
                cut,
                or_dash(row["cui"], ".3g"),
                points(row["closed_form_select"]),
                points(ours.trained[cut]),
                f"{ours.rows[cut]['payload_bytes']:.0f}",
                f"{points(row['trained_test'])} ± {points(row['loss_stderr'])}",
                f"{row['payload_bytes']:.0f}",
            ]
            for cut, row in cuts
        ]
        heads = ["cut", "CUI", "linear, untrained, select", "linear, trained", "bytes", "autoencoder", "bytes"]
        parts.append(f"### {pair.name}, the paper's autoencoder\n\n{table(heads, rows)}")
        names.append(f"{pair.name} ({len(cuts)} cuts, {points(spread(paper))} points apart)")
        for name, scores in {
            "CUI": {cut: row["cui"] or 0.0 for cut, row in cuts},
            "size": {cut: -row["bytes"] for cut, row in cuts},
            "depth": {cut: row["depth"] for cut, row in cuts},
            "payload, more first": {cut: row["payload_bytes"] for cut, row in cuts},
            "linear, untrained": {cut: row["closed_form_select"] for cut, row in cuts},
            "*the autoencoder itself, on select*": {cut: row["trained_select"] for cut, row in cuts},
        }.items():
            judgement = judge(paper, scores)
            ranked.setdefault(name, []).extend([f"{judgement.tau:+.2f}", f"{judgement.first_regret:.1f}"])
    if not parts:
        return ""
    rows = [[name, *cells] for name, cells in ranked.items()]
    heads = ["", *(head for name in names for head in (f"{name}: τ", "regret of the first"))]
    says = (
        "The first table shows how well scores that are known before training rank the autoencoder's splits; the score "
        "in italics is known after training. The tables after it also show the linear bottleneck at one in 64 of the "
        "elements. Where a pair has two networks, the trained linear splits are of the first, and everything else is "
        "of the second."
    )
    return "\n\n".join(["## The paper's autoencoder", says, table(heads, rows), *parts])


def spread(truth: Truth) -> float:
    """Return how far the best and the worst cut are apart after training."""
    return max(truth.trained.values()) - min(truth.trained.values())


def pair_section(truth: Truth) -> str:
    """Return the table of every cut of a pair at one budget."""
    rows = [
        [
            cut,
            f"{row['head_mac_share']:.0%}",
            f"{row['bytes'] / 1024:.0f}",
            or_dash(row["cui"], ".3g"),
            points(row["closed_form_select"]),
            points(row["closed_form_test"]),
            f"{points(row['trained_test'])} ± {points(row['loss_stderr'])}",
            f"{row['payload_bytes']:.0f}",
            f"{row['best_epoch']} of {row['epochs']}",
        ]
        for cut, row in truth.rows.items()
    ]
    heads = [
        "cut",
        "MACs",
        "KiB",
        "CUI",
        "closed form, select",
        "closed form, test",
        "trained, test",
        "bytes",
        "best epoch",
    ]
    budget = "one in 64 of the elements" if truth.budget == RATIO else truth.budget.replace("B", " bytes")
    return f"### {truth.pair}, {budget}\n\n{table(heads, rows)}"


if __name__ == "__main__":
    main()
