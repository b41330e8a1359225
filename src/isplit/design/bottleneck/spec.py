"""Build a bottleneck from its spec, and describe one by its spec."""

from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.identity import IdentityBottleneck
from isplit.design.bottleneck.linear import LinearBottleneck, LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.undercomplete import UndercompleteBottleneck
from isplit.records import BottleneckSpec


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
