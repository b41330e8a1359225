"""isplit.design.inputs.file_trees: zips are read in place, from several threads, and bad ones are refused."""

import struct
import threading
import warnings
import zipfile

import numpy as np
import pytest

from isplit.design.inputs import file_trees
from isplit.design.inputs.data import open_data
from isplit.errors import DataError


def test_zip_is_read_from_several_threads(tmp_path, pixels, class_files, write_zip):
    """Threads that read one zip at once get the right images."""
    dataset = open_data(str(write_zip(tmp_path / "a.zip", class_files())))
    wrong = []

    def read():
        wrong.extend(i for i in range(20) if not np.array_equal(pixels(i % 10), np.asarray(dataset.image(i))))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong


def test_corrupt_zip(tmp_path, class_files, write_zip):
    """A file that is no zip, and a member whose bytes changed, are errors that name them."""
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DataError, match=r"a\.zip cannot be read as a zip"):
        open_data(str(path))

    write_zip(path, class_files())
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cat/00\.png cannot be read"):
        open_data(str(path)).image(0)


def test_encrypted_zip_member(tmp_path, class_files, write_zip):
    """A member that needs a password is an error that says so."""
    path = write_zip(tmp_path / "a.zip", class_files())
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the local header's encryption flag
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and the directory's
    path.write_bytes(content)

    with pytest.raises(DataError, match="password"):
        open_data(str(path)).image(0)


def test_hostile_zip(tmp_path, class_files, write_zip):
    """A member that would decode to more than the limit is refused on opening."""
    path = write_zip(tmp_path / "a.zip", class_files())
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory
    content[at : at + 4] = struct.pack("<I", file_trees.MAX_MEMBER_BYTES + 1)
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"cat/00\.png would take 268435457 bytes"):
        open_data(str(path))


def test_zip_paths_do_not_escape(tmp_path, png, class_files, write_zip):
    """Nothing is extracted: a member called ../x is left out, with a notice."""
    (tmp_path / "data").mkdir()
    path = write_zip(tmp_path / "data" / "a.zip", class_files() | {"cat/../../../evil.png": png()})

    dataset = open_data(str(path))

    assert 20 == len(dataset)
    assert (
        f'{path}: 1 file has ".." in the path and had to be left out, for example cat/../../../evil.png: '
        "make the zip again from inside the folder that holds them"
    ) in dataset.notices
    assert ["a.zip"] == [path.name for path in (tmp_path / "data").iterdir()]
    assert ["data"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("system", [0, 3])
def test_zip_with_backslashes(tmp_path, pixels, class_files, system):
    """Programs on Windows that separate folders by backslashes are understood, folders of their own included."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in ({"pets\\": b"", "pets\\cat\\": b""} | class_files("pets/")).items():
            info = zipfile.ZipInfo(name.replace("/", "\\"))
            info.create_system = system
            archive.writestr(info, content)

    dataset = open_data(str(path))

    assert ("cat", "dog") == dataset.classes
    np.testing.assert_array_equal(pixels(3), np.asarray(dataset.image(13)))


def test_backslashes_beside_slashes(tmp_path, class_files, write_zip):
    """In a zip that separates folders by slashes, a backslash is part of a name."""
    files = class_files() | class_files(classes=("a\\b",))

    assert ("a\\b", "cat", "dog") == open_data(str(write_zip(tmp_path / "a.zip", files))).classes


def test_zip_names_that_start_at_the_folder(tmp_path, class_files, write_zip):
    """A leading "./" is no hidden folder."""
    assert 20 == len(open_data(str(write_zip(tmp_path / "a.zip", class_files("./")))))


def test_zip_names_in_utf8_without_the_flag(tmp_path, class_files, write_zip):
    """Names in UTF-8 are read where the zip does not say so, as in those that macOS writes."""
    path = write_zip(tmp_path / "a.zip", class_files(classes=("cafe\u0301", "tea")))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset + 1] &= ~0x08
            at = content.find(signature, at + 4)
    path.write_bytes(content)

    assert ("caf\u00e9", "tea") == open_data(str(path)).classes


def test_zip_of_another_folder(tmp_path, class_files, write_zip):
    """`zip -r a.zip ../photos` writes ".." into every path: no wonder that there are no images, so it is said."""
    path = write_zip(tmp_path / "a.zip", class_files("../photos/"))

    with pytest.raises(DataError, match=r'all its files have "\.\." in their paths \(\.\./photos/cat/00\.png\): make'):
        open_data(str(path))


@pytest.mark.parametrize("again", ["cat/00.png", "./cat//00.png"])
def test_zip_with_a_path_twice(tmp_path, pixels, class_files, write_zip, again):
    """The last file of a path counts, in whatever way the path is written, and a notice says so."""
    files = class_files()
    path = write_zip(tmp_path / "a.zip", files)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the second path, from the module that writes it
        archive.writestr(again, files["cat/07.png"])

    dataset = open_data(str(path))

    assert 20 == len(dataset)
    np.testing.assert_array_equal(pixels(7), np.asarray(dataset.image(0)))
    assert (
        f"{path}: 1 path came more than once, and the last file of each was taken, for example cat/00.png: rename the "
        "files if all are meant"
    ) in dataset.notices


def test_notices_of_paths_beside_a_table(tmp_path, png, class_files, write_zip):
    """A zip with a labels.csv has them as well; hidden files are left out without a word."""
    files = class_files()
    table = "path,label\n" + "".join(f"{name},{name[:3]}\n" for name in files)
    more = {"labels.csv": table.encode(), "../a.png": png(), "../b.png": png(), "../.c.png": png(), "__MACOSX/d": b""}
    path = write_zip(tmp_path / "a.zip", files | more)

    notices = [notice for notice in open_data(str(path)).notices if '".."' in notice]

    assert 1 == len(notices)
    assert '2 files have ".." in the path and had to be left out, for example ../a.png' in notices[0]


def test_links_that_lead_nowhere(tmp_path, class_files):
    """Images that were not fetched are said; where none was, the folder is refused for that reason."""
    for name, content in class_files().items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
        (tmp_path / "links" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "links" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "set/cat/later.png").symlink_to(tmp_path / "elsewhere.png")

    dataset = open_data(str(tmp_path / "set"))

    assert [f"{tmp_path / 'set'}: 1 link leads to no file, for example cat/later.png"] == [
        notice.rpartition(":")[0] for notice in dataset.notices
    ]
    assert 20 == len(dataset)
    with pytest.raises(DataError, match=r"20 links lead to no file, for example cat/00\.png: fetch"):
        open_data(str(tmp_path / "links"))
