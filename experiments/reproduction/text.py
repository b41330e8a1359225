"""What docs/experiments.md says in words."""

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean

from judge import CALIBRATED, WITH_MORE, Judgement, ceilings, judge_all, mean, no_loss
from truth import Row, Truth, loss_before

from isplit.design.importance.candidates import interior_maxima

PREFACE = """# Does the prediction hold?

Written by `make reproduce-report` from the lines in experiments/reproduction/results; do not edit. The lines are made
by `networks.py`, `predictors.py` and `run.py` there, which go on where they stopped; what is missing below has not
been trained.

I-SPLIT (Cunico et al., ICPR 2022) claims that importance, computed before any split is made, tells how accurate each
split will be, and that the best split depends on the classes. Its code has no training loop and we have none of its
accuracies, so the claim is tested here from the start, on two networks and three data sets.

**What was done.** Every cut after a convolution, pool or residual block gets a bottleneck and is trained: VGG16 from
the ImageNet trunk, fine-tuned, and ResNet-50 trained from random values, as no pretrained weights of it could be had;
tiny-imagenet-20, notMNIST and chest X-rays (by patient; normal, bacteria, virus). Bottlenecks send one in 64 of the
elements, as the paper's does, and, a second time, a mean payload of so few bytes that the cuts differ, which all
positions share where they have something in common ([how](predict.md)). Training
starts from the closed form and goes on until the accuracy on the select part stops improving, three epochs of 3,000
images at most; where it helps nothing there the split stays as it was built. Head frozen; cross-entropy and the whole
model's answers. The paper's autoencoder starts from random values: one epoch on the features, then at most four on
the task.

**What is compared.** Predictors see the fit and select parts, and the accuracy that the whole model has on the test
part, which is known before any split is. The truth is the split's accuracy on the test part. τ is Kendall's, between
a score and that truth over a pair's cuts (0 where a score is the same everywhere); *where clear* counts only those
two cuts whose accuracies differ by more than two standard errors, where there are ten such or more. Regret is by how
many points the best cut beats the first choice, or the best of the first three; the error is that of the predicted
accuracy, in points. The *calibrated* closed form is a rising curve from the loss before training to the loss after
it, fitted to the other pairs' splits at both budgets. Costs are over the time of training all cuts, each on one
thread.

**What chance leaves.** A thousand test images tell accuracies apart to within a point or so, and training has a
chance of its own. So the last rows of a table say how well what is known after training everything agrees with the
same truth: the same trained splits measured on the select part instead; where there are lines of them, splits trained
from another seed, and those of the network trained again, by the same recipe on another CPU. Who knew each split's
expected accuracy would agree somewhat better than two such measurements do. (Weights are not committed. Where a pair
has two base accuracies it has two networks; a predictor and the truth that it is judged by are of one of them.)

**Where this differs from the paper.** Latents are quantised and entropy-coded, and bytes are lengths of real
payloads. Images are 32 to 64 pixels wide, heads are frozen, epochs few; batches are of 128, but of 64 for VGG16 on
notMNIST at one in 64. CUI is that of the correct class, in evaluation mode ([importance](importance.md))."""


