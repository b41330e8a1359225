"""One small model of each family that torchvision has: captured, counted, and split exactly.

The layers and their names are those of torchvision's models. Where a model would be large, its layers are narrower:
what is tested depends on how they are connected, and a test then takes a second.
"""

from contextlib import contextmanager
from functools import cache

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlockConfig

from isplit.design.graph import ModelGraph
from isplit.design.testing import check_splits, varied_images, vary_weights

# Model, image size.
FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 64,
    "inception_v3": 80,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnet50": 64,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11_bn": 32,
    "vit_b_32": 64,
}
_INITS = "kaiming_normal_ kaiming_uniform_ normal_ trunc_normal_ uniform_ xavier_normal_ xavier_uniform_".split()


@contextmanager
def plain_weights():
    """Make every layer of new models average what it is given: to draw the weights of a large model takes seconds."""

    def fill(tensor: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        return nn.init.constant_(tensor, 1 / tensor[0].numel() if tensor.dim() > 1 else 0.0)

    with pytest.MonkeyPatch.context() as patch:
        for name in _INITS:
            patch.setattr(nn.init, name, fill)
        yield


def build(name: str, size: int) -> nn.Module:
    """Return torchvision's model of that name for images of `size`×`size`."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit"):
        options = {"image_size": size}
    with plain_weights():
        return torchvision.models.get_model(name, weights=None, **options).eval()


def narrow_swin(**options) -> nn.Module:
    """Return Swin-T with a quarter of its channels; a head of attention has 24 of them."""
    heads, depths = [1, 2, 4, 8], [2, 2, 6, 2]
    return torchvision.models.SwinTransformer([4, 4], 24, depths, heads, **options)


def narrow_convnext() -> nn.Module:
    """Return ConvNeXt-T with an eighth of its channels."""
    stages = [(12, 24, 3), (24, 48, 3), (48, 96, 9), (96, None, 3)]
    return torchvision.models.ConvNeXt([CNBlockConfig(*stage) for stage in stages])


def narrow_classifier(name: str) -> nn.Module:
    """Return a model whose classifier has 64 features in place of 4,096."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
        for place, layer in enumerate(model.classifier):
            if isinstance(layer, nn.Linear):
                inputs = 64 if layer.in_features == 4096 else layer.in_features
                outputs = 64 if layer.out_features == 4096 else layer.out_features
                model.classifier[place] = nn.Linear(inputs, outputs)
    return model.to_empty(device="cpu")


def small_maxvit() -> nn.Module:
    """Return MaxViT with one layer in each of two stages, windows of 4×4; larger ones need 224 pixels."""
    return torchvision.models.MaxVit(
        input_size=(32, 32),
        stem_channels=16,
        partition_size=4,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=10,
    )


# The parameters of these models are drawn by `vary_weights`.
NARROW = {
    "alexnet": lambda: narrow_classifier("alexnet"),
    "convnext_tiny": narrow_convnext,
    "densenet121": lambda: torchvision.models.DenseNet(8, (6, 12, 24, 16), 16),
    "maxvit": small_maxvit,
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(weights=None, width_mult=0.5),
    "resnet50": lambda: torchvision.models.resnet50(weights=None, width_per_group=16),
    "swin_t": lambda: narrow_swin(window_size=[7, 7]),
    "swin_v2_t": lambda: narrow_swin(
        window_size=[8, 8],
        block=torchvision.models.swin_transformer.SwinTransformerBlockV2,
        downsample_layer=torchvision.models.swin_transformer.PatchMergingV2,
    ),
    "vgg11_bn": lambda: narrow_classifier("vgg11_bn"),
    "vit_b_32": lambda: torchvision.models.VisionTransformer(64, 32, 12, 12, 96, 384),
}


@cache
def prepared(name: str) -> tuple[nn.Module, ModelGraph, torch.Tensor]:
    """Return a family's model, what was captured of it, and images that it tells apart."""
    size = FAMILIES.get(name, 32)
    with plain_weights():
        model = NARROW[name]().eval() if name in NARROW else build(name, size)
    images = varied_images(6, (3, size, size))
    vary_weights(model, images)
    return model, ModelGraph(model, (3, size, size)), images


@pytest.mark.parametrize("name", [*FAMILIES, "maxvit"])
def test_head_then_tail_is_the_whole_model_bit_for_bit(name: str) -> None:
    """At every default cut, on weights and images under which the answer varies."""
    model, graph, images = prepared(name)
    with torch.no_grad():
        logits = model(images)
    assert len(set(logits.argmax(1).tolist())) >= 3
    assert (logits.std(0) > 0).float().mean() > 0.5

    checks = check_splits(model, graph, [cut.name for cut in graph.record().cuts], images)

    assert len(checks) >= 9
    assert [] == [check for check in checks if not check.is_exact]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "shufflenet_v2_x0_5", "vit_b_32", "swin_t"])
