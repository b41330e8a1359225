"""Open a bundle, and check the path, size and hash of every file against the manifest before it is used.

    manifest.json --BundleRecord--> files --size, SHA-256--> ONNX's references to other files --> Bundle

The manifest itself is trusted: whoever can replace it can replace the model. Nothing is unpickled, and no code is run.
"""

import os
import stat
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Self

from isplit.codec.codec import Codec
from isplit.errors import BundleError, StudyError
from isplit.records import BundledFile, BundleRecord
from isplit.records.base import LaterSchemaError
from isplit.records.directories import recover
from isplit.records.files import FileTooLargeError, resolved
from isplit.runtime.external_data import external_data

MAX_MANIFEST_BYTES = 2**24
"""Enough for about 100,000 class names."""
MAX_CODEC_BYTES = 2**26
"""Most bytes of a codec's unpacked arrays: rans tables of 100,000 channels."""

_AGAIN = "copy or export the bundle again"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A bundle's manifest and the place of its files; `open` makes one."""

    directory: Path
    record: BundleRecord = field(repr=False)
    _codecs: dict[str, Codec] = field(default_factory=dict[str, Codec], repr=False)

    @classmethod
    def open(cls, directory: str | Path, *, verify: bool = True) -> Self:
        """Read the manifest and check every file against it.

        With `verify` false, contents are not hashed, for a start in milliseconds with a bundle that was verified on
        the same disk before. Paths, sizes and references are checked all the same.

        Raises:
            BundleError: the directory is not a bundle; a file is missing, unknown, or has another size or content; or
                a path leads out of the bundle.

        """
        root = Path(directory)
        recover(root)
        try:
            record = _read_manifest(root)
            _check_present(root, record)
            for name, entry in record.files.items():
                _check_file(root, name, entry, verify=verify)
            for name in _models(record):
                _check_references(root, name, record)
        except OSError as error:
            msg = f"cannot read the bundle {root}: {error.filename or ''}: {error.strerror or error}"
            raise BundleError(msg) from error
        return cls(directory=root, record=record)

    @property
    def name(self) -> str:
        """The bundle's name. Models on the wire are called NAME.CUT and NAME.remote."""
        return self.record.name

    @property
    def local_path(self) -> Path | None:
        """The whole model for the device; None if the bundle does not hold it."""
        return self.directory / self.record.local.file if self.record.local else None

    @property
    def remote_path(self) -> Path | None:
        """The whole model for the server; None if the bundle does not hold it."""
        return self.directory / self.record.remote.file if self.record.remote else None

    def head_path(self, cut: str) -> Path:
        """Return the ONNX file of a cut's head; KeyError for an unknown cut."""
        return self.directory / self.record.cut(cut).head

    def tail_path(self, cut: str) -> Path:
        """Return the ONNX file of a cut's tail; KeyError for an unknown cut."""
        return self.directory / self.record.cut(cut).tail

    def codec(self, cut: str) -> Codec:
        """Return a cut's codec, which is loaded when first asked for; KeyError for an unknown cut.

        Raises:
            BundleError: the codec is damaged, or made for another model, cut or shape.

        """
        if cut not in self._codecs:
            self._codecs[cut] = self._load_codec(cut)
        return self._codecs[cut]

    def _load_codec(self, cut: str) -> Codec:
        placement = self.record.cut(cut)
        path = self.directory / placement.codec
        _check_unpacked(path)
        try:
            codec = Codec.load(path)
        except StudyError as error:
            msg = f"the codec of {cut} cannot be read: {error}"
            raise BundleError(msg) from error
        got = (codec.model, codec.cut, codec.shape)
        wanted = (self.record.model_fingerprint, cut, placement.latent_shape)
        if got != wanted:
            msg = f"{placement.codec} is the codec of {got}, the manifest says {wanted}: {_AGAIN}"
            raise BundleError(msg)
        return codec


