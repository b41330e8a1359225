"""isplit.report.data_page: one page without a network, in which nothing from the data is markup."""

from isplit.records import ClassRow, DataCheckRecord, Preprocessing, SampleImage
from isplit.report.data_page import data_html


def test_page():
    """Parts, classes and samples stand in the page, names are escaped, and nothing is loaded from elsewhere."""
    check = DataCheckRecord(
        model="m",
        data="<photos>",
        part_images={"fit": 8000, "select": 1, "test": 1},
        part_rule="fit = train",
        preprocessing=Preprocessing(
            image_size=(8, 9), resize_size=8, interpolation="bilinear", channels=1, mean=(0.0,), std=(1.0,)
        ),
        num_outputs=2,
        match_rule="by position",
        classes=(ClassRow(name="<b>", title="cat", output=1, output_name=None, part_images={"fit": 8, "test": 1}),),
        samples=(SampleImage(name="a & b.png", title="cat", answer=None, png_base64="AAAA"),),
        notices=("look <here>",),
    )
    # Every class has the counts of every part.
    row = check.classes[0].model_copy(update={"part_images": {"fit": 8, "select": 1, "test": 1}})

    page = data_html(check.model_copy(update={"classes": (row,)}))

    for words in (
        "&lt;photos&gt;",
        "&lt;b&gt;",
        "a &amp; b.png",
        "look &lt;here&gt;",
        "8,000 images",
        "9 × 8",
        "none of",
    ):
        assert words in page
    assert 'src="data:image/png;base64,AAAA"' in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 10_000
