"""isplit.codec.rans: tables by hand, the format's text followed literally, constriction as oracle, and the overhead."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isplit.codec.rans import Rans, RansTables, normalise, sizes_of_sets
from isplit.errors import InputError, PayloadError


def ideal_bits(tables, symbols):
    """Return what the symbols, flat and channel after channel, would cost an ideal coder with these tables."""
    return float(tables.symbol_bits.ravel()[tables.entries(symbols)].sum())


def laplacian(shape, *, scale, seed, levels=256):
    """Return symbols of rounded Laplacian noise, centred on the middle level; `scale` broadcasts along `shape`."""
    noise = np.random.default_rng(seed).laplace(size=shape) * scale
    return np.clip(np.rint(noise) + levels // 2, 0, levels - 1).astype(np.uint8)


def count(symbols, levels=256):
    """Return how often each symbol comes up per channel, in (images, channels, positions)."""
    return np.stack([np.bincount(symbols[:, c].ravel(), minlength=levels) for c in range(symbols.shape[1])])


def geometric(tables=1, levels=256, lanes=1):
    """Return tables that fall off at different rates."""
    counts = (1 << 20) >> np.minimum(np.arange(levels) * np.arange(1, tables + 1)[:, None], 20)
    return RansTables(frequencies=normalise(counts), lanes=lanes)


def decode_by_the_text(tables, payload, count):
    """Decode as the docstring of Rans says it, one symbol at a time, with no regard for speed."""
    lanes = min(tables.lanes, count)
    states = [int.from_bytes(payload[4 * i : 4 * i + 4], "little") for i in range(lanes)]
    words = [int.from_bytes(payload[i : i + 2], "little") for i in range(4 * lanes, len(payload), 2)]
    symbols = []
    for i in range(count):
        table = tables.frequencies[i * len(tables.frequencies) // count].tolist()
        x = states[i % lanes]
        n = x % 65536
        symbol = max(s for s in range(len(table)) if sum(table[:s]) <= n)
        x = table[symbol] * (x // 65536) + n - sum(table[:symbol])
        if x < 65536:
            x = 65536 * x + words.pop(0)
        states[i % lanes] = x
        symbols.append(symbol)
    assert [65536] * lanes == states
    assert [] == words
    return symbols


class TestNormalise:
    """Counts to integer frequencies."""

    def test_by_hand(self):
        """One for each symbol, the rest in proportion, what is left over to the largest remainders."""
        # 65533 to share: 65533 * 1/6 = 10922 rest 1, * 2/6 = 21844 rest 2, * 3/6 = 32766 rest 3; 1 left over.
        assert [[10923, 21845, 32768]] == normalise(np.array([[1, 2, 3]])).tolist()

    def test_never_seen(self):
        """A symbol that never came up can still be encoded."""
        assert [[1, 65534, 1]] == normalise(np.array([[0, 9, 0]])).tolist()

    def test_equal_remainders(self):
        """Among equal remainders the lower symbol comes first."""
        # 65533 to share among three: 21844 each, and 1 left over.
        assert [[21846, 21845, 21845]] == normalise(np.array([[7, 7, 7]])).tolist()

    def test_nothing_counted(self):
        """A channel without counts is uniform, and does not disturb the others."""
        assert [[16384] * 4, [65533, 1, 1, 1]] == normalise(np.array([[0] * 4, [5, 0, 0, 0]])).tolist()

    @given(st.lists(st.lists(st.integers(0, 2**40), min_size=5, max_size=5), min_size=1, max_size=4))
    def test_always_a_table(self, counts):
        """Any counts give frequencies of at least 1 that sum to 65536 and keep the counts' order."""
        frequencies = normalise(np.array(counts))

        assert frequencies.dtype == np.uint16
        assert frequencies.min() >= 1
        assert [65536] * len(counts) == frequencies.sum(axis=1, dtype=np.int64).tolist()
        for row, table in zip(counts, frequencies.tolist(), strict=True):
            assert all(table[a] <= table[b] + 1 for a in range(5) for b in range(5) if row[a] <= row[b])

    def test_counts_are_not_changed(self):
        """What is passed in stays as it is, and any integer type will do."""
        counts = np.array([[0, 0], [3, 1]], np.uint32)

        normalise(counts)

        assert [[0, 0], [3, 1]] == counts.tolist()

    @pytest.mark.parametrize(
        "counts",
        [np.zeros(3, int), np.zeros((2, 1), int), np.zeros((1, 257), int), np.zeros((2, 4)), np.array([[1, -1]])],
    )
    def test_unusable_counts(self, counts):
        """Only (tables, levels) of counts can be normalised."""
        with pytest.raises(InputError, match="counts"):
            normalise(counts)

    def test_too_many(self):
        """Counts whose products would not fit 64 bits are refused."""
        with pytest.raises(InputError, match=r"2 \*\* 40"):
            normalise(np.array([[2**41, 1]]))


