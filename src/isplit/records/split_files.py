"""Write the files of a split so that split.json and the weights that it was measured with always belong together.

splits/NAME/split.json                         names the two others, and is written last splits/NAME/weights-<16 digits
of SHA-256>.safetensors splits/NAME/codec-<16 digits of SHA-256>.npz

New weights get a new name, so the old ones stay until split.json names the new ones. If a process is killed at any
moment, the folder holds the complete old or new split. Afterwards, files that split.json does not name are removed.
"""

import contextlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isplit.errors import DamagedSplitWarning, StudyError
from isplit.records.files import FileTooLargeError, read_limited, sync_directory, write_whole
from isplit.records.splits import SplitFile, SplitRecord

SPLITS = "splits"
"""The folder of a study that holds its splits, each in a folder of its own."""

LARGEST_WEIGHTS_BYTES = 64 * 2**30
"""The largest file of a split's weights that is read if split.json does not give their size."""
LARGEST_CODEC_BYTES = 2**26
"""The largest codec, as a file and unpacked: rans tables of 100,000 channels."""

_Part = Literal["weights", "codec"]
_SUFFIXES: dict[_Part, str] = {"weights": ".safetensors", "codec": ".npz"}
_LIMITS: dict[_Part, int] = {"weights": LARGEST_WEIGHTS_BYTES, "codec": LARGEST_CODEC_BYTES}

# Files of this and of earlier versions, and what a killed `write_whole` leaves of them.
_OURS = re.compile(
    r"(weights|codec)(-[0-9a-f]{16})?\.(safetensors|npz)"
    r"|\.[-.0-9a-z]+\.[0-9a-f]{16}"
)
_ATTEMPTS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitContent:
    """The content of a split's files: its record, its weights and its codec."""

    record: SplitRecord
    weights: bytes
    codec: bytes


def write_split_files(directory: Path, record: SplitRecord, *, weights: bytes, codec: bytes) -> SplitRecord:
    """Write a split's files, and return its record, which names them. Only one process may write into a folder.

    Raises:
        StudyError: a file cannot be written; the split that was there is still there.

    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make {directory}: {error.strerror or error}"
        raise StudyError(msg) from error
    files: dict[str, SplitFile] = {}
    contents: dict[_Part, bytes] = {"weights": weights, "codec": codec}
    for part, content in contents.items():
        file = SplitFile.of(content, part=part, suffix=_SUFFIXES[part])
        write_whole(directory / file.name, content)
        files[part] = file
    record = record.model_copy(update=files)
    record.save(directory)
    sync_directory(directory.parent)
    _remove_unnamed(directory, {file.name for file in files.values()})
    return record


def read_split_files(directory: Path) -> SplitContent:
    """Read a split's files and check them against split.json.

    Splits of earlier versions, whose record names no files, have fixed names and no hash.

    Raises:
        StudyError: a file is missing, damaged, or not the one that split.json names.

    """
    record = SplitRecord.load(directory)
    for _ in range(_ATTEMPTS):
        try:
            return SplitContent(
                record=record,
                weights=_content(directory, record, "weights"),
                codec=_content(directory, record, "codec"),
            )
        except OSError as error:
            # Another process may have written a new split meanwhile, and removed the files of this one.
            newer = SplitRecord.load(directory)
            if newer == record:
                reason = f"{error.filename}: {error.strerror or error}"
                msg = f"the split {directory} is damaged ({reason}); {_again(directory)}"
                raise StudyError(msg) from error
            record = newer
    msg = f"{directory} is being written again and again: wait for that to end"
    raise StudyError(msg)


def split_records(study: Path) -> dict[Path, SplitRecord]:
    """Return the records of a study's splits by their folders; one that cannot be read is left out with a warning.

    Warns:
        DamagedSplitWarning: for each split that cannot be read, with the reason and what to do.

    """
    records: dict[Path, SplitRecord] = {}
    for path in sorted((study / SPLITS).glob(f"*/{SplitRecord.file_name}")):
        try:
            records[path.parent] = SplitRecord.load(path.parent)
        except StudyError as error:
            warnings.warn(f"a split was left out: {error}", DamagedSplitWarning, stacklevel=2)
    return records


def _content(directory: Path, record: SplitRecord, part: _Part) -> bytes:
    file: SplitFile | None = getattr(record, part)
    path = directory / (file.name if file else f"{part}{_SUFFIXES[part]}")
    try:
        content = read_limited(
            path,
            limit_bytes=file.bytes if file else _LIMITS[part],
            kind=f"this split's {part}",
            ordinary=True,
        )
    except FileTooLargeError as error:
        msg = f"the split {directory} is damaged ({error}); {_again(directory)}"
        raise StudyError(msg) from error
    if file is not None and file != SplitFile.of(content, part=part, suffix=_SUFFIXES[part]):
        msg = f"the split {directory} is damaged ({path.name} is not what split.json names); {_again(directory)}"
        raise StudyError(msg)
    return content


def _again(directory: Path) -> str:
    return SplitRecord.remedy.format(directory=directory)


def tidy_split(directory: Path) -> None:
    """Remove what killed processes left in a split's folder; nobody may be writing into it.

    Files that a record which cannot be read may name stay.
    """
    named: set[str] = set()
    if (directory / SplitRecord.file_name).exists():
        try:
            record = SplitRecord.load(directory)
        except StudyError:
            return
        for part, suffix in _SUFFIXES.items():
            file: SplitFile | None = getattr(record, part)
            named.add(file.name if file else f"{part}{suffix}")
    _remove_unnamed(directory, named)


def _remove_unnamed(directory: Path, named: set[str]) -> None:
    with contextlib.suppress(OSError):  # they do no harm
        for path in directory.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)
