"""Links: presets with their sources, stated figures, files, and traces."""

from pathlib import Path

import pytest

from isplit.errors import InputError
from isplit.plan.links import link_names, load_link, read_trace
from isplit.records import write_shared


def test_every_preset_names_its_sources_and_is_estimated():
    """Nine technologies; every one says where its figures are from, and what is assumed."""
    assert ("ethernet", "wifi", "5g", "4g", "3g", "lte-m", "nb-iot", "ble", "lora") == link_names()
    for name in link_names():
        link = load_link(name, name="--link")
        assert ("estimated", True) == (link.source, len(link.sources) >= 1)


def test_figures():
    """A rate, a round trip, and a loss; two rates are up and down; bytes are told from bits."""
    stated = load_link("2Mbit/s:1MB/s, 50ms, 1%", name="--link")
    assert (2e6, 8e6, 50.0, 0.01) == (stated.up_bits_per_s, stated.down_bits_per_s, stated.rtt_ms, stated.loss_up)


def test_a_missing_round_trip_is_called_an_assumption():
    """Rate alone gives 0 ms and says so among the sources; a stated round trip does not."""
    bare = load_link("2Mbit/s", name="--link")
    assert (0.0, ("stated by the user", "0 ms round trip assumed")) == (bare.rtt_ms, bare.sources)
    assert ("stated by the user",) == load_link("2Mbit/s,0ms", name="--link").sources


def test_a_file_is_read(tmp_path: Path):
    """What `isplit probe` wrote is used as it is."""
    link = load_link("4g", name="--link").model_copy(update={"name": "probed", "source": "measured"})
    assert link == load_link(write_shared(link, tmp_path / "l.json"), name="--link")


@pytest.mark.parametrize(
    "text", ["6g", "", "12", "4Mbit/s,50", "4Mbit/s,50ms,1%,x", "4Mbit/s,,1%", "4Mbit/s,50ms,200%", "４Mbit/s"]
)
def test_what_is_no_link_is_refused(text: str):
    """Unknown names, missing units, too many or empty figures, and a loss above 1."""
    with pytest.raises(InputError, match="--link"):
        load_link(text, name="--link")


def trace(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(text)
    return path


def test_a_trace_is_read(tmp_path: Path):
    """The last point lasts as long as the one before; the rate down is the rate up unless it has a column."""
    points = read_trace(trace(tmp_path, "time_s,bits_per_s,rtt_ms,loss\n0,1e6,50,0\n2,5e5,80,0.01\n"))
    assert (4.0, [1e6, 5e5], [1e6, 5e5]) == (
        points.seconds,
        [point.up_bits_per_s for point in points.points],
        [point.down_bits_per_s for point in points.points],
    )
    down = read_trace(trace(tmp_path, "time_s,bits_per_s,down_bits_per_s,rtt_ms,loss\n0,1e6,4e6,50,0\n"))
    assert (1.0, 4e6) == (down.seconds, down.points[0].down_bits_per_s)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column"),
        ("time_s,bits_per_s,rtt_ms,loss\n", "is empty"),
        ("time_s,MB/s,rtt_ms,loss\n0,1,1,0\n", "no column bits_per_s"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6,50,0\n1,fast,50,0\n", "line 3: bits_per_s is 'fast'"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6,50,1\n", "loss is 1; give a share below 1"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6,50,0\n0,1e6,50,0\n", "have to grow"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,0,50,0\n", "nothing could ever be sent"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6,50,0,5\n", "line 2 has more figures than there are columns"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6\n", "rtt_ms is missing"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,１,50,0\n", "bits_per_s is '１'"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,nan,50,0\n", "bits_per_s is 'nan'"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1Mbit/s,50,0\n", "without a unit"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6,50,0\n1e300,1e6,50,0\n", "time_s is 1e\\+300; give at most"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6,1e12,0\n", "rtt_ms is 1e\\+12; give at most"),
        ("time_s,bits_per_s,rtt_ms,loss\n0,1e6,50,0\n5,1e6,50,0\n3,1e6,50,0\n", "time 3.0 s follows 5.0 s"),
    ],
)
def test_bad_traces_are_refused(tmp_path: Path, text: str, words: str):
    """The message gives the column, the line, or what is wrong with the times."""
    with pytest.raises(InputError, match=words):
        read_trace(trace(tmp_path, text))


def test_a_missing_or_binary_trace_is_refused(tmp_path: Path):
    """A file that is not there, and one that is no text."""
    with pytest.raises(InputError, match="cannot read the trace"):
        read_trace(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InputError, match="not a text file"):
        read_trace(tmp_path / "b.csv")
