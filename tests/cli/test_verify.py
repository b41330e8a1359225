"""`isplit verify` through the command line."""

import pytest

from isplit.records import VerificationRecord, remote_records

QUICK = ["--epochs", "1", "--batch-size", "16"]


def test_tables(isplit, study):
    """The cuts as they turned out, and what each rule would have chosen; --json prints the record."""
    result = isplit("verify", study, "--allow-code", "--cuts", "pool1,pool2", "--bytes", "30", *QUICK)
    assert 0 == result.code, result.err
    for words in ("Trained for 30B", "pool1", "pool2", "importance (CUI)", "fewest bytes", "Kendall", "regret"):
        assert words in result.out
    assert "Was it known beforehand?" in (study / "report.html").read_text()
    again = isplit("verify", study, "--allow-code", "--cuts", "pool1,pool2", "--bytes", "30", *QUICK, "--json")
    record = VerificationRecord.from_json(again.out)
    assert record == VerificationRecord.load(study)
    assert ["pool1", "pool2"] == [row.cut for row in record.verifications[0].cuts]


def test_remote(isplit, study):
    """--remote trains the opponent as long as the splits, whatever is set for these alone; the verdict is about it."""
    cuts = ["--cuts", "pool1,pool2", "--bytes", "30", "--bottleneck-rate", "0.01", "--flip"]
    result = isplit("verify", study, "--allow-code", *cuts, "--remote", "webp:50@0.5", *QUICK)
    assert 0 == result.code, result.err
    assert "remote webp:50@0.5, on 24 images of the test part:" in result.out
    assert "with a network trained on such images" in " ".join(result.out.split())
    assert "No network was trained on compressed images" not in result.out
    (record,) = remote_records(study)
    assert (1, True, None) == (record.epochs, record.settings["flip"], record.settings.get("bottleneck_rate"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one budget"),
        (["--bytes", "30", "--cuts", "pool1"], "at least two cuts, got 1"),
        (["--bytes", "30", "--cuts", "pool1,pool9"], "has no cut 'pool9'"),
        (["--bytes", "30", "--patience", "0"], "--patience is 0"),
        (["--bytes", "30", "--cuts", "pool1,pool2", "--remote", "webp-50"], "webp:50@0.5"),
        (["127.0.0.1:9", "--bytes", "30"], "needs --ray"),
    ],
)
def test_bad_input(bad_input, study, arguments, says):
    """What cannot be done is refused with exit code 2 and words that help."""
    bad_input("verify", study, "--allow-code", *arguments, says=[says])
    assert not list(study.glob("splits/*-trained"))
