"""Does head then tail equal the whole model? And weights under which the question means something."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import nn

from isplit.design.graph.cuts import ModelGraph
from isplit.design.graph.isolation import plain_execution
from isplit.design.graph.outputs import ModelCall, choose_output, outputs_of
from isplit.design.graph.split import split
from isplit.design.running import evaluating

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class SplitCheck:
    """Head then tail against the whole, at one cut.

    `is_exact`: every bit of every logit is the same. `largest_difference`: of any logit, absolute.
    """

    cut: str
    is_exact: bool
    largest_difference: float


def check_splits(model: nn.Module, graph: ModelGraph, cuts: Sequence[str], images: torch.Tensor) -> list[SplitCheck]:
    """Run head and tail at each cut and compare their logits with those of `model` itself, in evaluation mode.

    The model computes as its graph does, without torch's fused transformer kernel. Where the graph's result is not the
    model's own (it ends before a softmax), what is compared with is the whole graph.

    Args:
        model: The model as it was before it was captured.
        graph: What was captured of it.
        cuts: Names of cuts.
        images: N×C×H×W.

    """
    checks: list[SplitCheck] = []
    captured = graph.flow.capture
    with evaluating(model), torch.no_grad(), plain_execution():
        if captured.ends_as_model:
            whole = captured.call.logits(model, images.clone()).float()
        else:
            whole = graph.module(images.clone())
        for cut in cuts:
            parts = split(graph, cut)(images)
            difference = float((parts - whole).abs().max())
            checks.append(SplitCheck(cut, torch.equal(parts, whole), difference))
    return checks


def varied_images(count: int, shape: tuple[int, ...], *, seed: int = 0) -> torch.Tensor:
    """Return images that differ from each other far more than noise does: waves of random direction and colour."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    draw = torch.rand(count, channels, 4, 1, 1, generator=generator)
    waves = torch.sin(12 * (draw[:, :, 0] * rows + draw[:, :, 1] * columns) + 6 * draw[:, :, 2]) * 2 * draw[:, :, 3]
    return waves + 0.3 * torch.randn(count, *shape, generator=generator)


def vary_weights(model: nn.Module, images: torch.Tensor, *, seed: int = 0) -> None:
    """Give every parameter and statistic a value that matters, and make the logits depend on the image.

    Untrained networks make vacuous tests: torchvision's ViT starts with a zero classifier, and others give every image
    the same answer. BatchNorm statistics are taken from `images`, and the classifier's bias is set so that each
    class's logit has mean zero over them: the highest logit then depends on the image.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                _fill(module, name, parameter, generator)
        _take_statistics(model, images)
        _centre_logits(model, images)


def _fill(module: nn.Module, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    noise = torch.randn(parameter.shape, generator=generator)
    if isinstance(module, _NORMS):
        parameter.copy_(1 + 0.2 * noise if name == "weight" else 0.2 * noise)
    elif parameter.dim() > 1 and "bias" not in name:
        # Weights keep the variance of what they multiply; embeddings and tokens get about the size of their input.
        fan_in = parameter[0].numel() if parameter.dim() > 1 and isinstance(module, _MULTIPLIES) else 4
        parameter.copy_(noise * sqrt(2 / fan_in))
    else:
        parameter.copy_(0.2 * noise)


_MULTIPLIES = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention)


def _take_statistics(model: nn.Module, images: torch.Tensor) -> None:
    """Set BatchNorm's running mean and variance to those of `images`, in one pass."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0
            norm.train()
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _centre_logits(model: nn.Module, images: torch.Tensor) -> None:
    """Change the last layer so that each class's logit has mean zero over `images`."""
    seen: list[torch.Tensor] = []
    with evaluating(model):
        outputs = _logits(model, images).shape[1]
        layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        last = [layer for layer in layers if layer.weight.shape[0] == outputs][-1]
        handle = last.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            logits = _logits(model, images)
        finally:
            handle.remove()
    if last.bias is not None:
        last.bias.sub_(logits.mean(0))
    else:
        # Without a bias, take the mean feature's direction out of the weights.
        mean = seen[0].mean(0)
        last.weight.sub_(torch.outer(last.weight @ mean, mean) / mean.square().sum())


def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    call = ModelCall()
    outputs = outputs_of(call(model, images), len(images))
    return ModelCall(path=choose_output(outputs).output.path).logits(model, images)
