"""Read data sets of libraries or of a user's function: torchvision's, scikit-learn's digits, factories."""

import hashlib
import inspect
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from isplit.design.inputs.array_files import array_source
from isplit.design.inputs.item_sets import read_sets
from isplit.design.inputs.source import Source, choose_parts, close_match
from isplit.design.inputs.user_code import call_factory, import_factory
from isplit.errors import DataError, needs_extra

_UNDIVIDED = {"all": {}}
_TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
_TRAIN_TEST = {part: {"split": part} for part in ("train", "test")}
_TRAIN_VAL = {part: {"split": part} for part in ("train", "val")}
_TRAIN_VAL_TEST = {part: {"split": part} for part in ("train", "val", "test")}

TORCHVISION_SETS: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"), _TRAIN_FLAG),
    **dict.fromkeys(("Food101", "GTSRB", "STL10", "SVHN", "StanfordCars"), _TRAIN_TEST),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), _TRAIN_VAL_TEST),
    **dict.fromkeys(("ImageNet", "Imagenette"), _TRAIN_VAL),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION"), _UNDIVIDED),
    "Country211": {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
}
"""torchvision's classification sets: their parts and the arguments that select each."""


def read_torchvision(name: str, *, spec: str, split: str | None, root: Path | None) -> Source:
    """Read one of torchvision's sets from `root`, where it is downloaded to if it is not there.

    Without a root, the sets are in a folder of the user's cache.

    Raises:
        DataError: torchvision has no such set, or it could not be downloaded or read.
        MissingExtraError: torchvision is not installed.

    """
    with needs_extra("design"):
        import torchvision
    if name not in TORCHVISION_SETS:
        hint = close_match(name, TORCHVISION_SETS, prefix="torchvision:")
        msg = f"torchvision has no classification data {name!r}{hint}; there are {', '.join(TORCHVISION_SETS)}"
        raise DataError(msg)
    set_class = getattr(torchvision.datasets, name)
    download = {"download": True} if "download" in inspect.signature(set_class).parameters else {}
    root = root or _default_data_root()
    part_arguments = TORCHVISION_SETS[name]
    sets = {}
    for part in choose_parts(part_arguments, split=split, spec=spec):
        try:
            root.mkdir(parents=True, exist_ok=True)
            sets[part] = set_class(root, **part_arguments[part], **download)
        except (
            OSError,
            RuntimeError,
            ValueError,
            EOFError,
            ImportError,
            tarfile.TarError,
            zipfile.BadZipFile,
        ) as error:
            reason = " ".join(str(error).split())
            msg = (
                f"{spec} ({part}) could not be downloaded to or read from {root}: {reason}; put its files "
                f"there yourself, as torchvision.datasets.{name} expects them, or pass another data root"
            )
            raise DataError(msg) from error
    return read_sets(sets, spec=spec)


def _default_data_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "isplit" / "data"


def read_digits(*, spec: str, split: str | None) -> Source:
    """Read the 1,797 grey images of digits, 8×8, that scikit-learn brings with it.

    Raises:
        DataError: A split is given; the set has none.
        MissingExtraError: scikit-learn is not installed.

    """
    with needs_extra("design"):
        from sklearn.datasets import load_digits
    choose_parts(["all"], split=split, spec=spec)
    digits: Any = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 0 to 16
    labels = digits.target.astype(np.int64)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return array_source({"all": (images, labels)}, classes=None, spec=spec, sha256=digest)


def read_factory(*, spec: str, split: str | None) -> Source:
    """Read the set that a user's function returns; `spec` is `./file.py:name` or `package.module:name`.

    Raises:
        DataError: The function cannot be imported or fails, or what it returns is no set of images and labels.

    """
    choose_parts(["all"], split=split, spec=spec)
    items = call_factory(import_factory(spec, error=DataError), spec=spec, error=DataError)
    return read_sets({"all": items}, spec=spec)
