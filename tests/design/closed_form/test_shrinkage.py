"""The shrunk covariance: equal to scikit-learn's, and right where there is nothing to shrink."""

import pytest
import torch
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from isplit.design.closed_form.shrinkage import ledoit_wolf


@pytest.mark.parametrize(("count", "width"), [(4, 2), (3, 40), (40, 3), (200, 50), (1, 7), (5, 1)])
@pytest.mark.filterwarnings("ignore:Only one sample available")
def test_equals_scikit_learn(count, width):
    """Covariance and share are scikit-learn's, with more and with fewer samples than variables."""
    generator = torch.Generator().manual_seed(count * width)
    samples = torch.randn(count, width, dtype=torch.float64, generator=generator)
    samples *= torch.linspace(0.1, 3, width, dtype=torch.float64)
    covariance, share = ledoit_wolf(samples)
    expected, expected_share = sklearn_ledoit_wolf(samples.numpy(), assume_centered=True)
    assert pytest.approx(expected_share, abs=1e-12) == share
    torch.testing.assert_close(covariance, torch.from_numpy(expected), rtol=1e-12, atol=1e-14)


def test_by_hand():
    """Two values of one variable and none of the other: S is diag(1, 0), m is 1/2, d² is 1/4 and b² is 0."""
    covariance, share = ledoit_wolf(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64))
    assert 0 == share
    assert [[1, 0], [0, 0]] == covariance.tolist()


def test_nothing_to_shrink():
    """A covariance that is a multiple of the identity stays as it is."""
    covariance, share = ledoit_wolf(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64))
    assert 0 == share
    assert torch.eye(2, dtype=torch.float64).equal(covariance)


def test_no_variance():
    """Samples that are all zero have a covariance of zeros, not NaN."""
    covariance, share = ledoit_wolf(torch.zeros(3, 2, dtype=torch.float64))
    assert 0 == share
    assert torch.zeros(2, 2, dtype=torch.float64).equal(covariance)
