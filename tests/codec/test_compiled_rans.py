"""isplit.codec.compiled_rans: the numpy coder's bytes, symbols and errors, whatever comes in."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isplit.codec.rans import Rans, RansTables, normalise, rans_coder
from isplit.errors import InputError, PayloadError

SETTINGS = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@st.composite
def coders(draw):
    """Both coders of drawn tables, and a number of symbols that the tables can share out."""
    tables, levels = draw(st.integers(1, 5)), draw(st.sampled_from([2, 3, 7, 16, 255, 256]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steepness = draw(st.sampled_from([0.0, 0.1, 1.0, 8.0]))
    counts = (rng.random((tables, levels)) * 1e6 * np.exp(-steepness * np.arange(levels))).astype(np.int64)
    lanes = draw(st.sampled_from([1, 2, 3, 7, 64, 1000, 1024]))
    coder_tables = RansTables(frequencies=normalise(counts), lanes=lanes)
    count = tables * draw(st.one_of(st.integers(0, 60), st.sampled_from([400, 2000])))
    return Rans(coder_tables, compiled=True), Rans(coder_tables, compiled=False), count, rng


def outcome(call):
    """Return what a call gives: its value, or its error's class and message."""
    try:
        value = call()
    except (InputError, PayloadError) as error:
        return type(error), str(error)
    return value.tolist() if isinstance(value, np.ndarray) else value


@SETTINGS
@given(coders())
def test_same_bytes_and_symbols(native, drawn):
    """Both coders write the same bytes, and read them back."""
    compiled, reference, count, rng = drawn
    symbols = rng.integers(0, reference.tables.levels, count).astype(np.uint8)
    payload = reference.encode(symbols)

    assert payload == compiled.encode(symbols)
    decoded = compiled.decode(payload, count)
    assert (np.dtype(np.uint8), symbols.tolist()) == (decoded.dtype, decoded.tolist())


@SETTINGS
@given(coders(), st.data())
def test_same_answer_to_damaged_payloads(native, drawn, data):
    """Of a payload that is cut, lengthened, changed or made up both coders say the same."""
    compiled, reference, count, rng = drawn
    symbols = rng.integers(0, reference.tables.levels, count).astype(np.uint8)
    payload = bytearray(reference.encode(symbols))
    match data.draw(st.sampled_from(["cut", "longer", "changed", "random", "other count"])):
        case "cut":
            payload = payload[: data.draw(st.integers(0, len(payload)))]
        case "longer":
            payload += data.draw(st.binary(min_size=1, max_size=9))
        case "changed" if payload:
            for _ in range(data.draw(st.integers(1, 3))):
                payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        case "random":
            payload = bytearray(data.draw(st.binary(max_size=400)))
        case _:
            count = data.draw(st.integers(0, 400))

    expected = outcome(lambda: reference.decode(bytes(payload), count))
    assert expected == outcome(lambda: compiled.decode(bytes(payload), count))


@pytest.mark.parametrize("symbols", [[0, 9], [256], [[0, 1]], [0.5], [0, 1, 0]])
def test_same_answer_to_bad_symbols(native, symbols):
    """Symbols that the tables do not have, of another type or shape, or too many, are refused alike."""
    tables = RansTables(frequencies=normalise(np.ones((2, 4), int)), lanes=3)
    array = np.array(symbols)
    array = array.astype(np.uint8) if array.dtype == int and array.max() < 256 else array

    expected = outcome(lambda: Rans(tables, compiled=False).encode(array))
    assert expected[0] is InputError
    assert expected == outcome(lambda: Rans(tables, compiled=True).encode(array))


def test_arrays_that_are_not_contiguous(native):
    """Symbols and tables may be views; what is passed in stays as it is."""
    frequencies = normalise(np.arange(1, 9).reshape(2, 4)).repeat(2, axis=1)[:, ::2]
    tables = RansTables(frequencies=frequencies, lanes=2)
    symbols = np.arange(16, dtype=np.uint8)[::2] % 4

    assert Rans(tables, compiled=False).encode(symbols) == Rans(tables, compiled=True).encode(symbols)
    assert [0, 2, 0, 2, 0, 2, 0, 2] == symbols.tolist()


def test_sizes(native):
    """The lengths of many payloads at once are the reference's."""
    tables = RansTables(frequencies=normalise(np.arange(1, 33).reshape(2, 16)), lanes=1)
    symbols = np.random.default_rng(0).integers(0, 16, (5, 40)).astype(np.uint8)

    expected = Rans(tables, compiled=False).sizes(symbols).tolist()
    assert expected == Rans(tables, compiled=True).sizes(symbols).tolist()


