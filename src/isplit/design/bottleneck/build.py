"""A split's bottleneck from its spec, and its files: weights, codec, and record in one directory."""

from math import prod
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import load, save
from torch import nn

from isplit.codec.codec import Codec
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.identity import IdentityBottleneck
from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.undercomplete import UndercompleteBottleneck
from isplit.design.class_subsets import ALL
from isplit.errors import StudyError
from isplit.records import BottleneckSpec, Budget, SplitRecord, write_whole

SPLITS = "splits"
_WEIGHTS, _CODEC = "weights.safetensors", "codec.npz"


def build_bottleneck(spec: BottleneckSpec) -> Bottleneck:
    """Return a bottleneck of that spec with weights that mean nothing yet, and without a quantiser."""
    if spec.design in ("linear", "pca"):
        shapes = [spec.shape]
        if spec.prefix:
            tokens, width = spec.shape
            shapes = [(spec.prefix, width), (tokens - spec.prefix, width)]
        layouts = [PatchLayout(shape, spec.channel_axis, spec.patch) for shape in shapes]
        maps = [LinearMap(layout, rank=rank) for layout, rank in zip(layouts, spec.ranks, strict=True)]
        return LinearBottleneck(maps, prefix=spec.prefix, joint=spec.joint)
    layout = PatchLayout(spec.shape, spec.channel_axis)
    if spec.design == "identity":
        return IdentityBottleneck(layout)
    middle, latent = spec.widths
    return UndercompleteBottleneck(layout, widths=(middle, latent))


def linear_spec(bottleneck: LinearBottleneck, *, weighted: bool) -> BottleneckSpec:
    """Describe a linear bottleneck."""
    layouts = [one.layout for one in bottleneck.linear_maps]
    shape = layouts[-1].shape
    if bottleneck.prefix:
        shape = (bottleneck.prefix + shape[0], shape[1])
    return BottleneckSpec(
        design="linear" if weighted else "pca",
        shape=shape,
        channel_axis=layouts[-1].channel_axis,
        prefix=bottleneck.prefix,
        patch=layouts[-1].patch,
        ranks=tuple(one.rank for one in bottleneck.linear_maps),
        joint=0 if bottleneck.joint is None else bottleneck.joint.rank,
    )


def split_directory(study: Path, *, cut: str, group: str, design: str, budget: Budget, trained: bool) -> Path:
    """Return where a split's files are: no two splits in one place, whatever characters their classes are called by."""
    name = f"{group}/{cut}"
    safe = "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in name)
    if group != ALL:
        safe += f"-{crc32(name.encode()):08x}"  # or "a b" and "a_b" would be one
    state = "trained" if trained else "closed-form"
    return study / SPLITS / f"{safe}@{budget.tag}-{design}-{state}"


def save_split(
    directory: Path, record: SplitRecord, bottleneck: Bottleneck, codec: Codec, tail: nn.Module | None = None
) -> None:
    """Write a split; the record comes last, so that a directory with one is whole.

    Raises:
        StudyError: it cannot be written.

    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make {directory}: {error.strerror or error}"
        raise StudyError(msg) from error
    tensors = {f"bottleneck.{name}": value.contiguous() for name, value in bottleneck.state_dict().items()}
    if tail is not None:
        tensors |= {f"model.{name}": value.contiguous() for name, value in tail.state_dict().items()}
    write_whole(directory / _WEIGHTS, save(tensors))
    codec.save(directory / _CODEC)
    record.save(directory)


def load_split(directory: Path) -> tuple[SplitRecord, Bottleneck, Codec, dict[str, torch.Tensor]]:
    """Read what `save_split` wrote: record, bottleneck, codec, and the model's trained tensors by name.

    Raises:
        StudyError: a file is missing or damaged.

    """
    record = SplitRecord.load(directory)
    try:
        tensors = load((directory / _WEIGHTS).read_bytes())
        codec = Codec.load(directory / _CODEC)
        bottleneck = build_bottleneck(record.bottleneck)
        own = {name.removeprefix("bottleneck."): value for name, value in tensors.items() if name[0] == "b"}
        bottleneck.load_state_dict(own)
    except StudyError:
        raise
    except Exception as error:  # safetensors, torch and the file system raise errors of every kind
        msg = f"the split {directory} is damaged ({type(error).__name__}: {error}); delete it and make it again"
        raise StudyError(msg) from error
    if prod(bottleneck.latent_shape) != prod(codec.shape):
        msg = f"the split {directory} is damaged: weights and codec do not fit; delete it and make it again"
        raise StudyError(msg)
    bottleneck.quantiser = codec.quantiser
    bottleneck.eval()
    model = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    return record, bottleneck, codec, model
