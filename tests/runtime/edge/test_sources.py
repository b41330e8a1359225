"""Images from files, folders, and videos; a camera is a video that does not end."""

import os
import sys
import types

import numpy as np
import pytest
from PIL import Image

from isplit.errors import DataError, InputError, MissingExtraError
from isplit.runtime.edge.sources import open_sources

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 240)]


def picture(path, colour=(1, 2, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), colour).save(path)
    return path


@pytest.fixture
def cv2():
    """OpenCV, or no test."""
    return pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'isplit[camera]'")


@pytest.fixture
def video(cv2, tmp_path):
    """A video of four frames, one colour each."""
    path = tmp_path / "colours.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG, so there is no video to read")
    for colour in COLOURS:
        writer.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    writer.release()
    return path


def test_files_and_folders(tmp_path):
    """Files come as given; of a folder the image files, subfolders too, in order of their paths."""
    single = picture(tmp_path / "z.png")
    inside = [picture(tmp_path / "folder" / name) for name in ("a.JPG", "b/c.webp", "d.png")]
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    sources = list(open_sources([str(single), str(tmp_path / "folder")]))
    assert [(str(path), path) for path in (single, *inside)] == sources


def test_video(video):
    """A video's frames come as RGB, named by their numbers."""
    frames = list(open_sources([str(video)]))
    assert [f"{video}#{number}" for number in range(4)] == [name for name, _ in frames]
    for (_, frame), colour in zip(frames, COLOURS, strict=True):
        assert (48, 64, 3) == frame.shape
        np.testing.assert_allclose(frame.mean((0, 1)), colour, atol=8)  # MJPG is lossy


@pytest.mark.parametrize("name", ["gone.png", "gone.mp4", "camera:x"])
def test_not_there(tmp_path, monkeypatch, name):
    """A source that is not there is refused before the first image, even after others that are."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no"):
        open_sources([str(picture(tmp_path / "a.png")), name])


def test_empty_folder(tmp_path):
    """A folder without images is refused."""
    with pytest.raises(InputError, match="holds no image"):
        open_sources([str(tmp_path)])


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_impossible_names(name):
    """A name that no file can have is refused in words."""
    with pytest.raises(InputError, match="cannot read"):
        open_sources([name])


def test_files_of_other_kinds(tmp_path):
    """Images of kinds that are not read are left out of a folder, and the caller is told so."""
    for name in ("b.jpe", "c.jfif", "d.apng"):
        (tmp_path / name).touch()
    (tmp_path / "a.HEIC").touch()
    notices = []

    names = [name for name, _ in open_sources([str(tmp_path)], notify=notices.append)]

    assert [str(tmp_path / name) for name in ("b.jpe", "c.jfif", "d.apng")] == names
    assert [f"{tmp_path}: files of kinds that are not read are left out (1 .heic): convert them to PNG or JPEG"] == (
        notices
    )


def test_a_folder_of_other_kinds(tmp_path):
    """A folder without a single readable image is refused, and its other images are named."""
    (tmp_path / "a.heic").touch()
    with pytest.raises(InputError, match=r"holds no image .*; it has 1 \.heic, which are not read"):
        open_sources([str(tmp_path)])


def test_links_and_folders_that_look_like_images(tmp_path):
    """A link that leads nowhere is an image that somebody expects an answer to; a folder's name does not matter."""
    inside = picture(tmp_path / "folder.png" / "a.png")
    link = tmp_path / "b.png"
    link.symlink_to("nowhere")
    assert [(str(link), link), (str(inside), inside)] == list(open_sources([str(tmp_path)]))


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    """A subfolder that cannot be read is refused before the first image, for its images would have no answer."""
    picture(tmp_path / "a.png")
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cannot read .*/secret: Permission denied"):
        open_sources([str(tmp_path)])


class Film:
    """OpenCV's capture of a video: what `read` gives one after the other; an exception is raised."""

    def __init__(self, *frames):
        self.frames, self.released = list(frames), False

    def isOpened(self):
        return True

    def read(self):
        frame = self.frames.pop(0) if self.frames else None
        if isinstance(frame, Exception):
            raise frame
        return frame is not None, frame

    def release(self):
        self.released = True


