"""isplit plan: the answer comes last, the record is written, and bad input ends with a reason and exit code 2."""

import json
from pathlib import Path

import pytest

import isplit as package
from isplit.records import PlanRecord, write_shared
from tests.plan.conftest import plain_link, rates_profile, write_study


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Path, list[str]]:
    """A study, and the options of two machines and a link whose figures are known."""
    study = write_study(tmp_path / "study")
    device = write_shared(rates_profile("board", 10.0), tmp_path / "board.json")
    server = write_shared(rates_profile("cloud", 1000.0), tmp_path / "cloud.json")
    link = write_shared(plain_link(), tmp_path / "link.json")
    return study, ["--device", str(device), "--server", str(server), "--link", str(link)]


def test_the_answer_is_the_last_line(isplit, planned, monkeypatch):
    """A table of 80 columns, the path of the record, and the sentence last."""
    monkeypatch.setenv("COLUMNS", "80")
    study, options = planned
    result = isplit("plan", study, *options, "--max-accuracy-loss", 0.02)
    assert (0, "") == (result.code, result.err)
    record = PlanRecord.load(study)
    assert "middle @ 1024B" == record.answer.chosen
    assert " ".join(result.out.split()).endswith(" ".join(record.answer.text.split()))
    table = result.out.split("plan: ")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80
    assert "estimated" in table


def test_the_legend_names_the_limit(isplit, planned):
    """Below a table with rows that are marked with "!" stands which limit they break; below one without, nothing."""
    study, options = planned
    result = isplit("plan", study, *options, "--all", "--max-latency-ms", 1, "--max-accuracy-loss", 1)
    legend = "! breaks this limit: a latency of at most 1 ms (--max-latency-ms)."
    assert legend in " ".join(result.out.split())

    result = isplit("plan", study, *options, "--max-accuracy-loss", 1)
    assert "breaks" not in result.out


def test_json_is_the_record(isplit, planned):
    """--json prints what the file holds, and nothing else."""
    study, options = planned
    result = isplit("plan", study, *options, "--json")
    assert json.loads(result.out) == json.loads((study / "plan.json").read_text())


def test_limits_from_a_file_and_options(isplit, planned, tmp_path):
    """YAML gives limits and the objective; an option wins over the file."""
    study, options = planned
    limits = tmp_path / "limits.yaml"
    limits.write_text("max_latency_ms: 5\nmax_accuracy_loss: 0.03\nobjective: bytes\n")
    result = isplit("plan", study, *options, "--limits", limits, "--max-latency-ms", "500", "-o", tmp_path / "p.json")
    assert (0, "") == (result.code, result.err)
    record = PlanRecord.from_json((tmp_path / "p.json").read_bytes())
    assert (500.0, 0.03, "bytes") == (record.limits.max_latency_ms, record.limits.max_accuracy_loss, record.objective)
    assert "local" == record.answer.chosen  # sends nothing


