"""Store a few images and their importance maps as arrays, so that a report can be drawn without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from isplit.errors import StudyError
from isplit.records.arrays import load_arrays, save_arrays


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
        path = directory / self.file_name
        titles, cuts = np.array(self.titles, str), np.array(list(self.maps), str)
        maps = {f"map_{i}": values for i, values in enumerate(self.maps.values())}
        save_arrays(path, {"images": self.images, "titles": titles, "cuts": cuts, **maps})
        return path

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            StudyError: missing or damaged.

        """
        path = directory / cls.file_name
        try:
            arrays = load_arrays(path)
            return cls(
                images=arrays["images"],
                titles=tuple(str(title) for title in arrays["titles"]),
                maps={str(cut): arrays[f"map_{i}"] for i, cut in enumerate(arrays["cuts"])},
            )
        except (OSError, KeyError) as error:
            msg = f"cannot read {path}: {error}; run `isplit analyze` again to write it"
            raise StudyError(msg) from error
