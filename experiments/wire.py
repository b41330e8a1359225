"""Restate the payloads of experiments as bytes on the wire, beside those of compressed images."""

from collections.abc import Callable, Sequence

from result_rows import Row

from isplit.records import WireOverhead, wire_overhead
from isplit.records.paired import Z95

SAVED_HEADER_BYTES = 18
"""Frames of the committed rows had a header of 20 bytes; those of today have 2."""

_GRPC_BYTES_UP = {"split_up_bytes": 112, "image_up_bytes": 110}
_GRPC_BYTES_DOWN = 198
"""Bytes over gRPC, counted by a proxy in November 2026: beyond a payload, and of an answer beside its logits."""

RULES: dict[str, Callable[[Row, float], bool]] = {
    "measured": lambda row, loss: row["loss"] <= loss,
    "surely": lambda row, loss: row["loss"] + Z95 * row["loss_stderr"] <= loss,
}
"""Whether a row stays within a loss: by its own figure, or by the one-sided 95 % bound of the paired difference."""


def grpc_overhead(classes: int) -> WireOverhead:
    """Return what gRPC adds to a payload, with answers of so many logits."""
    down = _GRPC_BYTES_DOWN + 4 * classes
    return WireOverhead(split_down_bytes=down, image_down_bytes=down, source="gRPC", **_GRPC_BYTES_UP)


def fewest(rows: Sequence[Row], *, loss: float, rule: str) -> Row | None:
    """Return the row of the fewest bytes that stays within a loss; None where none does."""
    inside = [row for row in rows if RULES[rule](row, loss)]
    return min(inside, key=lambda row: row["payload_bytes"], default=None)


def wire_cells(split: Row | None, image: Row | None, *, classes: int) -> list[str]:
    """Return where the split is, and bytes of split and image: payloads, and up and in both directions over gRPC.

    The last cells are the split's bytes over the image's: payloads, gRPC up, gRPC both ways, lean wire both ways.
    """
    if split is None or image is None:
        where = "none" if split is None else split["cut"]
        return [where, "", "no image" if image is None else f"{image['payload_bytes']:.0f}", "", "", "", ""]
    payload = split["payload_bytes"] - SAVED_HEADER_BYTES
    grpc, lean, picture = grpc_overhead(classes), wire_overhead(classes), image["payload_bytes"]
    ratios = [payload / picture]
    for overhead in (grpc, lean):
        up, both = overhead.of_split(payload).over(overhead.of_image(picture))
        ratios += [up, both] if overhead is grpc else [both]
    trained = "" if split.get("untrained", True) else ", trained"
    return [
        f"{split['cut']}{trained}",
        f"{payload:.0f} / {grpc.of_split(payload).up:.0f}",
        f"{picture:.0f} / {grpc.of_image(picture).up:.0f}",
        *(f"{ratio:.2f}" for ratio in ratios),
    ]


HEADS = (
    "cut",
    "split: payload / up",
    "image: payload / up",
    "payloads",
    "gRPC, up",
    "gRPC, both ways",
    "lean wire, both ways",
)
"""Of `wire_cells`."""


def wire_lines(
    splits: Sequence[Row], images: Sequence[Row], shares: Sequence[float], *, classes: int, losses: Sequence[float]
) -> list[list[str]]:
    """Return a line for each rule, loss and largest share of the operations on the device."""
    return [
        [
            f"{'surely ' if rule == 'surely' else ''}within {100 * loss:.0f}",
            f"{share:.0%}",
            *wire_cells(
                fewest([row for row in splits if row["head_mac_share"] <= share], loss=loss, rule=rule),
                fewest(images, loss=loss, rule=rule),
                classes=classes,
            ),
        ]
        for rule in RULES
        for loss in losses
        for share in shares
    ]