class TestExtension:
    """The module itself, called past the classes that check what it is given."""

    FREQUENCIES = np.array([[1, 65535]], np.uint16)
    STARTS = np.array([[0, 1]], np.uint16)

    @pytest.mark.parametrize(
        ("frequencies", "starts", "tables", "lanes"),
        [
            (FREQUENCIES, STARTS[:, :1], 1, 1),
            (FREQUENCIES, STARTS, 3, 1),
            (FREQUENCIES, STARTS, 0, 1),
            (FREQUENCIES, STARTS, -1, 1),
            (FREQUENCIES, STARTS, 1, 0),
            (FREQUENCIES, STARTS, 1, -1),
            (FREQUENCIES, STARTS, 1, 1025),
            (FREQUENCIES, STARTS, 2, 1),
            (np.ones((1, 257), np.uint16), np.ones((1, 257), np.uint16), 1, 1),
            (b"", b"", 1, 1),
            (b"abc", b"abc", 1, 1),
        ],
    )
    def test_lengths_are_checked(self, extension, frequencies, starts, tables, lanes):
        """Buffers that are not what their numbers say are a ValueError."""
        with pytest.raises(ValueError, match=r"uint16|cannot be of these"):
            extension.encode(bytes(4), frequencies, starts, tables, lanes)
        with pytest.raises(ValueError, match=r"uint16|cannot be of these"):
            extension.decode(bytes(8), bytearray(4), frequencies, starts, tables, lanes)

    def test_unaligned_tables(self, extension):
        """Tables at an odd address are refused; not every processor can read them."""
        memory = np.zeros(9, np.uint8)
        odd = memory[1:5] if memory.ctypes.data % 2 == 0 else memory[0:4]
        with pytest.raises(ValueError, match="aligned"):
            extension.encode(bytes(4), odd, odd, 1, 1)

    def test_frequency_of_zero(self, extension):
        """A table that would divide by zero is a ValueError."""
        with pytest.raises(ValueError, match="has a symbol at 1 whose frequency is 0"):
            extension.encode(b"\1\0", np.array([0, 65535], np.uint16), self.STARTS, 1, 1)

    def test_unknown_symbol(self, extension):
        """A symbol that the tables do not have is a ValueError."""
        with pytest.raises(ValueError, match="has a symbol at 3 that"):
            extension.encode(b"\1\0\1\2", self.FREQUENCIES, self.STARTS, 1, 1)

    def test_nothing(self, extension):
        """No symbols are no call of this module's."""
        with pytest.raises(ValueError, match="cannot be of these"):
            extension.encode(b"", self.FREQUENCIES, self.STARTS, 1, 1)

    def test_read_only_symbols(self, extension):
        """What is decoded needs a buffer that can be written."""
        with pytest.raises(TypeError):
            extension.decode(bytes(8), bytes(4), self.FREQUENCIES, self.STARTS, 1, 1)


_ENDLESS_DECODING = """
import importlib.util, sys, threading
import numpy as np
from isplit.codec import compiled_rans
from isplit.codec.rans import Rans, RansTables, normalise

spec = importlib.util.spec_from_file_location("isplit.codec._rans", sys.argv[1])
compiled_rans.native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compiled_rans.native)
coder = Rans(RansTables(frequencies=normalise(np.ones((1, 256), int)), lanes=1), compiled=True)
symbols = np.zeros(1_000_000, np.uint8)
payload = coder.encode(symbols)
running = True

def decode_endlessly():
    while running:
        coder.decode(payload, symbols.size)

# A thread that does not let go of Python's lock by itself now keeps it for good.
sys.setswitchinterval(1e6)
thread = threading.Thread(target=decode_endlessly)
thread.start()
running = False
thread.join()
print("went on")
"""


def test_other_threads_go_on(extension):
    """Python's lock is released while a long payload is decoded."""
    command = [sys.executable, "-c", _ENDLESS_DECODING, extension.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ("went on", "") == (done.stdout.strip(), done.stderr)


def test_which_coder_is_installed():
    """The name of the coder is what an encoder uses unless told otherwise."""
    tables = RansTables(frequencies=normalise(np.ones((1, 2), int)), lanes=1)
    assert {"compiled": True, "numpy": False}[rans_coder()] == Rans(tables).compiled
