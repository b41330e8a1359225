"""Yield images from files, folders, videos and a camera, as (name, image) pairs on demand."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from isplit.codec.image import IMAGE_SUFFIXES
from isplit.codec.image_kinds import unread_files
from isplit.errors import DataError, InputError, needs_extra
from isplit.records.files import check_ordinary
from isplit.runtime.edge.pictures import NoPicture, Picture

VIDEO_SUFFIXES = frozenset(".mp4 .avi .mkv .mov .webm .m4v".split())

NamedPictures = Iterator[tuple[str, Picture | NoPicture]]


def open_sources(names: list[str], *, notify: Callable[[str], None] | None = None) -> NamedPictures:
    """Yield the images of all sources, one after the other, each named by its path (and frame).

    A source is an image file, a folder (its image files and those of its subfolders, in the order of their paths), a
    video file, "camera" or "camera:N". All sources are checked before the first image. Every file in a folder with an
    image's suffix is yielded, including dangling links, because the caller has to answer for each. A video that gives
    no frame, or stops with an error, yields one `NoPicture`, and the next source follows.

    Args:
        names: The sources.
        notify: Is told which files of a folder are left out because images of their kind are not read (HEIC, AVIF).

    Raises:
        InputError: a source does not exist or cannot be read, or a folder holds no image.
        DataError: a camera or a video cannot be opened, or a camera stops.
        MissingExtraError: a source is a video or a camera, and OpenCV is not installed.

    """
    # This is a list, so that the last source is checked before the first is read.
    sources = [_open(name, notify) for name in names]
    return (pair for source in sources for pair in source)


def _open(name: str, notify: Callable[[str], None] | None) -> NamedPictures:
    kind, _, number = name.partition(":")
    if kind == "camera" and (not number or (number.isascii() and number.isdecimal())):
        return _camera(name, _capture(int(number or 0), name))
    path = Path(name)
    try:
        path.stat()
    except FileNotFoundError as error:
        msg = f"there is no {path}; give image files, folders, a video, or 'camera'"
        raise InputError(msg) from error
    except (OSError, ValueError) as error:  # ValueError: the name has a NUL byte
        _refuse(path, error)
    if path.is_dir():
        every_file = _files(path)
        files = [file for file in every_file if file.suffix.lower() in IMAGE_SUFFIXES]
        kinds = unread_files(map(str, every_file))
        if not files:
            others = f"; it has {kinds}, which are not read" if kinds else ""
            msg = f"{path} holds no image ({' '.join(sorted(IMAGE_SUFFIXES))}){others}; give another folder, or files"
            raise InputError(msg)
        if kinds and notify is not None:
            notify(f"{path}: files of kinds that are not read are left out ({kinds}): convert them to PNG or JPEG")
        return ((str(file), file) for file in files)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        try:
            check_ordinary(path)  # OpenCV would wait for somebody to write into a pipe
        except OSError as error:
            _refuse(path, error)
        return _video(name, _capture(str(path), name))
    return iter([(name, path)])


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, in the order of their paths.

    Raises:
        InputError: a folder cannot be read, so that its images would get no answer.

    """

    def refuse(error: OSError) -> NoReturn:
        _refuse(error.filename or folder, error)

    files: list[Path] = []
    for directory, _, names in os.walk(folder, onerror=refuse):
        files += [Path(directory, name) for name in names]
    return sorted(files)


def _refuse(path: object, error: OSError | ValueError) -> NoReturn:
    msg = f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
    raise InputError(msg) from error


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
        # Old frames are of no use, because a slow device should see what is there now.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _camera(name: str, capture: Any) -> NamedPictures:
    """Yield frames until the camera stops.

    Raises:
        DataError: it stopped, which a camera does only after a fault.

    """
    count = 0
    for frame in _frames(name, capture):
        yield f"{name}#{count}", frame
        count += 1
    msg = f"{name} stopped after {count} pictures: was it unplugged?"
    raise DataError(msg)


def _video(name: str, capture: Any) -> NamedPictures:
    """Yield a video's frames, and one NoPicture if it gives none or fails in the middle."""
    count = 0
    try:
        for frame in _frames(name, capture):
            yield f"{name}#{count}", frame
            count += 1
    except DataError as error:
        yield f"{name}#{count}", NoPicture(reason=str(error))
        return
    if count == 0:
        yield name, NoPicture(reason=f"{name} gave no picture: it is no video, or damaged")


def _frames(name: str, capture: Any) -> Iterator[NDArray[np.uint8]]:
    """Yield RGB frames until there are no more.

    Raises:
        DataError: OpenCV failed.

    """
    try:
        while True:
            try:
                is_frame, frame = capture.read()
            except Exception as error:  # cv2.error, a class that exists only where OpenCV is installed
                msg = f"{name} cannot be read on: {' '.join(str(error).split())[:300]}"
                raise DataError(msg) from error
            if not is_frame:
                return
            yield np.ascontiguousarray(frame[:, :, ::-1])  # OpenCV's order is BGR
    finally:
        capture.release()
