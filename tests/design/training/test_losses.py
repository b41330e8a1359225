"""isplit.design.training.losses: the parts of the loss and the learning rate, by hand."""

from math import log

import pytest
import torch

from isplit.design.settings import FitSettings
from isplit.design.training.losses import share_of_rate, task_losses


def test_by_hand():
    """Logits 0 and log 3 are answers of 1/4 and 3/4; the teacher is undecided.

    The label's cross-entropy is log 4. The divergence of (1/2, 1/2) from (1/4, 3/4) is 1/2 log 2 + 1/2 log 2/3.
    """
    settings = FitSettings(temperature=1.0, distillation=0.25)
    losses = task_losses(torch.tensor([[0.0, log(3)]]), torch.tensor([0]), torch.zeros(1, 2), settings)
    divergence = 0.5 * log(2) + 0.5 * log(2 / 3)
    assert pytest.approx(log(4), rel=1e-6) == losses["task"].item()
    assert pytest.approx(divergence, rel=1e-5) == losses["distillation"].item()
    assert pytest.approx(0.75 * log(4) + 0.25 * divergence, rel=1e-6) == losses["loss"].item()


def test_temperature_softens_both_answers():
    """At temperature 2, logits 2 log 3 are answers of 1/4 and 3/4 again, and the divergence counts four times."""
    settings = FitSettings(temperature=2.0, distillation=1.0)
    losses = task_losses(torch.tensor([[0.0, 2 * log(3)]]), torch.tensor([0]), torch.zeros(1, 2), settings)
    assert pytest.approx(4 * (0.5 * log(2) + 0.5 * log(2 / 3)), rel=1e-5) == losses["loss"].item()


def test_the_teacher_itself_loses_nothing():
    """The same logits have no divergence."""
    logits = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, 1.0]])
    losses = task_losses(logits, torch.tensor([0, 1]), logits, FitSettings(distillation=1.0))
    assert pytest.approx(0.0, abs=1e-6) == losses["loss"].item()


@pytest.mark.parametrize(
    ("done", "warmup", "share"), [(0.0, 0.0, 1.0), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0), (0.2, 0.2, 1.0), (0.6, 0.2, 0.5)]
)
def test_share_of_rate(done, warmup, share):
    """After the warm-up the rate begins at its highest, is half in the middle and nothing at the end."""
    assert pytest.approx(share, abs=1e-12) == share_of_rate(done, warmup=warmup)


def test_warm_up_rises_linearly():
    """In the middle of the warm-up it is half of the rate, and at the beginning it is not zero."""
    assert pytest.approx(0.501 / 1.001) == share_of_rate(0.5, warmup=1.0)
    assert 0 < share_of_rate(0.0, warmup=0.1) < 0.02
