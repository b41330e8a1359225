"""isplit.codec.codec: a codec that could not work is neither made nor loaded."""

from dataclasses import replace

import numpy as np
import pytest

from isplit.codec.codec import MAX_SYMBOLS, Codec
from isplit.errors import InputError, StudyError
from isplit.records import save_arrays
from tests.codec.small_codecs import make_codec, make_per_channel


class TestUnusable:
    """A codec that could not work is not made."""

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0), (-1, 5), (MAX_SYMBOLS, 2)])
    def test_shape(self, shape):
        """One image's latent, of a bounded size."""
        with pytest.raises(InputError, match="shape is"):
            make_codec(shape=shape)

    @pytest.mark.parametrize("axis", [-1, 3])
    def test_channel_axis(self, axis):
        """One of the shape's axes, counted from the front."""
        with pytest.raises(InputError, match="give 0 to 2"):
            make_codec(channel_axis=axis)

    def test_coder(self):
        """One of the four."""
        with pytest.raises(InputError, match="choose one of raw, zstd, rle, rans"):
            make_codec("zip")

    def test_quantiser_of_other_channels(self):
        """As many steps as the shape has channels."""
        with pytest.raises(InputError, match="the quantiser is for 8 channels"):
            replace(make_per_channel(), shape=(7, 4, 5))

    def test_tables(self):
        """Coder rans has tables that fit, and no other coder has any."""
        with pytest.raises(InputError, match="rans without tables"):
            replace(make_codec(), coder="rans")
        with pytest.raises(InputError, match="zstd with tables"):
            replace(make_codec("rans"), coder="zstd")
        with pytest.raises(InputError, match="3 tables of 60 levels do not fit 8 channels"):
            make_codec().with_rans(np.ones((3, 60), int), images=1)
        with pytest.raises(InputError, match="8 tables of 59 levels do not fit"):
            make_codec().with_rans(np.ones((8, 59), int), images=1)

    @pytest.mark.parametrize(
        "change",
        [
            {"codec": None},
            {"steps": None},
            {"codec": np.array("{}")},
            {"codec": np.array("not JSON")},
            {"codec": np.array([1, 2])},
            {"steps": np.zeros(1, np.float32)},
            {"steps": np.array([np.nan], np.float32)},
            {"steps": np.array(["x"])},
            {"steps": np.ones((2, 2), np.float32)},
            {"steps": np.float32(0.25)},
            {"frequencies": None},
            {"frequencies": np.ones((8, 60), np.uint16)},
        ],
    )
    def test_arrays(self, change, tmp_path):
        """Arrays that are no codec's, in memory and in a file."""
        arrays = {name: array for name, array in (make_codec("rans").to_arrays() | change).items() if array is not None}
        with pytest.raises(InputError, match="not a codec's"):
            Codec.from_arrays(arrays)
        save_arrays(tmp_path / "codec.npz", arrays)
        with pytest.raises(StudyError, match=r"codec\.npz"):
            Codec.load(tmp_path / "codec.npz")

    def test_newer_schema(self):
        """A codec of a later isplit is refused by name."""
        arrays = make_codec().to_arrays()
        arrays["codec"] = np.array(str(arrays["codec"]).replace("isplit.codec/1", "isplit.codec/2"))
        with pytest.raises(InputError, match=r"isplit\.codec/2"):
            Codec.from_arrays(arrays)

    def test_files(self, tmp_path):
        """A missing or damaged file."""
        with pytest.raises(StudyError, match="cannot read the codec"):
            Codec.load(tmp_path / "missing.npz")
        make_codec().save(tmp_path / "codec.npz")
        content = (tmp_path / "codec.npz").read_bytes()
        (tmp_path / "codec.npz").write_bytes(content[: len(content) // 2])
        with pytest.raises(StudyError, match="damaged"):
            Codec.load(tmp_path / "codec.npz")
