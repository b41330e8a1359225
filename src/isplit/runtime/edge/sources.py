"""Where images come from: files, folders, videos, a camera. Each yields (name, image) pairs, one when it is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isplit.errors import DataError, InputError, needs_extra
from isplit.runtime.edge.pictures import Picture

IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .webp .bmp .tif .tiff .gif .ppm .pgm".split())
VIDEO_SUFFIXES = frozenset(".mp4 .avi .mkv .mov .webm .m4v".split())

NamedPictures = Iterator[tuple[str, Picture]]


def open_sources(names: list[str]) -> NamedPictures:
    """Yield the images of all sources, one after the other, each named by its path (and frame).

    A source is an image file, a folder (its image files and its subfolders', in order of their paths), a video file,
    "camera" or "camera:N". That all of them are there is checked before the first image.

    Raises:
        InputError: a source is not there, or a folder holds no image.
        MissingExtraError: a video or a camera, and OpenCV is not installed.

    """
    sources = [_open(name) for name in names]  # a list: so that the last one is checked before the first is read
    return (pair for source in sources for pair in source)


def _open(name: str) -> NamedPictures:
    kind, _, number = name.partition(":")
    if kind == "camera" and (not number or number.isdecimal()):
        return _frames(name, _capture(int(number or 0), name), endless=True)
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not files:
            msg = f"{path} holds no image ({' '.join(sorted(IMAGE_SUFFIXES))}); give another folder, or files"
            raise InputError(msg)
        return ((str(file), file) for file in files)
    if not path.exists():
        msg = f"there is no {path}; give image files, folders, a video, or 'camera'"
        raise InputError(msg)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _frames(name, _capture(str(path), name), endless=False)
    return iter([(name, path)])


def _capture(source: int | str, name: str) -> Any:
    """Open a camera or a video.

    Raises:
        MissingExtraError: OpenCV is not installed.
        DataError: it cannot be opened.

    """
    with needs_extra("camera"):
        import cv2
    capture: Any = cv2.VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        msg = f"{name} cannot be opened: " + (
            "is it connected, and may this user read it?" if isinstance(source, int) else "it is no video, or damaged"
        )
        raise DataError(msg)
    if isinstance(source, int):
        # Old frames are of no use: a slow device is to see what is there now.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _frames(name: str, capture: Any, *, endless: bool) -> NamedPictures:
    """Yield frames as RGB until there are no more.

    Raises:
        DataError: there is not even one, or an endless source (a camera) ends.

    """
    number = 0
    try:
        while True:
            got, frame = capture.read()
            if not got:
                break
            yield f"{name}#{number}", np.ascontiguousarray(frame[:, :, ::-1])  # OpenCV's order is BGR
            number += 1
    finally:
        capture.release()
    if endless:
        msg = f"{name} stopped after {number} pictures: was it unplugged?"
        raise DataError(msg)
    if number == 0:
        msg = f"{name} gave no picture: it is no video, or damaged"
        raise DataError(msg)