def test_every_cut_of_the_graph_is_exact_too(name: str) -> None:
    """Also where several tensors cross, before activations and between views; a sample of them, evenly spread."""
    model, graph, images = prepared(name)
    names = [cut.name for cut in graph.record(all_cuts=True).cuts]

    checks = check_splits(model, graph, names[:: max(1, len(names) // 20)], images[:3])

    assert [] == [check for check in checks if not check.is_exact]


@pytest.mark.parametrize("name", [*FAMILIES, "maxvit"])
def test_heads_and_tails_add_up(name: str) -> None:
    """MACs and parameters of the sides make the whole, and grow from cut to cut."""
    model, graph, _ = prepared(name)
    record = graph.record()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    aux = sum(p.numel() for n, p in model.named_parameters() if n.lower().startswith("aux"))

    assert parameters - aux == record.parameters
    assert () == record.uncounted
    for cut in record.cuts:
        assert record.macs == cut.head_macs + cut.tail_macs
        assert record.parameters <= cut.head_parameters + cut.tail_parameters
    assert sorted(cut.head_macs for cut in record.cuts) == [cut.head_macs for cut in record.cuts]
    assert len(record.cuts) == len({cut.name for cut in record.cuts})


@pytest.mark.parametrize("name", ["alexnet", "inception_v3", "resnet18", "swin_v2_t", "vit_b_32"])
def test_macs_are_those_that_torchvision_states(name: str) -> None:
    """At the size of torchvision's weights, to the three digits that it gives; attention included."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    size = weights.transforms().crop_size[0]

    record = ModelGraph(build(name, size), (3, size, size)).record()

    assert weights.meta["_ops"] == pytest.approx(record.macs / 1e9, abs=0.00051)


def test_vgg16_has_its_eighteen_cuts_in_features() -> None:
    """One per convolution with its ReLU, and one per pool; names are those of the modules."""
    graph = ModelGraph(build("vgg16", 32), (3, 32, 32))
    names = [cut.name for cut in graph.record().cuts if cut.name.startswith("features.")]

    expected = [1, 3, 4, 6, 8, 9, 11, 13, 15, 16, 18, 20, 22, 23, 25, 27, 29, 30]
    assert [f"features.{number}" for number in expected] == names


def test_resnet50_is_cut_after_its_blocks() -> None:
    """Inside a block the shortcut crosses as well, so a block is one point."""
    names = [cut.name for cut in prepared("resnet50")[1].record().cuts]

    blocks = [f"layer{stage}.{block}" for stage, count in enumerate((3, 4, 6, 3), start=1) for block in range(count)]
    assert ["relu", "maxpool", *blocks, "avgpool"] == names


def test_tokens_and_channels_last_maps_know_their_channel_axis() -> None:
    """ViT's tokens and Swin's maps have their channels last, ConvNeXt's and the pools' maps first."""
    axes = {name: {cut.name: cut.channel_axis for cut in prepared(name)[1].record().cuts} for name in FAMILIES}

    assert axes["vit_b_32"]["encoder.layers.encoder_layer_3"] == -1
    assert axes["swin_t"]["features.3.1"] == -1
    assert axes["swin_t"]["avgpool"] == 1
    assert set(axes["convnext_tiny"].values()) == {1}
    assert set(axes["resnet18"].values()) == {1}
