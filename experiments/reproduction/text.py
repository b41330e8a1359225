"""Write the words of docs/experiments.md."""

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean

from judge import CALIBRATED, WITH_MORE, Judgement, ceilings, judge_all, mean, no_loss
from truth import Row, Truth, loss_before

from isplit.design.importance.candidates import interior_maxima

PREFACE = """# Does the prediction hold?

`make reproduce-report` writes this page from the lines in experiments/reproduction/results; do not edit it. The scripts
`networks.py`, `predictors.py` and `run.py` in that folder make the lines, and continue where they stopped. What is
missing below has not been trained.

I-SPLIT (Cunico et al., ICPR 2022) claims that importance, computed before any split is made, tells how accurate each
split will be, and that the best split depends on the classes. Its code has no training loop, and its accuracies were
not available to us. The claim is therefore tested here from the start, on two networks and three data sets.

**What was done.** Every cut after a convolution, pool or residual block gets a bottleneck and is trained. The networks
are VGG16, fine-tuned from the ImageNet trunk, and ResNet-50, trained from random values because no pretrained weights
of it were available. The data sets are tiny-imagenet-20, notMNIST and chest X-rays (divided by patient; classes normal,
bacteria and virus). Bottlenecks send one in 64 of the elements, as in the paper. They are trained a second time with a
mean payload that is small enough for the cuts to differ; there, all positions share latents where they have something
in common ([how](predict.md)). Training starts from the closed form and ends when the accuracy on the select part stops
improving, after at most three epochs of 3,000 images. Where training does not improve that accuracy, the closed form is
kept. The head is frozen, and the loss combines cross-entropy with the whole model's answers. The paper's autoencoder
starts from random values and is trained for one epoch on the features and then for at most four on the task.

**What is compared.** Predictors see the fit and select parts, and the whole model's accuracy on the test part, which is
known before any split is made. The truth is a split's accuracy on the test part. τ is Kendall's rank correlation
between a score and that truth over the cuts of a pair (0 where a score is the same everywhere). *Where clear* counts
only pairs of cuts whose accuracies differ by more than two standard errors, if there are ten or more of them. Regret is
the number of points by which the best cut beats the first choice, or the best of the first three choices. The error is
that of the predicted accuracy, in points. The *calibrated* closed form takes a share of the loss before training, which
rises with the number of classes and is fitted to the splits of the other pairs at both budgets. *Closeness* is the
closed form's accuracy plus e^(−divergence) of its class probabilities from the whole model's; it was formed on the
splits at 128 bytes with many images (below), and on no others. Costs are shares of the time of training all cuts, each
on one thread.

**What chance leaves.** A thousand test images resolve accuracies to about a point, and training itself varies by
chance. The last rows of a table therefore show how well knowledge from after training agrees with the same truth: the
same trained splits measured on the select part and, where there are results, splits that were trained from another
seed, and splits of the network after it was trained again by the same recipe on another CPU. A predictor that knew the
expected accuracy of each split would agree somewhat better than two such measurements do. (Weights are not committed. A
pair with two base accuracies has two networks; a predictor is always judged by the truth of the same network.)

**Where this differs from the paper.** Latents are quantised and entropy-coded, and bytes are lengths of real payloads.
Images are 32 to 64 pixels wide, heads are frozen, and epochs are few. Batches have 128 images, except 64 for VGG16 on
notMNIST at one in 64. CUI is that of the correct class, in evaluation mode ([importance](importance.md))."""


