"""isplit.records.curve: titles of methods, and the points as rows."""

import pytest

from isplit.records.curve import CurvePoint, CurveRecord, method_title


@pytest.mark.parametrize(
    ("name", "title"), [("cui", "CUI"), ("gradient-energy", "gradient energy"), ("./mine.py:score", "./mine.py:score")]
)
def test_method_title(name, title):
    """Isplit's methods have titles, and a user's own method is shown by its name."""
    assert title == method_title(name)


def test_rows(tmp_path):
    """One row for each point in their order; the record is what is read again."""
    points = tuple(
        CurvePoint(cut=cut, cui=cui, stderr=None, step_stderr=None, image_mean=cui, per_class={}, per_class_stderr={})
        for cut, cui in (("pool1", 0.25), ("pool2", None))
    )
    record = CurveRecord(
        method="cui",
        target="correct",
        precision="fp32",
        images=3,
        images_per_class={"ant": 3},
        stopped="all images were taken",
        points=points,
        subsets=(),
    )
    assert [("pool1", 0.25), ("pool2", None)] == [(row["cut"], row["cui"]) for row in record.to_dicts()]
    record.save(tmp_path)
    assert record == CurveRecord.load(tmp_path)
