"""A few images and their importance maps, kept as arrays so that a report can be drawn without torch."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from isplit.errors import StudyError
from isplit.records.base import write_whole


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlays:
    """overlays.npz: `images` (n, H, W, 3) uint8, the class title of each, and per cut a map (n, h, w) float32.

    The maps are Grad-CAM's L (method: CUI before its mean over positions), not upsampled and not scaled.
    """

    file_name: ClassVar[str] = "overlays.npz"

    images: NDArray[np.uint8]
    titles: tuple[str, ...]
    maps: dict[str, NDArray[np.float32]]

    def save(self, directory: Path) -> Path:
        """Write the arrays to overlays.npz in `directory`."""
        arrays = {f"map_{i}": values for i, values in enumerate(self.maps.values())}
        file = io.BytesIO()
        np.savez_compressed(
            file, images=self.images, titles=np.array(self.titles, str), cuts=np.array(list(self.maps), str), **arrays
        )
        path = directory / self.file_name
        write_whole(path, file.getvalue())
        return path

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            StudyError: missing or damaged.

        """
        path = directory / cls.file_name
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(
                    images=arrays["images"],
                    titles=tuple(str(title) for title in arrays["titles"]),
                    maps={str(cut): arrays[f"map_{i}"] for i, cut in enumerate(arrays["cuts"])},
                )
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            msg = f"cannot read {path}: {error}; run `isplit analyze` again to write it"
            raise StudyError(msg) from error
