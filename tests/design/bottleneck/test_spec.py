"""Where splits are kept."""

from pathlib import Path

from isplit.design.bottleneck.build import split_directory
from isplit.records import Budget


def test_no_two_splits_in_one_place(tmp_path: Path) -> None:
    """Class subsets whose names differ only in what a file cannot be called have directories of their own."""
    groups = ("all classes", "all_classes", "a b", "a_b", "a/b", "ä b", "../a")
    places = {
        split_directory(
            tmp_path, cut="pool1", group=group, design="linear", budget=Budget(element_ratio=64), trained=True
        )
        for group in groups
    }

    assert len(groups) == len(places)
    assert {tmp_path / "splits"} == {place.parent for place in places}
