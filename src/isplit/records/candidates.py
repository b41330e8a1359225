"""Record the cuts worth trying first, and the rule that found each."""

from typing import ClassVar, Literal

from isplit.records.base import Amount, Count, Part
from isplit.records.tables import TableRecord

Rule = Literal["importance-maximum", "natural-bottleneck", "size-minimum", "above-trend"]


class Candidate(Part):
    """A cut worth trying.

    `settled` is False for a maximum whose paired difference to a neighbour is within two standard errors, because more
    images may move it. It is None if the curve did not find the cut.
    """

    rank: Count
    cut: str
    found_by: tuple[Rule, ...]
    cui: float | None
    log10_cui: float | None
    settled: bool | None
    bytes: Count
    head_mac_share: Amount


class Ranking(Part):
    """Candidates for one set of classes, first choice first; `note` is what the reader has to know about it."""

    name: str
    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    note: str | None


class CandidatesRecord(TableRecord):
    """candidates.json: the ranking for all classes, for each subset, and where they disagree."""

    schema_name: ClassVar[str] = "isplit.candidates/1"
    file_name: ClassVar[str] = "candidates.json"
    rows_field: ClassVar[str] = "candidates"

    method: str
    candidates: tuple[Candidate, ...]
    note: str | None
    subsets: tuple[Ranking, ...]
    disagreement: str | None
