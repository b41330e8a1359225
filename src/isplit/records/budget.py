"""Record what may cross: a mean payload in bytes, or a share of a tensor's elements."""

from typing import Annotated

from pydantic import AfterValidator, Field

from isplit.records.base import Part


class Budget(Part):
    """What may cross: a mean payload in bytes, header included, or a share of the tensor's elements (64: one in 64)."""

    payload_bytes: Annotated[int, Field(ge=1)] | None = None
    element_ratio: Annotated[float, Field(gt=0)] | None = None

    @property
    def tag(self) -> str:
        """The short name in files and tables: 512B or 1in64."""
        return f"{self.payload_bytes}B" if self.payload_bytes is not None else f"1in{self.element_ratio:g}"

    @property
    def order(self) -> tuple[int, float]:
        """The sort key: bytes first, small before large; then ratios, those that send least first."""
        return (0, self.payload_bytes) if self.payload_bytes is not None else (1, -(self.element_ratio or 0))


def _one_kind(budget: Budget) -> Budget:
    if (budget.payload_bytes is None) == (budget.element_ratio is None):
        msg = "it has to give either payload_bytes or element_ratio"
        raise ValueError(msg)
    return budget


RecordedBudget = Annotated[Budget, AfterValidator(_one_kind)]
"""The field of a record that holds a budget, which is of one kind."""
