"""The search among compressed images: what it measures is what a full measurement says, and the rest has a reason."""

import numpy as np
import pytest

from isplit.design.kept_work import KeptWork
from isplit.design.measure.compressed_images import CompressedImageTrial, measure_remote
from isplit.design.measure.remote_search import search_remote
from isplit.design.study import Study
from isplit.records import compared_compressions


def tags(rows) -> list[str]:
    return [f"{row.format}:{row.quality}@{row.scale}" for row in rows]


def test_measured_rows_are_those_of_a_full_measurement(opened: Study) -> None:
    """Every setting is either measured, with the figures of all images, or skipped for a reason."""
    view = opened.view()
    images = view.images("test", limit=10)
    search = search_remote(view, images=images, part="test")
    every = {tag: row for row in measure_remote(view, images=images, part="test") for tag in tags([row])}

    assert sorted(tags(compared_compressions())) == sorted(tags([*search.measured, *search.skipped]))
    assert [every[tag] for tag in tags(search.measured)] == list(search.measured)
    assert all(row.reason for row in search.skipped)


def test_qualities_below_a_clearly_worse_one_are_skipped(opened: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that needs the best qualities, the first worse one is stopped early, and the rest is not shown."""
    view = opened.view()
    images = np.tile(view.images("test", limit=10), 12)
    shown: dict[str, int] = {}

    def right(trial: CompressedImageTrial, setting, count: int):
        shown[setting.tag] = max(count, shown.get(setting.tag, 0))
        good = (setting.quality or 100) >= 80 and setting.scale == 1
        return trial._whole[:count] if good else np.zeros(count, bool)

    monkeypatch.setattr(CompressedImageTrial, "right", right)
    search = search_remote(view, images=images, part="test")

    assert {"webp:90", "webp:80"} >= {row.tag for row in search.measured if row.format == "webp"}
    assert 50 == shown["webp:65"]
    assert "webp:50" not in shown
    reasons = {row.tag: row.reason for row in search.skipped}
    assert "clearly worse" in reasons["webp:65"]
    assert "clearly worse already" in reasons["webp:5"]


def test_answers_are_kept(opened: Study, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second search finds the answers of the first one, and shows the model nothing but the images themselves."""
    view, kept = opened.view(), KeptWork(tmp_path)
    images = view.images("test", limit=10)
    first = search_remote(view, images=images, part="test", kept=kept)
    monkeypatch.setattr(CompressedImageTrial, "_restored", lambda *_: pytest.fail("shown again"))

    assert first == search_remote(view, images=images, part="test", kept=kept)


def test_known_answers_of_the_whole_model_are_taken(opened: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caller knows where the whole model is right, the originals are not shown to it, and nothing changes."""
    view = opened.view()
    images = view.images("test", limit=10)
    batches: list[int] = []
    answers = CompressedImageTrial._answers

    def counted(trial: CompressedImageTrial, module, shown, labels):
        batches.append(len(shown))
        return answers(trial, module, shown, labels)

    monkeypatch.setattr(CompressedImageTrial, "_answers", counted)
    whole = CompressedImageTrial(view, images=images, part="test")._whole
    expected = search_remote(view, images=images, part="test")
    without = len(batches) - 1
    batches.clear()

    assert expected == search_remote(view, images=images, part="test", whole=whole)
    assert without - 1 == len(batches)
