"""Shrink a covariance that is estimated from few samples towards a multiple of the identity."""

import torch


def ledoit_wolf(samples: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Estimate the covariance of centred samples, shrunk by as much as is best on average.

    With S = XᵀX / N, m = tr S / W and norms ‖A‖² = tr AAᵀ / W, the estimate is (1 - s) S + s m I. The best share s is
    the error of S over its distance from m I: s = b² / d² with d² = ‖S - m I‖² and
    b² = min(Σ ‖xₙ xₙᵀ - S‖² / N², d²).

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004), equation 14 and
    lemmas 3.2 to 3.4. The sum in b² is computed as Σ |xₙ|⁴ - N tr SSᵀ, so that no matrix is made for each sample.

    Args:
        samples: N×W of a mean of zero, at least one of either; float64, since b² is a difference of large numbers.

    Returns:
        The covariance W×W on the samples' device, and the share s between 0 and 1.

    Example:
        >>> import torch
        >>> covariance, share = ledoit_wolf(torch.tensor([[3.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [0.0, -1.0]]).double())
        >>> covariance.tolist(), round(share, 4)
        ([[3.21875, 0.0], [0.0, 1.78125]], 0.6406)

    """
    count, width = samples.shape
    covariance = samples.T @ samples / count
    mean_variance = covariance.trace() / width
    squared_norm = covariance.square().sum()
    distance = squared_norm / width - mean_variance.square()
    error = (samples.square().sum(1).square().sum() / count - squared_norm) / (count * width)
    # A matrix that is a multiple of the identity already has no distance; whatever the share, it stays as it is.
    share = float((error / distance).clamp(0, 1)) if distance > 0 else 0.0
    shrunk = covariance * (1 - share)
    shrunk.diagonal().add_(mean_variance * share)
    return shrunk, share
