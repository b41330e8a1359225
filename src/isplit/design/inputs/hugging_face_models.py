"""Load image classifiers of Hugging Face, with their configuration, weights and image processor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from isplit.design.graph.diagnosis import first_line
from isplit.design.inputs.built import Built
from isplit.errors import ModelError, needs_extra

_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def build_hugging_face(name: str, *, weights: str | None, num_classes: int | None) -> Built:
    """Build the image classifier that a folder or the hub holds.

    Args:
        name: A folder that `save_pretrained` wrote, or the name of a repository. Nothing is downloaded unless the
            weights are "default": a repository then has to be in the local cache.
        weights: None for the weights of the folder or the cache, "default" to download them, or a file, which is
            applied later to a model with random values.
        num_classes: Another number of outputs, with an untrained classifier.

    Raises:
        ModelError: there is no image classifier of that name, or its images are prepared as isplit cannot.
        MissingExtraError: transformers is not installed.

    """
    with needs_extra("transformers"):
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification
        from transformers.utils import logging
    local = {"local_files_only": weights != "default"}
    outputs: dict[str, Any] = {} if num_classes is None else {"num_labels": num_classes}
    # Its progress bars would be printed into those of isplit.
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(name, **local)
        labels: dict[Any, str] = dict(config.id2label or {})
        if weights in (None, "default"):
            module = AutoModelForImageClassification.from_pretrained(
                name, **local, **outputs, ignore_mismatched_sizes=num_classes not in (None, len(labels))
            )
        else:
            module = AutoModelForImageClassification.from_config(AutoConfig.from_pretrained(name, **local, **outputs))
    except Exception as error:  # the hub's client raises errors of many kinds
        raise ModelError(_refusal(name, error, downloads=weights == "default")) from error
    try:
        processor = AutoImageProcessor.from_pretrained(name, **local).to_dict()
    except Exception:  # noqa: BLE001 - without a processor, the configuration gives the image size
        processor = {}
    hints = _preprocessing(processor, config.to_dict(), spec=f"hf:{name}")
    if processor.get("do_flip_channel_order"):
        module = _ReversedChannels(module)
    names = tuple(str(labels[number]) for number in sorted(labels))
    built = Built(module=module, hints=hints)
    if num_classes not in (None, len(labels)):
        built.warnings.append(f"the classifier of {num_classes} outputs is untrained: only the rest has weights")
    elif not all(label == f"LABEL_{number}" for number, label in enumerate(names)):
        built.class_names = names
    return built


class _ReversedChannels(nn.Module):
    """A model whose images have their channels in the order blue, green, red."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Any) -> Any:
        """Answer images N×3×H×W in the order red, green, blue."""
        return self.model(pixel_values=pixel_values.flip(1))


def _refusal(name: str, error: Exception, *, downloads: bool) -> str:
    if Path(name).is_dir():
        return f"hf:{name} is not an image classifier of transformers: {first_line(error)}"
    more = "" if downloads else "; `weights=default` downloads a repository, and nothing else does"
    return f"hf:{name} is neither a folder nor a repository in the local cache: {first_line(error)}{more}"


def _preprocessing(processor: Mapping[str, Any], config: Mapping[str, Any], *, spec: str) -> dict[str, Any]:
    """Return the fields of `Preprocessing` from an image processor, or else from the configuration."""
    hints: dict[str, Any] = {"channels": config.get("num_channels")}
    size = processor.get("size") or {}
    crop = processor.get("crop_size") if processor.get("do_center_crop") else None
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else None
    if crop:
        hints["image_size"] = _height_width(crop)
        hints["resize_size"] = shortest or min(_height_width(size))
    elif shortest:
        hints["image_size"] = (shortest, shortest)
        # ConvNeXt's: smaller images are resized by this share more, and cropped.
        squashed = processor.get("crop_pct") is None or shortest >= 384
        hints["resize_size"] = None if squashed else int(shortest / processor["crop_pct"])
    elif size:
        hints["image_size"], hints["resize_size"] = _height_width(size), None
    elif config.get("image_size") is not None:
        hints["image_size"] = config["image_size"]
    if not processor:
        return hints
    if processor.get("do_rescale", True) and abs(processor.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        msg = f"{spec} scales pixels by {processor['rescale_factor']}, not by 1/255: isplit cannot prepare such images"
        raise ModelError(msg)
    normalises = processor.get("do_normalize", False)
    hints["mean"] = tuple(processor["image_mean"]) if normalises else 0.0
    hints["std"] = tuple(processor["image_std"]) if normalises else 1.0
    hints["interpolation"] = _RESAMPLING.get(int(processor.get("resample", 2)))
    if hints["interpolation"] is None:
        msg = f"{spec} resizes with Pillow's filter {processor['resample']}, which isplit does not have"
        raise ModelError(msg)
    return hints


def _height_width(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size["height"], size["width"])
