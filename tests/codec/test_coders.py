"""The coders: one contract for all, goldens, and each format's own rules."""

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from isplit.codec.coders import CODER_IDS, Raw, Zstd
from isplit.codec.rans import Rans, RansTables, normalise
from isplit.codec.rle import Rle
from isplit.errors import InputError, PayloadError


def rans(levels, lanes):
    """Return a coder whose table falls off geometrically."""
    counts = (1 << 20) >> np.minimum(np.arange(levels), 20)
    return Rans(RansTables(frequencies=normalise(counts[None]), lanes=lanes))


CODERS = {
    "raw": Raw,
    "zstd": Zstd,
    "rle": Rle,
    "rans": lambda levels: rans(levels, 1),
    "rans-3-lanes": lambda levels: rans(levels, 3),
    "rans-64-lanes": lambda levels: rans(levels, 64),
}

GOLDEN_SYMBOLS = [0] * 20 + [1, 2, 3, 0, 0, 1, 6, 5] + [0] * 9 + [4, 4, 4]

# GOLDEN_SYMBOLS with 7 levels. They never change: a device in the field sends them.
GOLDEN = {
    "raw": "000000000000000298075000000124",
    "zstd": "28b52ffd2028dd0000a80001020300000106050000000000000000000404040100091002",
    "rle": "00140809032980759200",
    "rans": "db0f1000cf68e0cac2fdf138",
    "rans-3-lanes": "367eb001cb5110002607d9003c63cf79dc5d",
}


few = settings(max_examples=15)  # times coders, times levels


def as_symbols(values):
    return np.array(values, np.uint8)