def verdict(ratio: Sequence[Truth], few: Sequence[Truth], scores: Sequence[Row], lines: Sequence[Row]) -> str:
    """What of the claim holds here, and what does not."""
    if not ratio or not few:
        return ""
    every = [*ratio, *few]
    wide, narrow = judge_all(ratio, every, scores), judge_all(few, every, scores)
    wide_ceiling, narrow_ceiling = (next(iter(ceilings(truths, lines).values())) for truths in (ratio, few))
    spreads = [100 * (max(truth.trained.values()) - min(truth.trained.values())) for truth in ratio]
    best = max(wide, key=lambda name: mean([one.tau for one in wide[name]]) or 0.0)

    def tau(found: Sequence[Judgement]) -> str:
        return f"{mean([one.tau for one in found]):+.2f}"

    def clear(found: Sequence[Judgement]) -> str:
        value = mean([one.clear_tau for one in found])
        return "too few to say" if value is None else f"{value:+.2f}"

    def regret(found: Sequence[Judgement]) -> str:
        return f"{mean([one.first_regret for one in found]):.1f}"

    def error(found: Sequence[Judgement]) -> str:
        return f"{mean([one.error_points for one in found]):.1f}"

    def cost(found: Sequence[Judgement]) -> str:
        return f"{mean([one.cost_percent for one in found]):.1f}"

    most_lost = 100 * max(loss_before(row) for truth in few for row in truth.rows.values())
    each = ", ".join(
        f"{one.error_points:.1f} for {truth.pair} ({no_loss([truth]):.1f} if no loss is assumed)"
        for truth, one in zip(few, narrow[CALIBRATED], strict=True)
    )
    names = ", ".join(f"{truth.pair} at {truth.budget.replace('B', ' B')}" for truth in few)
    parts = [
        f"""**At one in 64 of the elements there is hardly an order to predict** ({len(ratio)} pairs). After training
        the cuts of a pair lie {min(spreads):.1f} to {max(spreads):.1f} points apart, and much of that is chance: the
        same trained splits, measured on the select part, put the cuts in an order that agrees with the test part's
        with τ {tau(wide_ceiling)}. What is known before training agrees with it no worse: the best predictor, *{best}*,
        has {tau(wide[best])}, the closed form {tau(wide["closed form"])}, calibrated {tau(wide[CALIBRATED])}, depth
        {tau(wide["depth"])}. Where two measurements of the same splits agree so little, a τ of 0.9 is out of reach, and
        a short training of every cut could know no more than the whole of it does. The first choice of the
        calibrated closed form costs {regret(wide[CALIBRATED])} points, that of training everything and looking at the
        select part {regret(wide_ceiling)}: at this ratio, choose by bytes and by what the device can compute.""",
        f"""**At one in 64, how accurate a split will be is known beforehand to about a point.** Calibrated on the
        other pairs, the closed form is off by {error(wide[CALIBRATED])} points there; to assume that training makes
        every loss good, by {no_loss(ratio):.1f}. At few bytes splits lose up to {most_lost:.0f} points before training,
        and how much of it training makes good depends on the data: fitted to the other pairs, the curve is off by
        {each}. It takes {cost(wide[CALIBRATED])} % of the time of training all cuts, briefly as they are trained here.
        CUI and bytes beside it make it no more accurate ({error(wide[WITH_MORE])} points at one in 64), nor did the
        tail's share of the network or the divergence in place of the loss (tried once, not kept).""",
        f"""**At few bytes the cuts differ, and the closed form ranks them** ({names}): τ
        {tau(narrow["closed form"])}, calibrated {tau(narrow[CALIBRATED])} (the trained splits on select
        {tau(narrow_ceiling)}), and where two cuts differ clearly
        {clear(narrow["closed form"])}. So does depth, {tau(narrow["depth"])}: at equal bytes a deeper cut is rarely
        worse. What the closed form adds is by how much, and so how shallow a cut may be.""",
        f"""**CUI as published does not tell how accurate a trained split will be.** τ {tau(wide["cui"])} at one in 64
        (the lowest of the pairs {min(one.tau for one in wide["cui"]):+.2f}; first choice {regret(wide["cui"])} points
        below the best cut) and {tau(narrow["cui"])} at few bytes. Its local maxima are mostly pools, where one in 64 is
        a quarter of the bytes of the layer before: in {sum(map(lowest_is_maximum, ratio))} of {len(ratio)} pairs the
        cut that ends up lowest is such a maximum. CUI of the predicted class, before the activation, or summed instead
        of averaged is no better; gradient × activation has {tau(wide["gradient-activation"])} and
        {tau(narrow["gradient-activation"])}, gradient energy {tau(wide["gradient-energy"])} and
        {tau(narrow["gradient-energy"])}. **Size** has {tau(wide["size"])} and {tau(narrow["size"])}.""",
    ]
    return "## What holds and what does not\n\n" + "\n\n".join(wrapped(part) for part in parts)


def lowest_is_maximum(truth: Truth) -> bool:
    """Whether the least accurate of the trained cuts is a local maximum of CUI."""
    cuts = list(truth.rows)
    lowest = cuts.index(min(truth.trained, key=lambda cut: truth.trained[cut]))
    maxima = interior_maxima([row["cui"] or 0.0 for row in truth.rows.values()])
    return any(first <= lowest <= last for first, last in maxima)


def subsets_text(regrets: Mapping[str, Sequence[float]], gains: Mapping[str, Sequence[float]]) -> str:
    """The class subsets in words.

    `gains` are, by CUI and by the closed form, for each subset whose own first choice is another cut than that of all
    classes, what the own one gains after training, in standard errors.
    """
    means = {name: fmean(values) for name, values in regrets.items()}
    count = len(next(iter(regrets.values())))
    changes = " ".join(
        f"By {name} it is another cut in {len(own)} of the {count}: better by more than two standard errors in "
        f"{sum(gain > 2 for gain in own)}, worse by as much in {sum(gain < -2 for gain in own)}."
        for name, own in gains.items()
    )
    return wrapped(
        f"""Points that a first choice is below the best cut that was trained for the subset, in the mean of {count}
        subsets: by CUI, the cut of all classes {means["cui all"]:.1f} and the subset's own {means["cui own"]:.1f}; by
        the closed form, that of all classes {means["form all"]:.1f} and its own {means["form own"]:.1f}. Is the
        subset's own first choice any better than that of all classes? {changes} Only the cuts that some rule chose for
        some subset were trained; the last column is the standard error of one split's loss."""
    )


def wrapped(text: str) -> str:
    """Fill lines."""
    return textwrap.fill(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False)
