"""What docs/experiments.md says in words."""

from collections.abc import Mapping, Sequence

from judge import CALIBRATED, Judgement, judge_all, mean
from truth import Row, Truth

PREFACE = """# Does the prediction hold?
"""


def verdict(ratio: Sequence[Truth], few: Sequence[Truth], scores: Sequence[Row]) -> str:
    """What of the claim holds here, and what does not."""
    return ""


def subsets_text(regrets: Mapping[str, Sequence[float]]) -> str:
    """The class subsets in a sentence."""
    return ""