@pytest.mark.parametrize(
    ("frames", "names", "words"),
    [
        ((), ["#"], "it is no video, or damaged"),
        ((np.zeros((2, 3, 3), np.uint8), RuntimeError("bad\npacket")), ["#0", "#1"], "cannot be read on: bad packet"),
    ],
)
def test_a_video_that_breaks_off(tmp_path, monkeypatch, frames, names, words):
    """A video without a frame, or that fails in the middle, has one answer for that; the next source follows."""
    film = Film(*frames)
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=lambda path: film))
    video, image = tmp_path / "a.mp4", picture(tmp_path / "b.png")
    video.touch()
    pairs = list(open_sources([str(video), str(image)]))
    assert [*(f"{video}{name}".removesuffix("#") for name in names), str(image)] == [name for name, _ in pairs]
    assert words in pairs[-2][1].reason
    assert film.released


def test_damaged_video(cv2, tmp_path, capfd):
    """A video that is none is refused."""
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(DataError, match=r"broken\.mp4 cannot be opened: it is no video, or damaged"):
        list(open_sources([str(path)]))


def test_no_camera(cv2, capfd):
    """A camera that is not connected is refused."""
    with pytest.raises(DataError, match="camera:97 cannot be opened: is it connected, and may this user read it"):
        open_sources(["camera:97"])


class OneFrameCamera:
    """OpenCV's capture of a camera that is unplugged after one blue frame."""

    def __init__(self, index):
        self.index, self.frames, self.properties, self.released = index, 1, {}, False

    def isOpened(self):
        return True

    def set(self, name, value):
        self.properties[name] = value

    def read(self):
        self.frames -= 1
        return self.frames >= 0, np.full((2, 3, 3), (255, 0, 0), np.uint8)

    def release(self):
        self.released = True


def test_camera(monkeypatch):
    """A camera gives its newest frame as RGB; when it is unplugged that is an error, and it is let go."""
    opened = []

    def capture(index):
        opened.append(OneFrameCamera(index))
        return opened[-1]

    fake = types.SimpleNamespace(VideoCapture=capture, CAP_PROP_BUFFERSIZE="buffer")
    monkeypatch.setitem(sys.modules, "cv2", fake)
    frames = open_sources(["camera:2"])
    (camera,) = opened
    assert (2, {"buffer": 1}) == (camera.index, camera.properties)
    name, frame = next(frames)
    assert ("camera:2#0", [0, 0, 255]) == (name, frame[0, 0].tolist())
    with pytest.raises(DataError, match="stopped after 1"):
        next(frames)
    assert camera.released


def test_the_first_camera(monkeypatch):
    """Without a number it is the first camera; what is no number is a file."""
    opened = []

    def capture(index):
        opened.append(index)
        return OneFrameCamera(index)

    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=capture, CAP_PROP_BUFFERSIZE=1))
    open_sources(["camera", "camera:0", "camera:12"])
    assert [0, 0, 12] == opened
    with pytest.raises(InputError, match="there is no camera:²"):
        open_sources(["camera:²"])


def test_long_words_of_opencv(tmp_path, monkeypatch):
    """An error of OpenCV is cut where it is long."""
    film = Film(RuntimeError("x" * 1000))
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=lambda path: film))
    (tmp_path / "a.mp4").touch()
    ((_, nothing),) = open_sources([str(tmp_path / "a.mp4")])
    assert "x" * 300 == nothing.reason.rpartition(" ")[2]


def test_without_opencv(tmp_path, monkeypatch):
    """Without OpenCV, a video or a camera says which pip install brings it."""
    monkeypatch.setitem(sys.modules, "cv2", None)
    path = tmp_path / "a.mp4"
    path.touch()
    for name in ("camera", str(path)):
        with pytest.raises(MissingExtraError, match=r"isplit\[camera\]"):
            open_sources([name])


def test_a_video_that_is_a_pipe(tmp_path):
    """A pipe called like a video is refused at once: OpenCV would wait for somebody to write into it."""
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="it is a pipe, not a file"):
        open_sources([str(tmp_path / "a.mp4")])
