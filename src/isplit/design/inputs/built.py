"""Describe a module as a library or a user made it, and its input."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(kw_only=True)
class Built:
    """A module as it was made, and what its library or the module itself says about its input.

    Attributes:
        module: The module.
        hints: Fields of `Preprocessing`.
        class_names: The names of its outputs where they are known.
        warnings: What the user has to know about it.

    """

    module: nn.Module
    hints: dict[str, Any]
    class_names: tuple[str, ...] | None = None
    warnings: list[str] = field(default_factory=list)
