"""List labelled images of a folder with one subfolder for each class of the bundle."""

from dataclasses import dataclass
from pathlib import Path

from isplit.codec.image import IMAGE_SUFFIXES
from isplit.errors import DataError, InputError
from isplit.text import display_name


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Image files in an order in which classes take turns, and the class of each by its path."""

    paths: tuple[str, ...]
    classes: dict[str, str]


def read_labelled_images(folder: Path, classes: tuple[str, ...], *, limit: int | None = None) -> LabelledImages:
    """List the images of a folder that has a subfolder for each class, or for some of them.

    Args:
        folder: The folder.
        classes: The bundle's classes.
        limit: Take at most so many images, as many of each class as possible.

    Raises:
        InputError: the folder cannot be read.
        DataError: a subfolder is no class of the bundle, or there is no image.

    """
    try:
        subfolders = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        msg = f"cannot read {folder}: {error.strerror or error}; give a folder with a subfolder for each class"
        raise InputError(msg) from error
    subfolders = [path for path in subfolders if not path.name.startswith(".")]
    known = [path for path in subfolders if display_name(path.name) in classes]
    if not known:
        names = ", ".join(display_name(path.name) for path in subfolders[:5]) or "none"
        msg = (
            f"{folder} has no subfolder that is named after a class of the bundle (it has: {names}; the classes begin "
            f"with {', '.join(classes[:5])}): accuracy needs labelled images"
        )
        raise DataError(msg)
    if strange := [name for path in subfolders if (name := display_name(path.name)) not in classes]:
        msg = f"{folder} has the subfolder {strange[0]!r}, which is no class of the bundle: remove it, or rename it"
        raise DataError(msg)
    files = [[path for path in sorted(subfolder.iterdir()) if _is_image(path)] for subfolder in known]
    longest = max(len(of_class) for of_class in files)
    turns = [of_class[index] for index in range(longest) for of_class in files if index < len(of_class)]
    if not turns:
        msg = f"{folder} has no image in the subfolders of its classes"
        raise DataError(msg)
    chosen = turns[:limit]
    return LabelledImages(
        paths=tuple(str(path) for path in chosen),
        classes={str(path): display_name(path.parent.name) for path in chosen},
    )


def _is_image(path: Path) -> bool:
    """Return whether a file is an image of the user's; macOS leaves hidden ones beside the files that it copies."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
