"""`predict` with more images until its verdicts are settled."""

from isplit.design.predict import predict
from isplit.design.settings import PredictSettings
from isplit.records import PredictionsRecord, SplitRecord


def test_more_images_are_taken_for_all_rows(study):
    """Three images settle nothing, so all of the select part are taken, for splits and for compressed images alike."""
    settings = PredictSettings(statistics_images=12, images=2, remote_images=2)
    before = predict(study, 60, cuts=["pool1", "pool2"], settings=settings)
    assert {2} == {row.measurement.accuracy.images for row in before.predictions}
    sentences: list[str] = []
    record = predict(study, 60, cuts=["pool1", "pool2"], settings=settings, settle=True, announce=sentences.append)
    every = len(study.view().images("select"))
    assert {every} == {row.measurement.accuracy.images for row in record.predictions}
    assert {every} == {row.accuracy.images for row in record.remote}
    assert every == record.images
    assert record == PredictionsRecord.load(study.directory)
    for path in (study.directory / "splits").glob(f"*/{SplitRecord.file_name}"):
        assert every == SplitRecord.load(path.parent).measurement.accuracy.images
    assert any(sentence.startswith("Not settled on 2 images: whether ") for sentence in sentences)
    assert all(sentence.startswith(("Not settled on ", f"Settled on {every:,} images")) for sentence in sentences)


def test_compressed_images_stay_out(study):
    """Where none are asked for, none are measured to settle anything."""
    settings = PredictSettings(statistics_images=12, images=2, remote_images=0)
    record = predict(study, 60, cuts=["pool1"], settings=settings, settle=True)
    assert () == record.remote