class TestTables:
    """What a set of tables may be."""

    @pytest.mark.parametrize(
        ("frequencies", "message"),
        [
            (np.array([[65535, 1]], np.int64), "int64"),
            (np.array([65535, 1], np.uint16), "shape"),
            (np.zeros((0, 2), np.uint16), "shape"),
            (np.ones((1, 1), np.uint16), "shape"),
            (np.array([[65535, 2]], np.uint16), "sum to 65536"),
            (np.array([[65535, 0, 1]], np.uint16), "at least 1"),
        ],
    )
    def test_unusable(self, frequencies, message):
        """Tables that could not decode what they encode are refused."""
        with pytest.raises(InputError, match=message):
            RansTables(frequencies=frequencies, lanes=1)

    @pytest.mark.parametrize("lanes", [0, -1, 1025])
    def test_unusable_lanes(self, lanes):
        """The number of lanes is bounded."""
        with pytest.raises(InputError, match="lanes"):
            RansTables(frequencies=normalise(np.array([[1, 1]])), lanes=lanes)

    def test_lanes_grow_with_the_payload(self):
        """Up to 8 KiB one lane, then one per 128 bytes, and never more than the limit."""
        for payload_bytes, lanes in ((10, 1), (8191, 1), (8192, 64), (12900, 100), (10**7, 1024)):
            # 256 symbols that are equally likely cost 8 bits each.
            counts = np.full((1, 256), payload_bytes * 1000 // 256 + 1)
            assert lanes == RansTables.from_counts(counts, images=1000).lanes

    def test_cross_entropy_by_hand(self):
        """Each symbol costs 16 bits less the logarithm of its frequency in its channel's table."""
        tables = RansTables(frequencies=np.array([[2**15, 2**15], [2**14, 3 * 2**14]], np.uint16), lanes=1)

        assert 1 + 1 + 2 + 2 == ideal_bits(tables, np.array([0, 1, 0, 0], np.uint8))

    def test_uneven(self):
        """Every table serves the same number of symbols."""
        with pytest.raises(InputError, match="3 symbols cannot be shared out evenly among 2 tables"):
            Rans(geometric(2)).encode(np.zeros(3, np.uint8))
        with pytest.raises(InputError, match="3 symbols cannot be shared out evenly among 2 tables"):
            Rans(geometric(2)).decode(bytes.fromhex("00000100"), 3)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 3), st.sampled_from([1, 2, 3, 7, 64]))
