"""Show how far work has come: bars in a terminal or a notebook, else a line every few seconds."""

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = (5.0, 60.0)
_SHARE_BETWEEN_LINES = 0.1


class ProgressBars:
    """Shows on standard error how far work has come, from `with` to its end.

    Called with what is being done, how much of it is done, and how much there is, it draws a bar for each thing; where
    standard error is no terminal (a file, a pipe, a job of a cluster), it writes a line every few seconds instead, and
    in longer work one a minute: "importance: 320 of 1,000, about 2 min left".

    Args:
        enabled: False shows nothing, so that a caller needs no second path. What is said is still shown.
        clock: Returns seconds; another one is for tests.

    Examples:
        >>> with ProgressBars(enabled=False) as progress:
        ...     progress("importance", 1, 10)

    """

    def __init__(self, *, enabled: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(stderr=True)
        terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        drawn = enabled and (terminal or self._console.is_jupyter)
        self._bars = _new_bars(self._console) if drawn else None
        self._lines = _Lines(self._console, clock) if enabled and not drawn else None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done."""
        if self._lines is not None:
            self._lines.show(what, done, total)
        if self._bars is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line to standard error, above the bars where there are any."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _new_bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Standard output is for results and may be a file: it must not go to the terminal by way of the bars.
    return Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=True)


class _Lines:
    """Progress where nothing can be drawn again: at most one line every few seconds."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._last_line_s = clock()
        self._starts: dict[str, tuple[float, int]] = {}

    def show(self, what: str, done: int, total: int) -> None:
        now_s = self._clock()
        start_s, done_at_start = self._starts.setdefault(what, (now_s, done))
        # Who waits for hours reads a line a minute; one every five seconds would fill the terminal.
        shortest_s, longest_s = _SECONDS_BETWEEN_LINES
        gap_s = min(max(shortest_s, _SHARE_BETWEEN_LINES * (now_s - start_s)), longest_s)
        if now_s - self._last_line_s < gap_s:
            return
        self._last_line_s = now_s
        rest = ""
        if done_at_start < done < total:
            left_s = (now_s - start_s) * (total - done) / (done - done_at_start)
            rest = f", about {_duration(left_s)} left"
        self._console.print(f"{what}: {done:,} of {total:,}{rest}", markup=False, highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """Write a duration with its largest unit: "40 s", "2 min", "3 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{round(seconds / 3600)} h"