def _read_manifest(root: Path) -> BundleRecord:
    path = root / BundleRecord.file_name
    if not path.is_file():
        msg = f"{root} is not a bundle: it has no {path.name}; `isplit export STUDY --cut C -o {root}` writes one"
        raise BundleError(msg)
    try:
        return BundleRecord.read(path, limit_bytes=MAX_MANIFEST_BYTES, ordinary=True)
    except LaterSchemaError as error:
        msg = f"{path} cannot be used: {error}"
        raise BundleError(msg) from error
    except FileTooLargeError as error:
        msg = f"{error}; {_AGAIN}"
        raise BundleError(msg) from error
    except ValueError as error:
        msg = f"{path} cannot be used: {error}; {_AGAIN}"
        raise BundleError(msg) from error


def _check_present(root: Path, record: BundleRecord) -> None:
    """Refuse unknown and missing files."""
    names_found: set[str] = set()
    for directory, subdirectories, names in os.walk(root, onerror=_reraise):
        here = Path(directory)
        for name in subdirectories:
            if (here / name).is_symlink():
                msg = f"{here / name} is a link to a directory: a bundle has none; {_AGAIN}"
                raise BundleError(msg)
        names_found |= {(here / name).relative_to(root).as_posix() for name in names}
    names_found.discard(record.file_name)
    if missing := sorted(record.files.keys() - names_found):
        msg = f"the bundle {root} has no {', '.join(missing)}: {_AGAIN}"
        raise BundleError(msg)
    if unknown := sorted(names_found - record.files.keys()):
        msg = f"the bundle {root} holds {', '.join(unknown)}, which its manifest does not list: remove it, or {_AGAIN}"
        raise BundleError(msg)


def _reraise(error: OSError) -> None:
    raise error


def _check_file(root: Path, name: str, entry: BundledFile, *, verify: bool) -> None:
    """Check that a file lies in the bundle, is an ordinary file, and has its size and then its hash."""
    path = root / name
    if not resolved(path).is_relative_to(resolved(root)):
        msg = f"{path} is a link to {resolved(path)}, outside the bundle: {_AGAIN}"
        raise BundleError(msg)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        msg = f"{path} is not an ordinary file: {_AGAIN}"
        raise BundleError(msg)
    if status.st_size != entry.bytes:
        msg = f"{path} has {status.st_size} bytes, the manifest says {entry.bytes}: {_AGAIN}"
        raise BundleError(msg)
    if verify and (got := BundledFile.of(path).sha256) != entry.sha256:
        msg = f"{path} has the SHA-256 {got}, the manifest says {entry.sha256}: it was changed or damaged; {_AGAIN}"
        raise BundleError(msg)


def _models(record: BundleRecord) -> list[str]:
    """Return every ONNX file, each once."""
    paths = [path for cut in record.cuts for path in (cut.head, cut.tail)]
    paths += [placement.file for placement in (record.local, record.remote) if placement]
    paths += record.segmented.files if record.segmented else ()
    return list(dict.fromkeys(paths))


def _check_references(root: Path, name: str, record: BundleRecord) -> None:
    """Refuse an ONNX file that refers to a file which the manifest does not list."""
    parent = PurePosixPath(name).parent
    for reference in external_data(root / name):
        # The path must be written in exactly this form: no "..", no absolute path, nothing that two readers could read
        # differently.
        target = record.files.get(str(parent / reference.location)) if reference.location else None
        if target is None or ".." in PurePosixPath(reference.location).parts:
            msg = f"{name} reads weights from {reference.location!r}, which is not a file of the bundle: {_AGAIN}"
            raise BundleError(msg)
        if reference.end > target.bytes:
            msg = f"{name} reads up to byte {reference.end} of {reference.location}, which has {target.bytes}: {_AGAIN}"
            raise BundleError(msg)


def _check_unpacked(path: Path) -> None:
    """Refuse a codec that would unpack to more than any codec needs."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"{path} is not a codec: {error}; {_AGAIN}"
        raise BundleError(msg) from error
    if size > MAX_CODEC_BYTES:
        msg = f"{path} unpacks to {size} bytes, a codec to at most {MAX_CODEC_BYTES}: {_AGAIN}"
        raise BundleError(msg)
