"""Make a source of images that are files or contents of files, listed one by one with their labels."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from isplit.codec.image import decode_image
from isplit.design.inputs.source import Source, check_labels
from isplit.errors import DataError

_HASHED_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class EncodedImages:
    """One part of a data set: a label for each image, the content of its file, and its name in messages."""

    labels: Any
    read: Callable[[int], bytes]
    name_of: Callable[[int], str]


def encoded_source(
    parts: Mapping[str, EncodedImages],
    *,
    classes: Sequence[str] | None,
    spec: str,
    titles: Mapping[str, str] | None = None,
    notices: Sequence[str] = (),
) -> Source:
    """Make a source of the parts; its hash is over all labels, and the contents of 64 images, evenly spaced.

    Raises:
        DataError: The labels do not fit the classes, or an image cannot be read.

    """
    labels = [check_labels(part.labels, images=len(part.labels), classes=classes, spec=spec) for part in parts.values()]
    every_label = np.concatenate(labels)
    starts = np.cumsum([0, *map(len, labels)])
    of_parts = list(parts.values())

    def locate(index: int) -> tuple[EncodedImages, int]:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return of_parts[number], index - int(starts[number])

    def name_of(index: int) -> str:
        part, item = locate(index)
        return f"{spec}: {part.name_of(item)}"

    def content(index: int) -> bytes:
        part, item = locate(index)
        try:
            return part.read(item)
        except OSError as error:
            msg = f"{name_of(index)} cannot be read: {error.strerror or error}"
            raise DataError(msg) from error

    def read(index: int) -> Image.Image:
        return decode_image(io.BytesIO(content(index)), name=name_of(index))

    digest = hashlib.sha256(b"".join(f"{len(part)}:".encode() + part.tobytes() for part in labels))
    for index in range(0, len(every_label), 1 + len(every_label) // _HASHED_IMAGES):
        digest.update(content(index))
    return Source(
        classes=tuple(classes) if classes is not None else tuple(map(str, range(int(every_label.max()) + 1))),
        labels=every_label,
        parts={name: np.arange(start, stop) for name, start, stop in zip(parts, starts, starts[1:], strict=False)},
        read=read,
        name_of=name_of,
        sha256=digest.hexdigest(),
        titles=titles or {},
        notices=tuple(notices),
    )
