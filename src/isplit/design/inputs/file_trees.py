"""Read trees of files, from a directory or in place from a zip file."""

import contextlib
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isplit.design.inputs.files import check_bytes, file_sha256, open_zip
from isplit.errors import DataError
from isplit.records.files import read_limited
from isplit.text import display_name

MAX_MEMBER_BYTES = 2**28
"""The largest single file that is read."""
_MAX_FOLDERS = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class FileTree:
    """The files below a root.

    `files` maps each path ("/" between folders) to its size in bytes. `folders` are the paths of all folders. `read`
    returns the content of a file. `sha256` is the hash of the zip file, or None for a directory, where the files that
    are used are hashed one by one. `notices` say which files were left out because of their paths.
    """

    files: Mapping[str, int]
    folders: frozenset[str]
    read: Callable[[str], bytes]
    sha256: str | None
    notices: tuple[str, ...] = ()


def directory_tree(root: Path) -> FileTree:
    """List a directory; links are followed, hidden files and folders are left out.

    A link to a folder that it lies in is left out, because it would lead around without end. So is a link that leads
    nowhere, with a notice: tools that keep large files elsewhere leave such links until the files are fetched.

    Raises:
        DataError: There are too many folders, or nothing but links that lead nowhere.

    """
    files: dict[str, int] = {}
    folders: set[str] = set()
    dangling: list[str] = []
    above: dict[Path, frozenset[tuple[int, int]]] = {}  # folder -> the folders that it lies in, and itself
    for where, subfolders, names in os.walk(root, followlinks=True):
        folder = Path(where)
        here = above.pop(folder, frozenset()) | {_identity(folder)}
        subfolders[:] = [name for name in subfolders if not _is_hidden(name) and _identity(folder / name) not in here]
        above |= {folder / name: here for name in subfolders}
        if len(folders) > _MAX_FOLDERS:
            msg = f"{root} has more than {_MAX_FOLDERS:,} folders: do its links lead to folders of many links?"
            raise DataError(msg)
        below = folder.relative_to(root)
        folders.update((below / name).as_posix() for name in subfolders)
        for name in names:
            path = folder / name
            if _is_hidden(name):
                continue
            if path.is_file():
                files[(below / name).as_posix()] = path.stat().st_size
            elif path.is_symlink() and not path.exists():
                dangling.append((below / name).as_posix())

    def read(name: str) -> bytes:
        check_bytes(files[name], MAX_MEMBER_BYTES, name=f"{root / name}")
        return read_limited(root / name, limit_bytes=MAX_MEMBER_BYTES, kind="an image file", ordinary=True)

    notices: list[str] = []
    if dangling:
        links = "1 link leads" if len(dangling) == 1 else f"{len(dangling)} links lead"
        example = display_name(min(dangling))
        notices += [f"{root}: {links} to no file, for example {example}: fetch what they stand for, or remove them"]
        if not files:
            raise DataError(notices[0])
    return FileTree(files=files, folders=frozenset(folders), read=read, sha256=None, notices=tuple(notices))


def _identity(folder: Path) -> tuple[int, int]:
    """Return what two paths of the same folder have in common; that of a folder that cannot be read equals none."""
    try:
        status = folder.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def zip_tree(path: Path) -> FileTree:
    """List a zip file, to be read in place.

    Members with ".." in their paths are left out. Of several with one path the last is read, as programs that unpack
    the zip would do. A notice says so in both cases.

    Raises:
        DataError: The file is no zip file, one of its members is larger than `MAX_MEMBER_BYTES`, or all that are not
            hidden have ".." in their paths.

    """
    archive = open_zip(path)
    # One handle under a lock serves all threads: decoding the images, which takes longest, still runs in parallel.
    lock = threading.Lock()
    members: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    outside: list[str] = []
    replaced: list[str] = []
    infos = archive.infolist()
    backslashes = not any("/" in info.filename for info in infos)
    for info in infos:
        stored_name = _member_name(info, backslashes=backslashes)
        pieces = [piece for piece in stored_name.split("/") if piece not in ("", ".")]
        if not pieces or any(_is_hidden(piece) for piece in pieces if piece != ".."):
            continue
        name, is_folder = "/".join(pieces), stored_name.endswith("/")
        if ".." in pieces:
            outside += [] if is_folder else [name]
            continue
        check_bytes(info.file_size, MAX_MEMBER_BYTES, name=f"{path}: {name}")
        if not is_folder:
            replaced += [name] if name in members else []
            members[name] = info
        folder = name if is_folder else name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]

    if outside and not members:
        msg = f'{path}: all its files have ".." in their paths ({display_name(outside[0])}): {_FROM_INSIDE}'
        raise DataError(msg)

    def read(name: str) -> bytes:
        try:
            with lock:
                return archive.read(members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            msg = f"{path}: {name} cannot be read: {error}; make the zip again (plain deflate, no password)"
            raise DataError(msg) from error

    return FileTree(
        files={name: info.file_size for name, info in members.items()},
        folders=frozenset(folders),
        read=read,
        sha256=file_sha256(path),
        notices=_notices_of_paths(path, outside, replaced),
    )


_FROM_INSIDE = "make the zip again from inside the folder that holds them"


def _notices_of_paths(path: Path, outside: Sequence[str], replaced: Sequence[str]) -> tuple[str, ...]:
    """Say which members of a zip are not read, because their paths lead out of it or come again further on."""
    notices: list[str] = []
    if outside:
        files = "1 file has" if len(outside) == 1 else f"{len(outside)} files have"
        example = display_name(outside[0])
        notices.append(
            f'{path}: {files} ".." in the path and had to be left out, for example {example}: {_FROM_INSIDE}'
        )
    if replaced:
        names = "1 path" if len(set(replaced)) == 1 else f"{len(set(replaced))} paths"
        notices.append(
            f"{path}: {names} came more than once, and the last file of each was taken, for example "
            f"{display_name(replaced[0])}: rename the files if all are meant"
        )
    return tuple(notices)


_UTF8_FLAG = 0x800
_WRITTEN_ON_WINDOWS = 0


def _member_name(info: zipfile.ZipInfo, *, backslashes: bool) -> str:
    """Return the path of a zip's member with "/" between folders.

    Names without the flag for UTF-8 are UTF-8 all the same where macOS wrote them; the standard says code page 437.
    Some programs on Windows separate folders by backslashes, against the standard; `backslashes` says that no member
    of this zip has a slash.
    """
    name = info.filename
    if not info.flag_bits & _UTF8_FLAG:
        with contextlib.suppress(UnicodeError):  # then it is code page 437, as the standard says
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/") if backslashes or info.create_system == _WRITTEN_ON_WINDOWS else name


def _is_hidden(name: str) -> bool:
    """Return whether a file or folder is none of the user's: hidden, or written by a system beside the files."""
    return name.startswith((".", "__MACOSX")) or name in _OF_SYSTEMS


# Thumbnails and bins of network storage and Windows, and what a file system's check has found.
_OF_SYSTEMS = frozenset(("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
