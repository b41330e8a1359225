"""Which parts of a bottleneck are on the device, and what both sides compute: found by running them once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from isplit.design.bottleneck.base import Bottleneck, Place, Work
from isplit.design.bottleneck.spec import BottleneckDesign
from isplit.design.running import evaluating
from isplit.errors import InputError


@dataclass(frozen=True)
class EncoderSide:
    """The part of a bottleneck that `encode` uses, by the names that `named_parameters` and `named_modules` give.

    A parameter or module that `decode` uses as well counts as the encoder's.
    """

    parameters: frozenset[str]
    modules: frozenset[str]


def encoder_side(bottleneck: Bottleneck, shape: Sequence[int]) -> EncoderSide:
    """Run `encode` on zeros of a crossing tensor's shape, and return the parameters and modules that take part.

    A parameter takes part if the latents depend on it, whether or not its gradient happens to be zero.
    """
    called: set[str] = set()
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, module in bottleneck.named_modules()
        if name
    ]
    named = dict(bottleneck.named_parameters())
    wanted = [parameter.requires_grad for parameter in named.values()]
    try:
        bottleneck.requires_grad_(True)
        with evaluating(bottleneck), torch.enable_grad():
            latents = bottleneck.encode(torch.zeros(2, *shape))
        gradients: Sequence[torch.Tensor | None] = [None] * len(named)
        if latents.requires_grad and named:
            gradients = torch.autograd.grad(latents.sum(), list(named.values()), allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, required in zip(named.values(), wanted, strict=True):
            parameter.requires_grad_(required)
    used = (name for name, gradient in zip(named, gradients, strict=True) if gradient is not None)
    return EncoderSide(frozenset(used), frozenset(called))


def measure_work(bottleneck: Bottleneck, shape: Sequence[int]) -> Work:
    """Return what both sides compute for one image: as the design says, else counted.

    Counted are the multiply-accumulate operations of matrix products and convolutions (torch's FlopCounterMode over
    two). Buffers count as the encoder's if their module runs in `encode`.
    """
    if bottleneck.work is not None:
        return bottleneck.work
    # It brings triton, where that is installed, which takes longer to import than all of isplit.
    from torch.utils.flop_counter import FlopCounterMode

    side = encoder_side(bottleneck, shape)
    with evaluating(bottleneck), torch.no_grad():
        example = torch.zeros(1, *shape)
        with FlopCounterMode(display=False) as encoding:
            latents = bottleneck.encode(example)
        with FlopCounterMode(display=False) as decoding:
            bottleneck.decode(latents)
    counts = {"encoder": 0, "decoder": 0}
    for name, parameter in bottleneck.named_parameters():
        counts["encoder" if name in side.parameters else "decoder"] += parameter.numel()
    for name, buffer in bottleneck.named_buffers():
        if not name.endswith("num_batches_tracked"):
            counts["encoder" if name.rpartition(".")[0] in side.modules else "decoder"] += buffer.numel()
    return Work(
        encoder_macs=encoding.get_total_flops() // 2,
        decoder_macs=decoding.get_total_flops() // 2,
        encoder_parameters=counts["encoder"],
        decoder_parameters=counts["decoder"],
    )


def start_design(design: BottleneckDesign, place: Place) -> Bottleneck:
    """Return a design's bottleneck for a place; one of the user's own is run once on zeros.

    Raises:
        InputError: the user's code fails, or what comes out has not the shape that the contract says.

    """
    if design.source is None:
        return design.bottleneck.start(place)
    shape = tuple(place.shape)
    try:
        bottleneck = design.bottleneck.start(place)
        with evaluating(bottleneck), torch.no_grad():
            latents = bottleneck.encode(torch.zeros(2, *shape))
            _check_shape(design, "encode", latents, tuple(bottleneck.latent_shape))
            _check_shape(design, "decode", bottleneck.decode(latents), shape)
    except InputError:
        raise
    except Exception as error:  # the user's code may raise anything
        msg = f"design {design.name} fails on what crosses, {shape} for an image: {type(error).__name__}: {error}"
        raise InputError(msg) from error
    return bottleneck


def _check_shape(design: BottleneckDesign, what: str, tensor: torch.Tensor, of_image: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != (2, *of_image):
        msg = f"design {design.name}: {what} gives {tuple(tensor.shape)} for two images, not {(2, *of_image)}"
        raise InputError(msg)
