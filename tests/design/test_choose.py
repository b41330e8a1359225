"""Cuts by name and by the words for several."""

import pytest

from isplit.design.choose import cut_names
from isplit.errors import StudyError
from isplit.records import CandidatesRecord


def test_words(study):
    """Names come once each, in the order of computation; "all" are the curve's, "candidates" those that were ranked."""
    everything = cut_names(study, ["all"])
    assert tuple(cut.name for cut in study.cuts()) == everything
    assert ("pool1", "pool2") == cut_names(study, ["pool2", " pool1", "", "pool2"])
    ranked = {one.cut for one in CandidatesRecord.load(study.directory).candidates}
    assert ranked == set(cut_names(study, ["candidates"]))
    assert () == cut_names(study, [""])


def test_unknown(study):
    """A cut that is not there is refused."""
    with pytest.raises(StudyError, match="has no cut 'pool9'"):
        cut_names(study, ["pool9"])
