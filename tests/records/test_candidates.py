"""isplit.records.candidates: the ranking as rows."""

from isplit.records.candidates import Candidate, CandidatesRecord


def test_rows(tmp_path):
    """One row for each candidate, first choice first; the record is what is read again."""
    candidates = tuple(
        Candidate(
            rank=rank,
            cut=cut,
            found_by=("size-minimum",),
            cui=None,
            log10_cui=None,
            settled=None,
            bytes=64,
            head_mac_share=0.5,
        )
        for rank, cut in ((1, "pool2"), (2, "pool1"))
    )
    record = CandidatesRecord(method="cui", candidates=candidates, note=None, subsets=(), disagreement=None)
    assert [(1, "pool2"), (2, "pool1")] == [(row["rank"], row["cut"]) for row in record.to_dicts()]
    record.save(tmp_path)
    assert record == CandidatesRecord.load(tmp_path)