def verdict(ratio: Sequence[Truth], few: Sequence[Truth], scores: Sequence[Row], lines: Sequence[Row]) -> str:
    """Say which parts of the claim hold here, and which do not."""
    if not ratio or not few:
        return ""
    every = [*ratio, *few]
    wide, narrow = judge_all(ratio, every, scores), judge_all(few, every, scores)
    wide_ceiling, narrow_ceiling = (next(iter(ceilings(truths, lines).values())) for truths in (ratio, few))
    spreads = [100 * (max(truth.trained.values()) - min(truth.trained.values())) for truth in ratio]
    best = max(wide, key=lambda name: mean([judgement.tau for judgement in wide[name]]) or 0.0)

    def tau(judgements: Sequence[Judgement]) -> str:
        return f"{mean([judgement.tau for judgement in judgements]):+.2f}"

    def clear(judgements: Sequence[Judgement]) -> str:
        value = mean([judgement.clear_tau for judgement in judgements])
        return "too few to say" if value is None else f"{value:+.2f}"

    def regret(judgements: Sequence[Judgement]) -> str:
        return f"{mean([judgement.first_regret for judgement in judgements]):.1f}"

    def error(judgements: Sequence[Judgement]) -> str:
        return f"{mean([judgement.error_points for judgement in judgements]):.1f}"

    def cost(judgements: Sequence[Judgement]) -> str:
        return f"{mean([judgement.cost_percent for judgement in judgements]):.1f}"

    most_lost = 100 * max(loss_before(row) for truth in few for row in truth.rows.values())
    each = ", ".join(
        f"{judgement.error_points:.1f} for {truth.pair} ({no_loss([truth]):.1f} if no loss is assumed)"
        for truth, judgement in zip(few, narrow[CALIBRATED], strict=True)
    )
    names = ", ".join(f"{truth.pair} at {truth.budget.replace('B', ' B')}" for truth in few)
    parts = [
        f"""**At one in 64 of the elements, there is hardly an order to predict** ({len(ratio)} pairs). After training,
        the cuts of a pair lie {min(spreads):.1f} to {max(spreads):.1f} points apart, and much of that is chance. The
        same trained splits, measured on the select part, give an order of the cuts that agrees with that of the test
        part with τ {tau(wide_ceiling)}. What is known before training agrees no worse: the best predictor, *{best}*,
        has {tau(wide[best])}, the closed form {tau(wide["closed form"])}, the calibrated one {tau(wide[CALIBRATED])},
        and depth {tau(wide["depth"])}. Where two measurements of the same splits agree so little, a τ of 0.9 is out of
        reach, and a short training of every cut could not tell more than the full training does. The first choice of
        the calibrated closed form costs {regret(wide[CALIBRATED])} points; training everything and choosing on the
        select part costs {regret(wide_ceiling)}. At this ratio, choose by bytes and by what the device can compute.""",
        f"""**At one in 64, the accuracy of a split is known beforehand to about a point.** Calibrated on the other
        pairs, the closed form is off by {error(wide[CALIBRATED])} points there; assuming that training recovers every
        loss is off by {no_loss(ratio):.1f}. At few bytes, splits lose up to {most_lost:.0f} points before training, and
        the share that training recovers depends on the data: fitted to the other pairs, that share is off by {each}. It
        takes {cost(wide[CALIBRATED])} % of the time of the short training of all cuts that was done here. Adding CUI
        and bytes does not make it more accurate ({error(wide[WITH_MORE])} points at one in 64). Neither did the tail's
        share of the network, or the divergence in place of the loss (both tried once and not kept).""",
        f"""**At few bytes, the cuts differ, and the closed form ranks them** ({names}): τ is
        {tau(narrow["closed form"])}, calibrated {tau(narrow[CALIBRATED])} (the trained splits on select
        {tau(narrow_ceiling)}), and {clear(narrow["closed form"])} where two cuts differ clearly. Depth ranks them as
        well, with {tau(narrow["depth"])}: at equal bytes, a deeper cut is rarely worse. The closed form adds by how
        much, and therefore how shallow a cut may be.""",
        f"""**CUI as published does not tell how accurate a trained split will be.** Its τ is {tau(wide["cui"])} at one
        in 64 (the lowest of the pairs has {min(judgement.tau for judgement in wide["cui"]):+.2f}; the first choice is
        {regret(wide["cui"])} points below the best cut) and {tau(narrow["cui"])} at few bytes. Its local maxima are
        mostly pools, where one in 64 is a quarter of the bytes of the layer before: in
        {sum(map(lowest_is_maximum, ratio))} of {len(ratio)} pairs, the least accurate cut is such a maximum. CUI is no
        better for the predicted class, before the activation, or summed instead of averaged. Gradient × activation has
        {tau(wide["gradient-activation"])} and {tau(narrow["gradient-activation"])}, gradient energy
        {tau(wide["gradient-energy"])} and {tau(narrow["gradient-energy"])}. **Size** has {tau(wide["size"])} and
        {tau(narrow["size"])}.""",
    ]
    return "## What holds and what does not\n\n" + "\n\n".join(wrapped(part) for part in parts)


def lowest_is_maximum(truth: Truth) -> bool:
    """Return whether the least accurate of the trained cuts is a local maximum of CUI."""
    cuts = list(truth.rows)
    lowest = cuts.index(min(truth.trained, key=lambda cut: truth.trained[cut]))
    maxima = interior_maxima([row["cui"] or 0.0 for row in truth.rows.values()])
    return any(first <= lowest <= last for first, last in maxima)


def subsets_text(regrets: Mapping[str, Sequence[float]], gains: Mapping[str, Sequence[float]]) -> str:
    """Describe the results for class subsets.

    `gains` hold, by CUI and by the closed form, one number for each subset whose own first choice is another cut than
    that of all classes: how much its own choice gains after training, in standard errors.
    """
    means = {name: fmean(values) for name, values in regrets.items()}
    count = len(next(iter(regrets.values())))
    changes = " ".join(
        f"By {name} it is another cut in {len(values)} of the {count} subsets: better by more than two standard errors "
        f"in {sum(gain > 2 for gain in values)} of them, and worse by as much in {sum(gain < -2 for gain in values)}."
        for name, values in gains.items()
    )
    return wrapped(
        f"""The first choice for a subset is below the best cut that was trained for it, by these points in the mean of
        {count} subsets: by CUI, the first choice of all classes by {means["cui all"]:.1f} and the subset's own by
        {means["cui own"]:.1f}; by the closed form, that of all classes by {means["form all"]:.1f} and the subset's own
        by {means["form own"]:.1f}. Is the subset's own first choice better than that of all classes? {changes} Only
        cuts that some rule chose for some subset were trained. The last column of the table is the standard error of
        the loss of one split."""
    )


def wrapped(text: str) -> str:
    """Return the text wrapped to full lines."""
    return textwrap.fill(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False)
