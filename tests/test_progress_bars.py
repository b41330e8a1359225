"""Progress: lines every few seconds without a terminal, bars in one, and nothing that disturbs results."""

import os
import pty
import subprocess
import sys
from itertools import pairwise

import pytest

from isplit.progress_bars import ProgressBars


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_lines(clock, capsys):
    """Without a terminal there is a line every five seconds at first, which says how long it still takes."""
    with ProgressBars(clock=clock) as progress:
        for done in range(0, 1001, 10):
            clock.now_s = done * 0.2
            progress("importance", done, 1000)

    lines = capsys.readouterr().err.splitlines()
    assert "importance: 30 of 1,000, about 3 min left" == lines[0]
    assert "importance: 940 of 1,000, about 12 s left" == lines[-1]
    assert 20 == len(lines)


def test_long_work_has_a_line_a_minute(clock, capsys):
    """The longer it takes, the rarer are the lines, down to one a minute."""
    with ProgressBars(clock=clock) as progress:
        for done in range(7201):
            clock.now_s = done
            progress("training", done, 7200)

    seconds = [int(line.split()[1].replace(",", "")) for line in capsys.readouterr().err.splitlines()]
    gaps = [later - earlier for earlier, later in pairwise(seconds)]
    assert [5, 60] == [gaps[0], gaps[-1]]
    assert gaps == sorted(gaps)


def test_resumed_work_is_no_measure_of_speed(clock, capsys):
    """What an earlier run had done does not count for the time that is left."""
    with ProgressBars(clock=clock) as progress:
        progress("importance", 900, 1000)
        clock.now_s = 50
        progress("importance", 950, 1000)

    assert "importance: 950 of 1,000, about 50 s left\n" == capsys.readouterr().err


def test_quick_work_says_nothing(clock, capsys):
    """Work of less than five seconds leaves no line."""
    with ProgressBars(clock=clock) as progress:
        for done in range(5):
            clock.now_s += 0.9
            progress("cuts", done, 5)

    assert "" == capsys.readouterr().err


def test_quiet(clock, capsys):
    """Where progress is switched off, nothing is shown, but messages are."""
    with ProgressBars(enabled=False, clock=clock) as progress:
        clock.now_s = 100
        progress("cuts", 1, 5)
        progress.say("warning: [it] is so")

    assert ("", "warning: [it] is so\n") == (lambda streams: (streams.out, streams.err))(capsys.readouterr())


SCRIPT = """
from isplit.progress_bars import ProgressBars
with ProgressBars() as progress:
    progress("importance", 3, 10)
    progress.say("a message")
    print("a result")
    progress("importance", 10, 10)
"""


def test_bars_in_a_terminal_leave_results_alone():
    """In a terminal there are bars and the message above them; standard output gets its result, and nothing else."""
    mine, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=terminal, text=True, env=environment
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(mine, 4096)
            except OSError:  # the other end is closed
                break
        result = process.stdout.read()
    os.close(mine)

    assert "a result\n" == result
    assert b"a result" not in shown
    assert "10/10" in shown.decode()
    assert "━" in shown.decode()
    assert "a message" in shown.decode()
