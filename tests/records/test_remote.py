"""isplit.records.remote: the trained opponents of a study, and what is said of those that cannot be read."""

import pytest

from isplit.errors import DamagedSplitWarning
from isplit.records.remote import REMOTES, TrainedRemote, remote_records


def test_no_opponents(tmp_path):
    """A study without them has none, and neither has an empty folder."""
    assert () == remote_records(tmp_path)
    (tmp_path / REMOTES / "webp-80").mkdir(parents=True)
    assert () == remote_records(tmp_path)


def test_a_damaged_record(tmp_path):
    """It is left out with a warning that says which, and what to do."""
    directory = tmp_path / REMOTES / "webp-80"
    directory.mkdir(parents=True)
    (directory / TrainedRemote.file_name).write_text("{")
    with pytest.warns(DamagedSplitWarning, match="webp-80.*isplit fit STUDY --remote"):
        assert () == remote_records(tmp_path)
