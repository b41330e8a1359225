"""Progress bars in a terminal or a notebook, for the command line and for `progress=True`."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bars(*, enabled: bool = True) -> Generator[Callable[[str, int, int], None]]:
    """Show a bar on standard error for each thing that is being done.

    Args:
        enabled: False shows nothing, so that a caller needs no second path.

    Yields:
        A function to call with what is being done, how much of it is done, and how much there is.

    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not enabled) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
