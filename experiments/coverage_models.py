"""The models of `model_coverage.py`: torchvision's, one of each timm family, and small ones of Hugging Face."""

import re
from collections.abc import Callable
from typing import Any

import timm
import torchvision
from torch import nn

CLASSES = 20


def torchvision_names() -> list[str]:
    """Return every classification model that torchvision lists."""
    return torchvision.models.list_models(module=torchvision.models)


def build_torchvision(name: str, size: int) -> nn.Module:
    """Build a model for images of `size` pixels, with random initial values."""
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if name.startswith("vit_"):
        options["image_size"] = size
    return torchvision.models.get_model(name, weights=None, **options)


_SIZES = {
    **dict.fromkeys("tiny nano pico femto atto xxs t".split(), 0),
    **dict.fromkeys("small xs s".split(), 1),
    **dict.fromkeys("base b".split(), 3),
    **dict.fromkeys("large l xlarge xl nasnetalarge pnasnet5large".split(), 8),
    **dict.fromkeys("huge h giant g gigantic enormous".split(), 20),
}


def timm_families() -> dict[str, str]:
    """Return one model for each module of timm's zoo, the one whose name says that it is the smallest; small first."""
    families: dict[str, list[str]] = {}
    for name in timm.list_models():
        if not name.startswith("test_"):
            families.setdefault(timm.model_entrypoint(name).__module__.rsplit(".", 1)[1], []).append(name)
    smallest = {family: min(names, key=_weight) for family, names in families.items()}
    return dict(sorted(smallest.items(), key=lambda item: _weight(item[1])))


def _weight(name: str) -> tuple[float, int, str]:
    """Guess a model's size by the words and numbers in its name; building all 1,300 would take hours."""
    words = re.split(r"[_.]", name)
    sizes = [_SIZES[word] for word in words if word in _SIZES]
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return (min(sizes) if sizes else 2, max(numbers, default=0), name)


def build_timm(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """Build a model of timm with few classes, for the smallest of 64 to 224 pixels (or its own size) that it takes."""
    config = timm.get_pretrained_cfg(name)
    channels, height, width = config.input_size if config is not None else (3, 224, 224)
    for size in (64, 96, 128, 160, 192, 224):
        try:
            model = timm.create_model(name, num_classes=CLASSES, img_size=size)
        except (TypeError, AssertionError, ValueError, RuntimeError):
            break
        if _runs(model, (channels, size, size)):
            return model, (channels, size, size)
    model = timm.create_model(name, num_classes=CLASSES)
    for size in (64, 96, 128, 160, 192, 224):
        if _runs(model, (channels, size, size)):
            return model, (channels, size, size)
    return model, (channels, height, width)


def _runs(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    import torch

    try:
        with torch.no_grad():
            return model.eval()(torch.randn(2, *shape)).shape[0] == 2
    except Exception:  # noqa: BLE001 - a size that does not fit may fail in any way
        return False


def hugging_face_models() -> dict[str, Callable[[], tuple[nn.Module, tuple[int, int, int]]]]:
    """Return builders of small models of twelve architectures of transformers, by class name; empty without it."""
    try:
        import transformers
    except ImportError:
        return {}
    vit = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    small: dict[str, dict[str, Any]] = {
        "ViT": vit | {"image_size": 64, "patch_size": 16},
        "DeiT": vit | {"image_size": 64, "patch_size": 16},
        "Beit": vit | {"image_size": 64, "patch_size": 16},
        "Dinov2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56},
        "Swin": {"image_size": 64, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
        "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        "RegNet": {"embedding_size": 8, "hidden_sizes": [16, 16], "depths": [1, 1], "groups_width": 8},
        "MobileNetV2": {"depth_multiplier": 0.35},
        "Segformer": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 2]},
        "PoolFormer": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]},
        "Levit": {"image_size": 64},
        "EfficientNet": {"width_coefficient": 0.3, "depth_coefficient": 0.3, "hidden_dim": 384},
    }

    def builder(kind: str, options: dict[str, Any]) -> Callable[[], tuple[nn.Module, tuple[int, int, int]]]:
        def build() -> tuple[nn.Module, tuple[int, int, int]]:
            config = getattr(transformers, f"{kind}Config")(num_labels=CLASSES, **options)
            model = getattr(transformers, f"{kind}ForImageClassification")(config)
            size = options.get("image_size", 64)
            return model, (3, size, size)

        return build

    return {kind: builder(kind, options) for kind, options in small.items() if hasattr(transformers, f"{kind}Config")}