@pytest.mark.parametrize("levels", [2, 7, 256])
@pytest.mark.parametrize("name", CODERS)
class TestContract:
    """What every coder promises."""

    def check(self, name, levels, symbols):
        coder = CODERS[name](levels)
        payload = coder.encode(symbols)
        decoded = coder.decode(payload, symbols.size)
        assert decoded.dtype == np.uint8
        assert decoded.flags.writeable
        np.testing.assert_array_equal(symbols, decoded)
        assert len(payload) <= coder.max_bytes(symbols.size)
        return payload

    def test_no_symbols(self, name, levels):
        """No symbols are no bytes, and nothing else is."""
        assert b"" == self.check(name, levels, as_symbols([]))
        for payload in (b"\x00", b"\x00\x00", bytes(400)):
            with pytest.raises(PayloadError):
                CODERS[name](levels).decode(payload, 0)

    def test_one_symbol(self, name, levels):
        """Each symbol alone."""
        for symbol in range(levels):
            self.check(name, levels, as_symbols([symbol]))

    @pytest.mark.parametrize("count", [2, 127, 128, 129, 1000])
    def test_all_equal(self, name, levels, count):
        """The first and the last symbol over and over."""
        self.check(name, levels, np.zeros(count, np.uint8))
        self.check(name, levels, np.full(count, levels - 1, np.uint8))

    @pytest.mark.parametrize("count", [3, 64, 1001])
    def test_uniform(self, name, levels, count):
        """Symbols that cannot be compressed."""
        self.check(name, levels, np.random.default_rng(count).integers(0, levels, count, dtype=np.uint8))

    @pytest.mark.parametrize("gap", [1, 2, 3, 5, 16, 17, 18])
    def test_worst_cases(self, name, levels, gap):
        """Runs that only just pay for themselves, and symbols of the least frequency, stay within the bound."""
        symbols = np.zeros(2000, np.uint8)
        symbols[::gap] = levels - 1
        self.check(name, levels, symbols)
        symbols = np.full(3000, levels - 1, np.uint8)
        for start in range(0, 3000, 150):
            symbols[start : start + gap] = 0
        self.check(name, levels, symbols)

    @few
    @given(data=st.data())
    def test_round_trip(self, name, levels, data):
        """Any symbols come back."""
        symbols = data.draw(st.lists(st.integers(0, levels - 1), max_size=300))
        self.check(name, levels, as_symbols(symbols))

    @few
    @given(payload=st.binary(max_size=80), count=st.integers(0, 400))
    def test_garbage(self, name, levels, payload, count):
        """Any bytes give symbols of the quantiser, in the right number, or a PayloadError."""
        self.decode_anything(CODERS[name](levels), levels, payload, count)

    @few
    @given(data=st.data())
    def test_damaged(self, name, levels, data):
        """A real payload with a byte changed gives symbols of the quantiser or a PayloadError."""
        coder = CODERS[name](levels)
        payload = bytearray(coder.encode(np.arange(200, dtype=np.uint8) // 9 % np.uint8(min(levels, 255))))
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
        self.decode_anything(coder, levels, bytes(payload), 200)

    def decode_anything(self, coder, levels, payload, count):
        try:
            symbols = coder.decode(payload, count)
        except PayloadError:
            return
        assert count == symbols.size
        assert symbols.size == 0 or int(symbols.max()) < levels

    def test_wrong_symbols(self, name, levels):
        """Symbols the quantiser does not have, another type and another shape are refused."""
        coder = CODERS[name](levels)
        with pytest.raises(InputError, match="flat uint8"):
            coder.encode(np.zeros((2, 2), np.uint8))
        with pytest.raises(InputError, match="flat uint8"):
            coder.encode(np.zeros(2, np.int64))
        if levels < 256:
            with pytest.raises(InputError, match=f"symbol {levels} is not below {levels}"):
                coder.encode(as_symbols([0, levels]))


@pytest.mark.parametrize("name", [name for name in CODERS if name != "rans-64-lanes"])
def test_golden(name):
    """The committed bytes decode to the symbols, and encoding gives them again (zstd: its version may differ)."""
    coder = CODERS[name](7)
    golden = bytes.fromhex(GOLDEN.get(name, ""))

    assert golden, f"no golden bytes; they would be {coder.encode(as_symbols(GOLDEN_SYMBOLS)).hex()}"
    assert GOLDEN_SYMBOLS == coder.decode(golden, len(GOLDEN_SYMBOLS)).tolist()
    if name != "zstd":
        assert golden.hex() == coder.encode(as_symbols(GOLDEN_SYMBOLS)).hex()


def test_ids():
    """The numbers on the wire are these for ever."""
    assert {"raw": 1, "zstd": 2, "rle": 3, "rans": 4} == CODER_IDS


class TestRaw:
    """Bit packing."""

    def test_by_hand(self):
        """Three bits each, the highest first, zeros at the end."""
        assert bytes([0b00101011, 0b01000000]) == Raw(7).encode(as_symbols([1, 2, 6, 4]))

    def test_padding(self):
        """Bits after the last symbol must be zero."""
        with pytest.raises(PayloadError, match="bits are set after the last of 4"):
            Raw(7).decode(bytes([0b00101011, 0b01000001]), 4)

    def test_symbol_beyond_levels(self):
        """A symbol that fits the bits but not the levels is refused."""
        with pytest.raises(PayloadError, match="holds symbol 7, the codec has 7 levels"):
            Raw(7).decode(bytes([0b11100000]), 1)

    @pytest.mark.parametrize("length", [0, 1, 3])
    def test_length(self, length):
        """The length is exact."""
        with pytest.raises(PayloadError, match=f"4 symbols of 3 bits are 2 bytes, got {length}"):
            Raw(7).decode(bytes(length), 4)


class TestZstd:
    """What only zstd can get wrong."""

    def test_bomb(self):
        """A frame that declares more than the codec's symbols is not decompressed."""
        bomb = zstandard.ZstdCompressor().compress(bytes(10_000_000))

        with pytest.raises(PayloadError, match="declares 10000000 bytes, the codec has 100 symbols"):
            Zstd(256).decode(bomb, 100)

    def test_bomb_that_lies(self):
        """A frame whose blocks hold more than it declares fails, whatever it declares."""
        honest = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(100_000)))
        assert zstandard.frame_content_size(bytes(honest)) == 100_000
        # Frame header: magic 4, descriptor 1 (single segment, 4-byte size), content size 4.
        honest[5:9] = (66_000).to_bytes(4, "little")
        assert zstandard.frame_content_size(bytes(honest)) == 66_000

        with pytest.raises(PayloadError, match="damaged"):
            Zstd(256).decode(bytes(honest), 66_000)

    def test_after_a_damaged_frame(self):
        """What a damaged frame left behind does not disturb the next one."""
        symbols = np.random.default_rng(0).integers(0, 9, 5000, dtype=np.uint8)
        frame = Zstd(256).encode(symbols)

        for end in (len(frame) // 2, len(frame) - 1):
            with pytest.raises(PayloadError):
                Zstd(256).decode(frame[:end], 5000)
            assert symbols.tolist() == Zstd(256).decode(frame, 5000).tolist()

    def test_no_content_size(self):
        """A frame that does not say how long it is cannot be bounded."""
        frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))

        with pytest.raises(PayloadError, match="declares no content size"):
            Zstd(256).decode(frame, 100)

    def test_skippable_frame(self):
        """A skippable frame holds no symbols."""
        frame = (0x184D2A50).to_bytes(4, "little") + (100).to_bytes(4, "little") + bytes(100)

        with pytest.raises(PayloadError):
            Zstd(256).decode(frame, 100)

    def test_second_frame(self):
        """Nothing may follow the frame."""
        frame = Zstd(256).encode(np.zeros(100, np.uint8))

        with pytest.raises(PayloadError):
            Zstd(256).decode(frame + frame, 100)

    def test_dictionary(self):
        """A frame that asks for a dictionary is refused."""
        dictionary = zstandard.ZstdCompressionDict(b"0123456789" * 20)
        frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(b"0123456789" * 10)

        with pytest.raises(PayloadError):
            Zstd(256).decode(frame, 100)


