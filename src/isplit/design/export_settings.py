"""Settings of `export`. This module loads no torch, as the settings of the other verbs."""

import math
from dataclasses import dataclass

from isplit.errors import InputError
from isplit.setting_checks import check_ranges, check_types


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of `export`: what goes into a bundle, and how it is checked.

    Args:
        name: The bundle's name on the wire; by default that of its directory.
        local: Whether the device gets the whole model too, to answer alone and when the server does not.
        remote: Whether the server gets the whole model too, for images that come compressed.
        remote_network: Image setting, such as "webp:50@0.5", of a network that `fit --remote` trained: the server gets
            that network for images that come compressed, instead of the whole model.
        int8: Whether heads compute in eight bits (static quantisation).
        triton: Whether the tails are also laid out as a Triton model repository, in `triton/`.
        images: Images of the select part on which every file is compared with torch.
        tolerance: The largest difference of a logit, as a share of the largest logit among them (or of 1).
        calibration_images: Images of the fit part that give the ranges of int8 activations.
        int8_images: Images of the select part on which int8 heads are measured.
        overwrite: Whether to replace a bundle that is there.

    Raises:
        InputError: a value outside its range; the message names the argument.

    Examples:
        >>> ExportSettings(triton=True).images
        24

    """

    name: str | None = None
    local: bool = True
    remote: bool = True
    remote_network: str | None = None
    int8: bool = False
    triton: bool = False
    images: int = 24
    tolerance: float = 1e-3
    calibration_images: int = 64
    int8_images: int = 500
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self, dict.fromkeys(("images", "calibration_images", "int8_images"), (1, math.inf)))
        if self.remote_network is not None and not self.remote:
            msg = f"`remote_network={self.remote_network}` is a network for `remote`, which is left out: leave out one"
            raise InputError(msg)
        if not 0 < self.tolerance < 1:
            msg = f"tolerance is {self.tolerance:g}; give a share of the largest logit, between 0 and 1"
            raise InputError(msg)
