"""The model as a list of places where it can be cut."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from isplit.records.base import Axis, Count, Extent, Part
from isplit.records.tables import TableRecord, named

CutKind = Literal["default", "pre-activation", "other"]


class Crossing(Part):
    """One tensor that crosses a cut: its name in the graph, its shape without the batch dimension, its size.

    A dimension may be 0, because models join empty tensors to others, such as timm's `qwen3_vit`.
    """

    name: str
    shape: tuple[Annotated[int, Field(ge=0, le=2**31)], ...]
    dtype: str
    bytes: Count


class Cut(Part):
    """A place where everything computed before it is on one side.

    All figures are for one image. MACs are multiply-accumulate operations of convolutions, matrix products and
    attention. Parameters that both sides use are counted on both. Peak bytes are of live activations in eager
    PyTorch, parameters and a kernel's workspace not included. `channel_axis` is the dimension of the channels in the
    crossing tensor, its batch dimension counted (1: maps N×C×H×W, -1: tokens N×T×D or channels-last maps N×H×W×C);
    None where several tensors cross.
    """

    name: str
    depth: Count
    kind: CutKind
    op: str
    crossing: tuple[Crossing, ...]
    bytes: Count
    channel_axis: Axis | None
    head_macs: Count
    tail_macs: Count
    head_parameters: Count
    tail_parameters: Count
    head_peak_bytes: Count
    tail_peak_bytes: Count

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the only crossing tensor, without the batch dimension."""
        (tensor,) = self.crossing
        return tensor.shape

    @property
    def has_positions(self) -> bool:
        """Whether the crossing tensor still has a spatial or token axis of more than one position."""
        if self.channel_axis is None or len(self.shape) < 2:
            return False
        positions = self.shape[1:] if self.channel_axis == 1 else self.shape[:-1]
        return any(extent > 1 for extent in positions)


class Unavailable(Part):
    """A cut that cannot be made, and why."""

    name: str
    reason: str


class DivisibleLayer(Part):
    """A linear layer or a convolution that can be computed in blocks of output channels, one after the other.

    Its input is all that crosses at the cut `before`, and its output all that crosses at the cut `after` (None: the
    output is the logits). Neither needs to be among the cuts of the record. `depth` is comparable with that of cuts.
    Bytes are of one image. `channel_axis` is the dimension of the output's channels, its batch dimension counted.
    """

    name: str
    depth: Count
    before: str
    after: str | None
    channels: Count
    channel_axis: Axis
    parameters: Count
    input_bytes: Count
    output_bytes: Count


class GraphRecord(TableRecord):
    """graph.json: how the model was captured, and its cuts in the order of computation.

    `notices` say in which ways the graph is not the model as it was given: a softmax that was taken away, say.
    `divisible` are the layers that a small device may compute in blocks (none in graphs of an older version).
    """

    schema_name: ClassVar[str] = "isplit.graph/1"
    file_name: ClassVar[str] = "graph.json"
    rows_field: ClassVar[str] = "cuts"

    captured_by: Literal["torch.fx", "torch.export"]
    input_shape: tuple[Extent, ...]
    input_bytes: Count
    output_shape: tuple[Extent, ...]
    macs: Count
    parameters: Count
    uncounted: tuple[str, ...]
    cuts: tuple[Cut, ...]
    unavailable: tuple[Unavailable, ...]
    notices: tuple[str, ...] = ()
    divisible: tuple[DivisibleLayer, ...] = ()

    @property
    def curve_cuts(self) -> tuple[Cut, ...]:
        """The default cuts that have a spatial or token axis: those that the importance curve covers."""
        return tuple(cut for cut in self.cuts if cut.kind != "other" and cut.has_positions)

    def cut(self, name: str) -> Cut:
        """Return the cut of that name.

        Raises:
            KeyError: no cut has it.

        """
        return named(self.cuts, name)
