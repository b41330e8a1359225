"""Compare two classifiers on the same images, and bound how much the second loses."""

from math import ceil, log, sqrt

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from isplit.records.base import Count, Part

CONFIDENCE = 0.95
"""The confidence of one-sided bounds."""

Z95 = 1.6448536269514722
"""The 95th percentile of the standard normal distribution; 90 % of all values lie within this much of the mean."""

_LARGEST_EXACT = 10**6
_GROWTH = 1.02
"""By how much a number of images grows that would not tell."""


class Paired(Part):
    """Two classifiers on the same images: how often only the first was right, and only the second.

    `difference` is the second's accuracy less the first's, `stderr` its standard error from the disagreements alone
    (as in McNemar's test). Where nothing disagrees, that would be 0 however few the images are: `stderr` is then such
    that the one-sided 95 % bound is the exact one (the "rule of three": 5.8 points for 50 images).
    """

    only_first: Count
    only_second: Count
    difference: float = Field(ge=-1, le=1)
    stderr: float = Field(ge=0)

    @classmethod
    def from_answers(cls, first: ArrayLike, second: ArrayLike) -> "Paired":
        """Compare two arrays of which images were answered correctly."""
        first_right, second_right = np.asarray(first, bool), np.asarray(second, bool)
        losses, wins = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
        images = max(len(first_right), 1)
        difference = (wins - losses) / images
        spread = max((wins + losses) / images - difference**2, 0.0)
        stderr = sqrt(spread / images) if wins + losses else upper_share(0, images) / Z95
        return cls(only_first=losses, only_second=wins, difference=difference, stderr=stderr)

    def largest_loss(self, images: int) -> float:
        """Return the one-sided 95 % upper bound on how much accuracy the second loses, as a share of the images.

        The exact bounds of both shares of disagreement (Clopper and Pearson 1934) are combined as in Zou and Donner
        2008 (Statistics in Medicine 27). That leaves out the covariance of the two shares, which only makes the bound
        wider or narrower by less than the product of the shares.

        Args:
            images: The number of images that the counts are from.

        """
        images = max(images, self.only_first + self.only_second, 1)
        losses, wins = self.only_first / images, self.only_second / images
        above = upper_share(self.only_first, images) - losses
        below = wins - lower_share(self.only_second, images)
        return losses - wins + sqrt(above**2 + below**2)

    def smallest_loss(self, images: int) -> float:
        """Return the one-sided 95 % lower bound on how much accuracy the second loses, as a share of the images."""
        return -Paired(
            only_first=self.only_second, only_second=self.only_first, difference=-self.difference, stderr=self.stderr
        ).largest_loss(images)

    def images_to_settle(self, images: int, loss: float) -> int | None:
        """Return about how many images would tell whether the second loses at most `loss`; None if hardly any would.

        It is assumed that the shares of disagreement stay as they are. Bounds of few disagreements are wider than those
        of the normal distribution, which the first estimate is from: where nothing disagrees, 1 point takes 299 images.
        """
        margin = abs(loss + self.difference)
        if margin < loss / 20:
            return None
        disagreeing = (self.only_first + self.only_second) / images
        wanted = max(images + 1, ceil(Z95**2 * disagreeing / margin**2))
        while not self._settles(wanted / images, images, loss):
            wanted = ceil(_GROWTH * wanted)
        return wanted

    def _settles(self, factor: float, images: int, loss: float) -> bool:
        """Whether so many times the images would tell, if the shares of disagreement stay as they are."""
        counts = {"only_first": round(factor * self.only_first), "only_second": round(factor * self.only_second)}
        more, wanted = self.model_copy(update=counts), round(factor * images)
        return more.largest_loss(wanted) <= loss or more.smallest_loss(wanted) > loss


def upper_share(count: int, images: int) -> float:
    """Return the one-sided 95 % upper bound (Clopper and Pearson 1934) of a share of which `count` were seen."""
    if count >= images:
        return 1.0
    return _share_at(count, images, 1 - CONFIDENCE)


def lower_share(count: int, images: int) -> float:
    """Return the one-sided 95 % lower bound (Clopper and Pearson 1934) of a share of which `count` were seen."""
    return 0.0 if count <= 0 else _share_at(count - 1, images, CONFIDENCE)


def _share_at(count: int, images: int, probability: float) -> float:
    """Return the share at which at most `count` of the images have that probability, by bisection.

    For counts beyond a million, Wilson's bound (1927) is returned. It differs by less than a hundred-thousandth, and
    the sum would take as many steps as there are counts.
    """
    if count > _LARGEST_EXACT:
        z = Z95 if probability < 1 / 2 else -Z95
        seen_share = count / images
        centre = seen_share + z * z / (2 * images)
        return (centre + z * sqrt(seen_share * (1 - seen_share) / images + (z / images) ** 2 / 4)) / (
            1 + z * z / images
        )
    numbers = np.arange(1, count + 1)
    # The logarithms of the binomial coefficients, each from the one before.
    coefficients = np.concatenate([[0.0], np.cumsum(np.log((images - numbers + 1) / numbers))])
    seen = np.arange(count + 1)
    low, high = 0.0, 1.0
    for _ in range(50):
        share = (low + high) / 2
        logs = coefficients + seen * log(share) + (images - seen) * log(1 - share)
        at_most = float(np.exp(logs).sum())
        low, high = (share, high) if at_most > probability else (low, share)
    return (low + high) / 2
