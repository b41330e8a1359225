"""Links by name, by file, or as they are written on a command line; and traces of links that change."""

import csv
import math
from pathlib import Path

from pydantic import ValidationError

from isplit.errors import InputError
from isplit.plan.units import FASTEST_BITS_PER_S, parse_duration, parse_rate, parse_share
from isplit.records import LinkRecord, LinkTrace, Radio, TracePoint, read_shared

_OFCOM = (
    "means of Ofcom's measurements in five British cities, Q4 2014 (4G: 13.6 Mbit/s up, 14.7 down, 53.1 ms; 3G: "
    "1.6 Mbit/s up, 5.9 down, 63.5 ms), as reported at 4g5gworld.com"
)


def _link(
    name: str,
    title: str,
    *,
    up: float,
    down: float,
    rtt_ms: float,
    jitter_ms: float,
    loss: float,
    sources: tuple[str, ...],
    mtu_bytes: int = 1500,
    max_message_bytes: int | None = None,
    duty_cycle: float | None = None,
    radio: Radio | None = None,
) -> LinkRecord:
    return LinkRecord(
        name=name,
        title=title,
        source="estimated",
        sources=sources,
        up_bits_per_s=up,
        down_bits_per_s=down,
        rtt_ms=rtt_ms,
        jitter_ms=jitter_ms,
        loss_up=loss,
        loss_down=loss,
        mtu_bytes=mtu_bytes,
        max_message_bytes=max_message_bytes,
        duty_cycle=duty_cycle,
        radio=radio,
    )


def _presets() -> dict[str, LinkRecord]:
    return {
        link.name: link
        for link in (
            _link("ethernet", "Ethernet", up=1e9, down=1e9, rtt_ms=0.4, jitter_ms=0.05, loss=0.0, sources=(
                "IEEE 802.3ab: 1 Gbit/s", "round trip and jitter on one switch are assumptions",
            )),
            _link("wifi", "Wi-Fi", up=40e6, down=40e6, rtt_ms=4.0, jitter_ms=3.0, loss=0.0, sources=(
                "IEEE 802.11n, one stream, 20 MHz: 72.2 Mbit/s on the air, of which 55 % reach the network layer "
                "(assumption)", "round trip, jitter and radio power are assumptions; losses are repeated by the radio",
            ), radio=Radio(transmit_w=1.0, receive_w=0.7)),
            _link("5g", "5G", up=21.08e6, down=166.13e6, rtt_ms=30.0, jitter_ms=8.0, loss=0.0, sources=(
                "median rates worldwide in Q3 2021, Ookla Speedtest Intelligence: 21.08 Mbit/s up, 166.13 down",
                "round trip, jitter and radio power are assumptions",
            ), radio=Radio(transmit_w=2.5, receive_w=1.5)),
            _link("4g", "4G", up=13.6e6, down=14.7e6, rtt_ms=53.1, jitter_ms=12.0, loss=0.0, sources=(
                _OFCOM, "jitter and radio power are assumptions",
            ), radio=Radio(transmit_w=2.5, receive_w=1.5)),
            _link("3g", "3G", up=1.6e6, down=5.9e6, rtt_ms=63.5, jitter_ms=20.0, loss=0.0, sources=(
                _OFCOM, "jitter and radio power are assumptions",
            ), radio=Radio(transmit_w=1.8, receive_w=1.2)),
            _link("lte-m", "LTE-M", up=375e3, down=300e3, rtt_ms=120.0, jitter_ms=40.0, loss=0.0, sources=(
                "3GPP release 13, category M1 in half duplex: 375 kbit/s up and 300 down",
                "round trip, jitter and radio power are assumptions",
            ), radio=Radio(transmit_w=1.0, receive_w=0.4)),
            _link("nb-iot", "NB-IoT", up=62e3, down=26e3, rtt_ms=1600.0, jitter_ms=400.0, loss=0.0, sources=(
                "3GPP release 13, category NB1: 62 kbit/s up and 26 down, latency 1.6 to 10 s (blog.mbedded.ninja, "
                "Cellular Communication Protocols)", "jitter and radio power are assumptions",
            ), radio=Radio(transmit_w=0.7, receive_w=0.2)),
            _link("ble", "Bluetooth Low Energy", up=781e3, down=781e3, rtt_ms=30.0, jitter_ms=10.0, loss=0.0, sources=(
                "Bluetooth Core 5, LE 1M with data length extension: 244 bytes every 2.5 ms (2,120 us, two gaps of "
                "150 us and an empty packet of 80 us) are 781 kbit/s",
                "one connection interval of 30 ms as round trip, and radio power, are assumptions",
            ), radio=Radio(transmit_w=0.03, receive_w=0.03)),
            _link("lora", "LoRaWAN, SF7", up=5470.0, down=5470.0, rtt_ms=1100.0, jitter_ms=50.0, loss=0.0, sources=(
                "LoRaWAN regional parameters, EU868, DR5 (SF7, 125 kHz): 5,470 bit/s, at most 222 bytes in a message, "
                "answer one second after the end of the request", "ETSI EN 300 220: duty cycle 1 %",
                "radio power is an assumption",
            ), mtu_bytes=250, max_message_bytes=222, duty_cycle=0.01, radio=Radio(transmit_w=0.4, receive_w=0.05)),
        )
    }  # fmt: skip