def test_follows_its_text(symbols, tables, lanes):
    """A decoder written from the docstring alone reads what is written, for any number of lanes and tables."""
    symbols = symbols[: len(symbols) // tables * tables]
    coder_tables = geometric(tables, 6, lanes)
    payload = Rans(coder_tables).encode(np.array(symbols, np.uint8))

    assert symbols == decode_by_the_text(coder_tables, payload, len(symbols))
    assert symbols == Rans(coder_tables).decode(payload, len(symbols)).tolist()


@pytest.mark.parametrize("lanes", [1, 2, 64, 1000])
@pytest.mark.parametrize("tables", [1, 8])
def test_round_trip_of_channels(tables, lanes):
    """Channels with tables of their own, more or fewer than lanes, and a last round that is not full."""
    symbols = laplacian((8, 1001 // 8), scale=np.arange(1, 9)[:, None], seed=0).ravel()
    counts = count(symbols.reshape(1, tables, -1))
    coder = Rans(RansTables(frequencies=normalise(counts), lanes=lanes))

    np.testing.assert_array_equal(symbols, coder.decode(coder.encode(symbols), symbols.size))


@pytest.mark.parametrize(
    ("channels", "positions", "scale"), [(64, 16, 3.0), (200, 16, 1.0), (16, 256, 1.0), (64, 1024, 3.0)]
)
def test_within_five_percent_of_the_cross_entropy(channels, positions, scale):
    """Over images whose payload is 256 bytes and more, states included, with tables from other images."""
    scales = scale * np.exp(-2 * np.arange(channels) / channels)[:, None]
    seen = laplacian((64, channels, positions), scale=scales, seed=1)
    images = laplacian((4, channels, positions), scale=scales, seed=2)
    tables = RansTables.from_counts(count(seen), images=len(seen))

    total = sum(len(Rans(tables).encode(image.ravel())) for image in images)
    ideal = sum(ideal_bits(tables, image.ravel()) for image in images) / 8

    assert ideal / len(images) >= 256
    assert ideal < total <= 1.05 * ideal


@pytest.mark.parametrize("scale", [0.3, 2.0, 20.0])
@pytest.mark.parametrize("lanes", [1, 5])
def test_constriction_agrees(scale, lanes):
    """With the same tables, constriction decodes to the same symbols, and needs as many bytes but for our states."""
    constriction = pytest.importorskip("constriction", reason="the oracle constriction is not installed (dev only)")
    channels, positions = 6, 120
    scales = scale * np.arange(1, channels + 1)[:, None]
    symbols = laplacian((1, channels, positions), scale=scales, seed=3)
    tables = RansTables(frequencies=normalise(count(symbols)), lanes=lanes)
    models = [
        constriction.stream.model.Categorical(table / 65536, perfect=False)
        for table in tables.frequencies.astype(np.float32)
    ]

    theirs = constriction.stream.stack.AnsCoder()
    for channel in reversed(range(channels)):
        theirs.encode_reverse(symbols[0, channel].astype(np.int32), models[channel])
    their_bytes = 4 * theirs.get_compressed().size
    ours = Rans(tables).encode(symbols.ravel())

    assert [*symbols[0].ravel()] == [s for model in models for s in theirs.decode(model, positions)]
    np.testing.assert_array_equal(symbols.ravel(), Rans(tables).decode(ours, symbols.size))
    assert abs(len(ours) - 3 * (lanes - 1) - their_bytes) <= 8


@pytest.mark.parametrize("lanes", [1, 4])
class TestHostile:
    """A stream that was tampered with and sealed again with the right CRC."""

    def coder(self, lanes):
        counts = count(self.symbols().reshape(1, 4, 50), 16)
        return Rans(RansTables(frequencies=normalise(counts), lanes=lanes))

    def symbols(self):
        return laplacian(200, scale=2.0, seed=4, levels=16)

    def test_truncated(self, lanes):
        """Any number of bytes missing at the end."""
        payload = self.coder(lanes).encode(self.symbols())
        for length in range(len(payload)):
            with pytest.raises(PayloadError):
                self.coder(lanes).decode(payload[:length], 200)

    @pytest.mark.parametrize("more", [b"\x00", b"\x00\x00", b"\xff\xff", bytes(100)])
    def test_extended(self, lanes, more):
        """Bytes that nobody reads."""
        payload = self.coder(lanes).encode(self.symbols())
        with pytest.raises(PayloadError):
            self.coder(lanes).decode(payload + more, 200)

    def test_every_bit_flipped(self, lanes):
        """A bit flipped in a state or a word is refused, unless the result is the one encoding of other symbols."""
        coder = self.coder(lanes)
        payload = coder.encode(self.symbols())
        accepted = []
        for bit in range(0, 8 * len(payload), 3):  # which comes to every position in a byte
            flipped = bytearray(payload)
            flipped[bit // 8] ^= 1 << bit % 8
            with suppress(PayloadError):
                accepted.append((bytes(flipped), coder.decode(bytes(flipped), 200)))

        # The last symbols to be decoded can be exchanged within the last word; nothing before it can.
        assert len(accepted) <= 0.01 * 8 * len(payload)
        assert [flipped for flipped, _ in accepted] == [coder.encode(symbols) for _, symbols in accepted]

    def test_state_below_its_range(self, lanes):
        """A state that no encoder leaves."""
        payload = bytearray(self.coder(lanes).encode(self.symbols()))
        payload[2:4] = b"\x00\x00"
        with pytest.raises(PayloadError, match="has the state"):
            self.coder(lanes).decode(bytes(payload), 200)

    def test_other_tables(self, lanes):
        """A stream of other tables does not end where it should."""
        payload = self.coder(lanes).encode(self.symbols())
        with pytest.raises(PayloadError, match="other tables"):
            Rans(geometric(1, 16, lanes)).decode(payload, 200)


@pytest.mark.parametrize("lanes", [1, 3])
def test_sizes_are_those_of_the_payloads(lanes):
    """The lengths of many payloads at once: of each row what its encoding takes, with tables of each channel's own."""
    coder = Rans(geometric(2, 16, lanes))
    symbols = np.random.default_rng(0).integers(0, 16, (5, 40)).astype(np.uint8)

    assert [len(coder.encode(row)) for row in symbols] == coder.sizes(symbols).tolist()
    assert [0, 0] == coder.sizes(np.empty((2, 0), np.uint8)).tolist()


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("count", [40, 600])
def test_sizes_with_several_sets_of_tables(lanes, count):
    """Each row is as long as its encoding with the tables of its own set, however many symbols a row has."""
    generator = np.random.default_rng(0)
    sets = [
        RansTables(frequencies=normalise(generator.integers(1, 90, (2, 16))), lanes=lanes),
        RansTables(frequencies=normalise(generator.integers(1, 9, (2, 16))), lanes=lanes),
    ]
    symbols = generator.integers(0, 16, (5, count)).astype(np.uint8)
    set_of = np.array([1, 0, 0, 1, 0])

    expected = [len(Rans(sets[place]).encode(row)) for row, place in zip(symbols, set_of, strict=True)]
    assert expected == sizes_of_sets(sets, symbols, set_of, compiled=False).tolist()
    assert expected == sizes_of_sets(sets, symbols, set_of).tolist()
