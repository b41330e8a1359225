"""Store scores of single images, so that a run can be continued and the curve of any class subset drawn from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from isplit.errors import StudyError
from isplit.records import load_arrays, save_arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreTable:
    """One row per image, one column per cut.

    `key` identifies what was computed (model, data, preprocessing, method, target, precision, cuts): rows are only
    ever joined under the same key. `images` are positions in the data set, `labels` classes of the group.
    """

    folder: ClassVar[str] = "scores"

    key: str
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    @classmethod
    def empty(cls, key: str, cuts: int) -> Self:
        """Return a table with no rows."""
        none = np.empty(0, np.int64)
        return cls(key=key, images=none, labels=none, scores=np.empty((0, cuts)))

    def __len__(self) -> int:
        return len(self.images)

    def extended(self, images: NDArray[np.int64], labels: NDArray[np.int64], scores: NDArray[np.float64]) -> Self:
        """Return a table with further rows."""
        return type(self)(
            key=self.key,
            images=np.concatenate([self.images, images]),
            labels=np.concatenate([self.labels, labels]),
            scores=np.concatenate([self.scores, scores]),
        )

    def head(self, rows: int) -> Self:
        """Return the first rows."""
        return type(self)(key=self.key, images=self.images[:rows], labels=self.labels[:rows], scores=self.scores[:rows])

    def save(self, directory: Path) -> None:
        """Write the table into the study, whole or not at all."""
        (directory / self.folder).mkdir(exist_ok=True)
        rows = {"images": self.images, "labels": self.labels, "scores": self.scores}
        save_arrays(self._path(directory, self.key), {"key": np.array(self.key), **rows})

    @classmethod
    def load(cls, directory: Path, key: str, cuts: int) -> Self:
        """Read the table with that key; return an empty one if nothing was saved under it.

        Raises:
            StudyError: the file is damaged, or is not what its name says.

        """
        path = cls._path(directory, key)
        try:
            arrays = load_arrays(path)
            table = cls(key=str(arrays["key"]), **{name: arrays[name] for name in ("images", "labels", "scores")})
        except FileNotFoundError:
            return cls.empty(key, cuts)
        except KeyError as error:
            msg = f"{path} lacks {error}; delete it and run the same command again"
            raise StudyError(msg) from error
        if table.key != key or table.scores.shape != (len(table.images), cuts):
            msg = f"{path} belongs to another run; delete it and run the same command again"
            raise StudyError(msg)
        return table

    @classmethod
    def _path(cls, directory: Path, key: str) -> Path:
        return directory / cls.folder / f"{key[:16]}.npz"
