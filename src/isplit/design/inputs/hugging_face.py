"""Read data sets of the Hugging Face `datasets` library: saved folders, sets of the hub, and objects in memory."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isplit.design.inputs.encoded_images import EncodedImages, encoded_source
from isplit.design.inputs.source import Source, choose_parts, part_name
from isplit.errors import DataError, needs_extra
from isplit.records.files import LARGEST_IMAGE_BYTES, read_limited
from isplit.text import display_name

_OPTIONS = ("config", "image", "label", "download")


def read_hugging_face(rest: str, *, spec: str, split: str | None) -> Source:
    """Read `DIR` (of `save_to_disk`, or of data files) or a set's `NAME`, with options after commas.

    The options are `config=NAME`, `image=COLUMN`, `label=COLUMN`, and `download=yes`. Without the last, only what is on
    this machine is read.

    Raises:
        DataError: The set is not there or cannot be read, or its columns of images and labels cannot be told.
        MissingExtraError: The library is not installed.

    """
    with needs_extra("hfdata"):
        import datasets
    where, *words = rest.split(",")
    options = {key: value for key, _, value in (word.partition("=") for word in words)}
    if not where or not set(options) <= set(_OPTIONS) or options.get("download", "no") not in ("yes", "no"):
        msg = f"{spec!r} is not understood: give hfdata:DIR_OR_NAME, with {', '.join(f'{key}=...' for key in _OPTIONS)}"
        raise DataError(msg)
    path = Path(where).expanduser()
    saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        if saved:
            value: Any = datasets.load_from_disk(str(path))
        else:
            with _offline(on=options.get("download") != "yes"):
                value = datasets.load_dataset(str(path) if path.is_dir() else where, options.get("config"))
    except Exception as error:  # the library raises its own exceptions, and those of many others
        reason = " ".join(str(error).split())[:300]
        hint = "" if saved or options.get("download") == "yes" else "; add ',download=yes' to fetch it from the hub"
        msg = f"{spec} cannot be read: {type(error).__name__}: {reason}{hint}"
        raise DataError(msg) from error
    return hugging_face_source(value, spec=spec, split=split, image=options.get("image"), label=options.get("label"))


@contextmanager
def _offline(*, on: bool) -> Generator[None]:
    """Keep the library from using the network in the block."""
    from datasets import config
    from huggingface_hub import constants

    before = (config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    try:
        if on:
            config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def is_hugging_face(value: Any) -> bool:
    """Return whether an object is a data set of the library (or a dictionary of them), without importing it."""
    return any(base.__module__.split(".")[0] == "datasets" for base in type(value).__mro__)


def hugging_face_source(
    value: Any, *, spec: str, split: str | None, image: str | None = None, label: str | None = None
) -> Source:
    """Make a source of a `datasets.Dataset`, or of a `DatasetDict` with its splits as parts.

    Images are decoded from the bytes that the set holds, by the function that decodes files.

    Raises:
        DataError: The set is a stream, has no or several columns of images or labels, or no labels but -1.

    """
    if isinstance(value, Mapping):
        sets = {part_name(str(name)) or str(name): part for name, part in value.items()}
    else:
        sets = {"all": value}
    sets = {part: sets[part] for part in choose_parts(sets, split=split and (part_name(split) or split), spec=spec)}
    notices: list[str] = []
    parts: dict[str, EncodedImages] = {}
    classes: tuple[str, ...] | None = None
    for part, items in sets.items():
        if not hasattr(items, "__len__"):
            msg = f"{spec} is a stream ({type(items).__name__}), of which no image can be read twice: load it whole"
            raise DataError(msg)
        image_column = _image_column(items.features, image, spec=spec)
        label_column = _label_column(items.features, label, spec=spec)
        labels, names = _labels_of(items, label_column, spec=spec)
        if (labels == -1).all():
            notices.append(f"{spec}: the part {part} has no labels (all are -1) and was left out")
            continue
        if parts and names != classes:
            msg = f"{spec}: the parts have different classes: give all of them the same"
            raise DataError(msg)
        classes = names
        parts[part] = _encoded(items, image_column, labels, part)
    if not parts:
        msg = f"{spec} has no labels: all are -1"
        raise DataError(msg)
    return encoded_source(parts, classes=classes, spec=spec, notices=notices)


def _encoded(items: Any, column: str, labels: Any, part: str) -> EncodedImages:
    import datasets

    raw = items.cast_column(column, datasets.Image(decode=False))

    def read(item: int) -> bytes:
        stored = raw[item][column]
        return stored["bytes"] if stored["bytes"] is not None else _image_bytes(Path(stored["path"]))

    return EncodedImages(labels=labels, read=read, name_of=lambda item: f"{part}, row {item}")


def _image_column(features: Mapping[str, Any], wanted: str | None, *, spec: str) -> str:
    matches = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    return _only(matches, wanted, ("image", "img"), features, what="images", option="image", spec=spec)


def _label_column(features: Mapping[str, Any], wanted: str | None, *, spec: str) -> str:
    matches = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if not matches:
        matches = [name for name in features if name in ("label", "labels", "target", "class")]
    if wanted is not None and wanted in features:
        return wanted
    return _only(matches, wanted, (), features, what="labels", option="label", spec=spec)


def _only(
    matches: list[str],
    wanted: str | None,
    usual: tuple[str, ...],
    features: Mapping[str, Any],
    *,
    what: str,
    option: str,
    spec: str,
) -> str:
    if wanted is None and len(matches) > 1:
        matches = [name for name in matches if name in usual] or matches
    if wanted is not None:
        matches = [name for name in matches if name == wanted]
    if len(matches) == 1:
        return matches[0]
    problem = f"several columns of {what} ({', '.join(matches)})" if matches else f"no such column of {what}"
    msg = f"{spec} has {problem}; its columns are {', '.join(features)}: name one with ',{option}=COLUMN'"
    raise DataError(msg)


def _labels_of(items: Any, column: str, *, spec: str) -> tuple[Any, tuple[str, ...] | None]:
    """Return the labels (N), and the names of the classes if the set has names."""
    values = list(items[column])
    names = getattr(items.features[column], "names", None)
    if names is not None or all(isinstance(value, int | np.integer) for value in values):
        return np.array(values), None if names is None else tuple(map(display_name, names))
    if all(isinstance(value, str) for value in values):
        classes = tuple(sorted(set(values)))
        number_of = {name: number for number, name in enumerate(classes)}
        return np.array([number_of[value] for value in values]), tuple(map(display_name, classes))
    msg = f"{spec}: the column {column!r} holds neither whole numbers nor names: name another with ',label=COLUMN'"
    raise DataError(msg)


def _image_bytes(path: Path) -> bytes:
    return read_limited(path, limit_bytes=LARGEST_IMAGE_BYTES, kind="an image file", ordinary=True)
