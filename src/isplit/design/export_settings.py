"""What `export` is asked for; apart from what does it, so that to ask takes none of the libraries."""

from dataclasses import dataclass

from isplit.errors import InputError
from isplit.records import Budget, Design


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What narrows the choice among a cut's splits; None leaves it open. `closed_form` passes the trained ones by."""

    budget: Budget | None = None
    design: Design | None = None
    closed_form: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What goes into a bundle, and how it is checked.

    Args:
        name: The bundle's name on the wire; by default its directory's.
        local: Whether the device gets the whole model too: to answer alone, and when the server does not.
        remote: Whether the server gets the whole model too, for images that come compressed.
        int8: Whether heads compute in eight bits (static quantisation).
        triton: Whether the tails are also laid out as a Triton model repository, in `triton/`.
        images: Images of the select part on which every file is compared with torch.
        tolerance: The largest difference of a logit, as a share of the largest logit among them (or of 1).
        calibration_images: Of the fit part, for the ranges of int8 activations.
        int8_images: Of the select part, on which int8 heads are measured.
        overwrite: Whether to replace a bundle that is there.

    """

    name: str | None = None
    local: bool = True
    remote: bool = True
    int8: bool = False
    triton: bool = False
    images: int = 24
    tolerance: float = 1e-3
    calibration_images: int = 64
    int8_images: int = 500
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("images", "calibration_images", "int8_images"):
            if getattr(self, name) < 1:
                msg = f"{name} is {getattr(self, name)}; give at least 1"
                raise InputError(msg)
        if not 0 < self.tolerance < 1:
            msg = f"tolerance is {self.tolerance:g}; give a share of the largest logit, between 0 and 1"
            raise InputError(msg)
