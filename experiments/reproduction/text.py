"""What docs/experiments.md says in words."""

from collections.abc import Mapping, Sequence

from truth import Row, Truth

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
elements, as the paper's does, and, a second time, a mean payload of so few bytes that the cuts differ. Training
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

**What no predictor can exceed.** A thousand test images tell accuracies apart to within a point or so, and training
has a chance of its own. The last rows of a table are what would be known after training everything: the same trained
splits measured on the select part instead, and splits trained from another seed.

**Where this differs from the paper.** Latents are quantised and entropy-coded, and bytes are lengths of real
payloads. Images are 32 to 64 pixels wide, heads are frozen, epochs few. CUI is that of the correct class, in
evaluation mode ([importance](importance.md))."""


def verdict(ratio: Sequence[Truth], few: Sequence[Truth], scores: Sequence[Row]) -> str:
    """What of the claim holds here, and what does not."""
    return ""


def subsets_text(regrets: Mapping[str, Sequence[float]]) -> str:
    """The class subsets in a sentence."""
    return ""