class TestRle:
    """Its format, byte by byte. 16 levels: a literal is four bits, runs of up to four are literals."""

    def test_by_hand(self):
        """Run symbol, lengths of runs and literals in turn, literals packed."""
        symbols = as_symbols([0] * 300 + [1, 2, 0, 0, 3] + [0] * 5)

        assert bytes.fromhex("00 ac02 05 05 120030") == Rle(16).encode(symbols)

    def test_begins_with_literals(self):
        """The first run may be empty."""
        assert bytes.fromhex("09 00 02 08 81") == Rle(16).encode(as_symbols([8, 1] + [9] * 8))

    def test_other_encoders_may_choose(self):
        """A decoder takes any run symbol, and short runs too."""
        assert [5, 0, 5, 5, 0] == Rle(16).decode(bytes.fromhex("05 01 01 02 01 00"), 5).tolist()

    @pytest.mark.parametrize(
        ("payload", "count", "message"),
        [
            ("", 5, "never no bytes"),
            ("00", 5, "no length can be read at byte 1 of 1"),
            ("10 05", 5, "holds symbol 16"),
            ("00 06", 5, "a run of 6 symbols is impossible where 5 are left"),
            ("00 ffffffff7f", 5, "impossible where 5 are left"),
            ("00 02 04 1111", 5, "a stretch of literals of 4 symbols is impossible where 3 are left"),
            ("00 02 00 03", 5, "a stretch of literals of 0"),
            ("00 00 02 00 03 11", 5, "a run of 0"),
            ("00 8500", 5, "no length can be read"),
            ("00 808080808001", 5, "no length can be read"),
            ("00 85", 5, "no length can be read"),
            ("00 02 03 11", 5, "3 symbols of 4 bits are 2 bytes, got 1"),
            ("00 02 03 1111", 5, "bits are set after"),
            ("00 02 03 1110 00", 5, "3 symbols of 4 bits are 2 bytes, got 3"),
            ("00 05 00", 5, "0 symbols of 4 bits are 0 bytes, got 1"),
        ],
    )
    def test_malformed(self, payload, count, message):
        """Each MUST of the format has a refusal."""
        with pytest.raises(PayloadError, match=message):
            Rle(16).decode(bytes.fromhex(payload), count)
