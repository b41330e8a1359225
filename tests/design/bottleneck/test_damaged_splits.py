"""A split whose files are damaged is refused with what is wrong."""

from pathlib import Path

import pytest
import torch

from isplit.codec.quantise import Quantiser
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser
from isplit.design.bottleneck.spec import build_bottleneck
from isplit.design.splits import BuiltSplit, read_split, save_split
from isplit.errors import StudyError
from tests.design.bottleneck.small_specs import BUDGET, MODEL, SPECS, record_of
from tests.design.conftest import make_cut


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("weights", lambda content: content[:-1], "is damaged"),
        ("weights", lambda content: content[:-1] + bytes([content[-1] ^ 1]), "is not what split.json names"),
        ("weights", None, "is damaged"),
        ("codec", lambda content: content[:-30], "codec"),
        ("codec", lambda content: content + b"0", "codec"),
        ("split.json", lambda content: content[:-5], "split.json is damaged"),
        ("split.json", lambda content: content.replace(b'"ranks": [\n   3', b'"ranks": [\n   4'), "is damaged"),
    ],
)
def test_damaged_split_is_a_study_error(name: str, change, says: str, tmp_path: Path) -> None:
    """A file that is missing, cut short, or of another split is said to be so."""
    spec = SPECS["linear map"]
    bottleneck = build_bottleneck(spec, BUDGET)
    symbols = torch.zeros(1, *bottleneck.latent_shape, dtype=torch.uint8)
    codec = CodecOwner(MODEL, "x").make_codec(LatentQuantiser(Quantiser.common(0.1, levels=16)), symbols)
    record = save_split(tmp_path, record_of(spec), BuiltSplit(make_cut((1,)), bottleneck, codec))
    name = {"weights": record.weights.name, "codec": record.codec.name}.get(name, name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if change is not None:
        assert change(content) != content
        (tmp_path / name).write_bytes(change(content))

    with pytest.raises(StudyError, match=says):
        read_split(tmp_path)