def link_names() -> tuple[str, ...]:
    """Return the names of the link presets."""
    return tuple(_presets())


def load_link(spec: str | Path | LinkRecord, *, name: str) -> LinkRecord:
    """Return a link from a preset's name, a file that `isplit probe` wrote, or its figures.

    Figures are "RATE,RTT[,LOSS]" such as "4Mbit/s,50ms" or "1MB/s,20ms,1%"; two rates are "UP/DOWN" with a space or
    not: "2Mbit/s:8Mbit/s,50ms". Rates in bits and bytes are told apart as `isplit.plan.units` says.

    Raises:
        InputError: it is none of them, or a figure cannot be; `name` says where it was given.

    """
    if isinstance(spec, LinkRecord):
        return spec
    text = str(spec)
    presets = _presets()
    if text in presets:
        return presets[text]
    path = Path(text)
    if path.is_file():
        return read_shared(LinkRecord, path, command="isplit probe")
    if "," in text or any(character.isdigit() for character in text[:1]):
        return _stated(text, name=name)
    msg = (
        f"{name} is {text!r}, which is neither a preset ({', '.join(presets)}), a file that `isplit probe` wrote, nor "
        "figures such as 4Mbit/s,50ms or 2Mbit/s:8Mbit/s,50ms,1% (rate up and down, round trip, loss)"
    )
    raise InputError(msg)


def _stated(text: str, *, name: str) -> LinkRecord:
    parts = [part.strip() for part in text.split(",")]
    if not 1 <= len(parts) <= 3 or not all(parts):
        msg = f"{name} is {text!r}; give RATE,RTT[,LOSS], for example 4Mbit/s,50ms or 4Mbit/s,50ms,1%"
        raise InputError(msg)
    up_text, colon, down_text = parts[0].partition(":")
    up = parse_rate(up_text, name=f"the rate in {name}")
    down = parse_rate(down_text, name=f"the rate down in {name}") if colon else up
    rtt_ms = parse_duration(parts[1], name=f"the round trip in {name}") if len(parts) > 1 else 0.0
    loss = parse_share(parts[2], name=f"the loss in {name}") if len(parts) > 2 else 0.0
    title = f"a link of {text.replace(',', ', ')}"
    return _link(
        "stated", title, up=up, down=down, rtt_ms=rtt_ms, jitter_ms=0.0, loss=loss, sources=("stated by the user",)
    )


_COLUMNS = ("time_s", "bits_per_s", "rtt_ms", "loss")


def read_trace(path: Path) -> LinkTrace:
    """Read a link that changes from a CSV file with the columns time_s, bits_per_s, rtt_ms and loss.

    The rate down may have a column of its own, `down_bits_per_s`; without one it is the rate up. Loss is a share. The
    last point lasts as long as the one before it (a second where there is only one), then the trace starts again.

    Raises:
        InputError: the file cannot be read, lacks a column or rows, or holds what is no link; the message gives the
            line.

    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        msg = f"cannot read the trace {path}: {reason}"
        raise InputError(msg) from error
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        msg = (
            f"the trace {path} has no column {', '.join(missing)}; its first line has to be {','.join(_COLUMNS)}: "
            "seconds, bits per second (not bytes), milliseconds, and the share of packets lost"
        )
        raise InputError(msg)
    points: list[TracePoint] = []
    for row in rows:
        points.append(_point(row, path=path, line=rows.line_num))
    if not points:
        msg = f"the trace {path} is empty: after the line of column names it needs at least one line of figures"
        raise InputError(msg)
    step = points[-1].time_s - points[-2].time_s if len(points) > 1 else 1.0
    step = step if step > 0 else 1.0  # the record refuses times that do not grow, in words
    try:
        return LinkTrace(name=path.stem, points=tuple(points), seconds=points[-1].time_s + step)
    except ValidationError as error:
        msg = f"the trace {path} cannot be played: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        raise InputError(msg) from error


def _point(row: dict[str, str | None], *, path: Path, line: int) -> TracePoint:
    values: dict[str, float] = {}
    for column in (*_COLUMNS, "down_bits_per_s"):
        text = row.get(column)
        if text is None and column == "down_bits_per_s":
            continue
        try:
            values[column] = float(text or "")
        except ValueError:
            values[column] = math.nan
        if not math.isfinite(values[column]) or values[column] < 0:
            msg = f"{path}, line {line}: {column} is {text!r}; give a number of at least 0"
            raise InputError(msg)
    if values["loss"] >= 1 or values["bits_per_s"] > FASTEST_BITS_PER_S:
        msg = f"{path}, line {line}: loss has to be a share below 1 and the rate at most {FASTEST_BITS_PER_S:g} bit/s"
        raise InputError(msg)
    return TracePoint(
        time_s=values["time_s"],
        up_bits_per_s=values["bits_per_s"],
        down_bits_per_s=values.get("down_bits_per_s", values["bits_per_s"]),
        rtt_ms=values["rtt_ms"],
        loss=values["loss"],
    )