def test_other_options(isplit, planned):
    """An estimated, scaled device, three tiers, UDP, hidden answers, and every column of every placement."""
    study, options = planned
    more = [
        "--estimate",
        "gflops=20,gbps=10,watts=4",
        "--scale",
        "2",
        "--tier",
        "pi5@100Mbit/s,1ms",
        "--transport",
        "udp",
    ]
    more += ["--hide-answer", "--all", "--wide", "--max-device-memory", "200MB", "--cold", "--middle"]
    result = isplit("plan", study, *options[2:], *more)
    assert (0, "") == (result.code, result.err)
    record = PlanRecord.load(study)
    assert (2.0, "pi5", "udp") == (record.machines[0].scale, record.machines[2].name, record.transport)
    assert "never sees the answer" in result.out or "run it on the device" in result.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "pi6"], "--device is 'pi6'"),
        (["--link", "12mb/s,5ms"], "megabytes"),
        (["--link", "12,5ms"], "without a unit"),
        (["--server", "missing.json"], "--server is 'missing.json'"),
        (["--estimate", "gflops=fast", "--device", "pi4"], "--estimate has 'gflops=fast'"),
        (["--scale", "0"], "--scale is 0"),
        (["--scale", "nan"], "--scale is nan"),
        (["--scale", "1e-320"], "give a factor from 10^-6 to 10^6"),
        (["--estimate", "gflops=1e-320,gbps=1", "--device", "pi4"], "from 10^-6 to 10^9"),
        (["--tier", "pi5"], "MACHINE@LINK"),
        (["--transport", "quic"], "tcp or udp"),
        (["--objective", "beauty"], "--objective is 'beauty'"),
        (["--objective", ""], "--objective is ''"),
        (["--max-latency-ms", "-3"], "--max-latency-ms is -3; give a number of milliseconds above 0"),
        (["--max-latency-ms", "1e200"], "--max-latency-ms is 1e+200; give a number of milliseconds"),
        (["--max-p95-latency-ms", "nan"], "--max-p95-latency-ms is nan; give a number"),
        (["--max-device-energy-mj", "0"], "--max-device-energy-mj is 0; give a number of millijoules"),
        (["--max-wire-bytes", "-1"], "--max-wire-bytes is -1; give a number of bytes above 0"),
        (["--min-accuracy", "85"], "--min-accuracy is 85; give a share from 0 to 1: 85 % is 0.85"),
        (["--max-accuracy-loss", "-0.5"], "--max-accuracy-loss is -0.5; give a share"),
        (["--max-device-mac-share", "0"], "--max-device-mac-share is 0; give a share above 0"),
        (
            ["--max-latency-ms", "50", "--max-p95-latency-ms", "40"],
            "--max-p95-latency-ms is 40 and --max-latency-ms is 50, which contradict",
        ),
        (["--min-accuracy", "0.8", "--max-accuracy-loss", "0.1"], "--max-accuracy-loss is 0.1; give only one of them"),
        (["--hide-image", "--max-device-mac-share", "1e-4"], "--hide-image keeps the image on the device"),
        (["--estimate", "gflops=4,gbps=3"], "--device is"),
        (["--estimate", "gflops=4,gbps=3,gflops=5", "--device", "pi4"], "gives gflops twice"),
        (["--device", "Pi4"], "write pi4 for the preset"),
        (["--link", "4G"], "write 4g for the preset"),
        (["--link", "5ms,1Mbit/s"], "--link has a rate that is '5ms': 'ms' is a unit of time"),
        (["--link", "12Mbps,50"], "--link has a round trip that is '50', a number without a unit"),
        (["--link", "1,5Mbit/s,5ms"], "write decimals with a point: 1.5Mbit/s"),
        (["--link", "1Mbit,5ms"], "'Mbit' is an amount and not a rate; write 1Mbit/s"),
        (["--link", "1mbps,5ms"], "1MB/s is megabytes, which is 8Mbit/s"),
        (["--link", "-1Mbit/s,5ms"], "without a sign"),
        (["--link", "1Mbit/s;5ms"], "is not one of a rate"),
        (["--link", "1Mbit/s,5ms,100%"], "--link has a loss that is '100%'"),
        (["-o", ""], "--out is '.', a directory"),
        (["--max-device-memory", "150"], "without a unit"),
        (["--arrivals-per-s", "-1"], "--arrivals-per-s is -1"),
        (["--arrivals-per-s", "inf"], "--arrivals-per-s is inf"),
        (["--images-per-day", "1e308"], "--images-per-day 1e+308"),
        (["--group", "birds"], "no classes 'birds'"),
    ],
)
def test_bad_input(isplit, planned, options, words):
    """One line that says what was got and what to do; nothing is written."""
    study, machines = planned
    beside = [] if {"--device", "--link", "--server"} & {*options} else machines
    result = isplit("plan", study, *beside, *options)
    assert (2, "") == (result.code, result.out)
    assert words in result.err
    assert not (study / "plan.json").exists()


def test_names_in_shared_files_do_not_reach_the_terminal_as_they_are(isplit, planned, tmp_path):
    """An escape sequence in the name of a profile is printed escaped."""
    study, options = planned
    device = write_shared(rates_profile("a\x1b[31mb", 10.0), tmp_path / "odd.json")
    result = isplit("plan", study, *options, "--device", device)
    assert 0 == result.code
    assert "\x1b" not in result.both
    assert "a\\x1b[31mb" in result.out


@pytest.mark.parametrize("content", ["[1, 2]", "max_speed: 3", "max_latency_ms: soon", "a: [", "\x00"])
def test_bad_limit_files(isplit, planned, tmp_path, content):
    """No mapping, unknown and wrong values, and what is no YAML."""
    study, _ = planned
    path = tmp_path / "limits.yaml"
    path.write_text(content)
    result = isplit("plan", study, "--limits", path)
    assert 2 == result.code
    assert "limits" in result.err


def test_in_python(planned):
    """`isplit.plan` can be called before and after its package was imported, with a study or its path."""
    import isplit.plan

    study, options = planned
    kinds = {"device": options[1], "server": options[3], "link": options[5]}
    by_path = package.plan(str(study), limits={"max_accuracy_loss": 0.02}, **kinds)

    class Opened:
        directory = study

    assert by_path == isplit.plan(Opened(), limits={"max_accuracy_loss": 0.02}, **kinds)  # type: ignore[operator]
    assert "middle @ 1024B" == by_path.answer.chosen
