"""Images are scored batch by batch, resumed where they stopped, and no longer than the order needs."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from isplit.design.class_subsets import ClassSubset
from isplit.design.graph import ModelGraph
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.scoring import ScoreJob, score_images
from isplit.design.importance.table import ScoreTable
from isplit.design.inputs.data import Dataset
from isplit.records import ClassGroup

IMAGES = 12


@dataclass
class Numbered:
    """A method that gives every image of a batch the same scores, and counts the images that it has seen."""

    name: str = "numbered"
    seen: int = 0
    scores: tuple[float, ...] = (1.0, 2.0, 1.0)

    def __call__(self, passes):
        self.seen += len(passes.images)
        return torch.tensor(self.scores).expand(len(passes.images), -1)


@dataclass
class Run:
    """The scoring of 12 images of two classes in turn, in batches of two."""

    gradients: GradientPass
    dataset: Dataset
    preprocessing: object
    saved: list[int] = field(default_factory=list)

    def score(self, method, table=None, *, tolerance=None):
        return score_images(
            self.gradients,
            self.dataset,
            self.preprocessing,
            ClassSubset(ClassGroup(name="all", classes=("a", "b"), members=(("a",), ("b",))), ("a", "b"), (0, 1)),
            ScoreJob(
                method=method,
                target="correct",
                precision="fp32",
                batch_size=2,
                order=np.arange(IMAGES),
                tolerance=tolerance,
            ),
            ScoreTable.empty("k" * 64, 3) if table is None else table,
            save=lambda table: self.saved.append(len(table)),
        )


@pytest.fixture
def run(preprocessing_of):
    layers = [nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU()]
    graph = ModelGraph(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 2)).eval(), (3, 2, 2))
    dataset = Dataset(
        spec="twelve",
        split=None,
        classes=("a", "b"),
        titles=("a", "b"),
        groups={},
        labels=np.arange(IMAGES, dtype=np.int64) % 2,
        parts={"fit": np.arange(IMAGES)},
        part_rule="",
        sha256="0" * 64,
        read=lambda index: Image.new("RGB", (2, 2), (index, 0, 0)),
    )
    return Run(GradientPass(graph, graph.record().cuts), dataset, preprocessing_of(image_size=(2, 2), resize_size=2))


def test_every_image_is_scored_once_and_saved(run):
    """Without a tolerance all images are scored, in their order and with their labels; the end is saved."""
    method = Numbered()

    table, reason = run.score(method)

    assert list(range(IMAGES)) == table.images.tolist()
    assert [0, 1] * 6 == table.labels.tolist()
    assert [[1.0, 2.0, 1.0]] * IMAGES == table.scores.tolist()
    assert (IMAGES, [IMAGES]) == (method.seen, run.saved)
    assert "all 12 images asked for were seen" == reason


def test_a_finished_table_is_neither_scored_nor_saved_again(run):
    """When all rows are there, no image is read, and the file stays as it is."""
    table, _ = run.score(Numbered())
    run.saved.clear()
    method = Numbered()

    again, _ = run.score(method, table)

    assert (0, []) == (method.seen, run.saved)
    assert table.images.tolist() == again.images.tolist()


def test_rows_that_exist_are_kept(run):
    """A table of the first four images is continued with the fifth."""
    table, _ = run.score(Numbered())
    method = Numbered(scores=(3.0, 4.0, 3.0))

    longer, _ = run.score(method, table.head(4))

    assert IMAGES - 4 == method.seen
    assert [2.0] * 4 + [4.0] * 8 == longer.scores[:, 1].tolist()


def test_a_table_of_another_order_is_begun_anew(run):
    """Rows that do not begin the order of this job say nothing about its images."""
    table, _ = run.score(Numbered())
    method = Numbered()

    run.score(
        method, ScoreTable(key=table.key, images=table.images[1:4], labels=table.labels[1:4], scores=table.scores[1:4])
    )

    assert IMAGES == method.seen


def test_a_settled_order_needs_five_images_of_each_class(run):
    """Equal scores settle the order at once, but five images of each class are looked at; what was seen is saved."""
    method = Numbered()

    table, reason = run.score(method, tolerance=0.1)

    assert (10, 10, [10]) == (method.seen, len(table), run.saved)
    assert "the order of the candidates is settled to a tolerance of 0.1" == reason
    assert 10 == len(run.score(method, table, tolerance=0.1)[0])
    assert (10, [10]) == (method.seen, run.saved)


def test_an_error_saves_what_was_scored(run):
    """A method that fails at the third batch leaves the rows of two."""

    class Failing(Numbered):
        def __call__(self, passes):
            if self.seen == 4:
                raise RuntimeError("out of memory")
            return super().__call__(passes)

    with pytest.raises(RuntimeError, match="out of memory"):
        run.score(Failing())
    assert [4] == run.saved
