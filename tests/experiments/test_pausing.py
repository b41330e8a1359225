"""Experiments stand still while something quiet runs, by a lock in this checkout and no signal to anybody."""

import subprocess
import sys
import threading
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "experiments"))

from pausing import main, pause_point, quiet

SCRIPT = Path(__file__).parents[2] / "experiments" / "pausing.py"


def test_waits_while_the_lock_is_held(tmp_path):
    """`pause_point` returns only after the last holder has let go."""
    path, passed = tmp_path / "lock", threading.Event()
    waiter = threading.Thread(target=lambda: (pause_point(path), passed.set()))
    with quiet(path):
        with quiet(path):
            waiter.start()
        assert not passed.wait(0.2)
    waiter.join(60)
    assert passed.is_set()


def test_passes_when_nobody_holds_it(tmp_path):
    """Without a holder an experiment goes on at once, and so does the next."""
    pause_point(tmp_path / "lock")
    pause_point(tmp_path / "lock")


def test_command_and_its_status():
    """The command runs with its own arguments, and its exit status is handed on."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), sys.executable, "-c", "import sys; print('ran'); sys.exit(7)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (7, "ran\n", "") == (done.returncode, done.stdout, done.stderr)


def test_an_experiment_in_the_command_does_not_wait_for_it():
    """Tests run under the lock, and what they call of an experiment passes its pause points."""
    experiment = f"import sys; sys.path.append({str(SCRIPT.parent)!r}); from pausing import pause_point; pause_point()"
    command = [sys.executable, str(SCRIPT), sys.executable, "-c", f"{experiment}; print('passed')"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "passed\n", "") == (done.returncode, done.stdout, done.stderr)


def test_no_command(monkeypatch, capsys):
    """Without a command the usage is printed."""
    monkeypatch.setattr(sys, "argv", ["pausing.py"])
    assert 2 == main()
    assert "pausing.py COMMAND" in capsys.readouterr().out
