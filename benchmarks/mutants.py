"""Change the code at random places, one at a time, and list the changes that no test notices.

    python benchmarks/mutants.py [--count 300] [--seed 1] [--only PART_OF_A_PATH] [--again] [--list]

A mutant is a copy of the code with one small change: a comparison that takes in its limit or not, another operation or
sign, a number that is one more or one less, and/or, True/False, a condition turned round, a loop that never runs, break
instead of continue. The changes come from cosmic-ray. They are drawn by a hash of the changed line, so that the sample
for a seed stays nearly the same while other lines of the code change. What is never changed is said at `excluded` in
mutant_drawing.py.

Each mutant is run against the tests that mirror its module and those that `mutants.toml` names for it. The code is
changed in a copy of the checkout in a temporary folder, never in the checkout. Results are kept in .cache/mutants.jsonl
as they come: after an interrupt (Ctrl-C) the same command goes on where it stopped. `--again` runs those again that
lived, after tests were added, but for those of which mutants.toml says why nobody can see them. A mutant that runs into
the time limit is run a second time with twice the limit, and counts as killed (it hangs) only if it runs into that one
as well. Results go to benchmarks/results/mutants.json.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mutant_drawing import ROOT, TABLE, Mutant, drawn

SESSION = ROOT / ".cache" / "mutants.jsonl"
RESULTS = Path(__file__).parent / "results" / "mutants.json"
MIN_LIMIT_S = 60
LIMIT_PER_BASELINE = 4
OUTPUT = "pytest-output.txt"


class Session(dict[str, dict[str, Any]]):
    """The outcome of each mutant, and how long tests take when nothing is changed, by key; a line of JSON for each."""

    def __init__(self) -> None:
        super().__init__()
        for line in SESSION.read_text().splitlines() if SESSION.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):  # a line that an interrupt cut off
                entry = json.loads(line)
                self[entry["key"]] = entry

    def add(self, **entry: Any) -> None:
        """Keep an entry, in memory and in the file."""
        self[entry["key"]] = entry
        SESSION.parent.mkdir(exist_ok=True)
        with SESSION.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def tests_of(module: str) -> list[str]:
    """Return the test files of a module: its mirror, and those that mutants.toml names for it or for its folder."""
    inside = Path(module).relative_to("src/isplit")
    mirror = Path("tests") / inside.with_name(f"test_{inside.name}")
    mirrors = [str(mirror)] if (ROOT / mirror).exists() else TABLE["without_mirror"].get(str(inside.parent), [])
    further = TABLE["further"].get(str(inside), []) + TABLE["further"].get(str(inside.parent), [])
    return list(dict.fromkeys([*mirrors, *further]))


def run_pytest(folder: Path, tests: Sequence[str]) -> None:
    """Run tests in a forked process, which has the modules of `preload` already."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with (folder / OUTPUT).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    os.environ |= {"PYTHONPATH": str(folder / "src")}
    sys.path[:1] = [str(folder / "src"), str(folder)]
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not ray and not network",
        "--basetemp",
        str(folder / "scratch"),
    ]
    status = pytest.main([*options, *tests])
    sys.stdout.flush()
    os._exit(status)


class Bench:
    """A copy of the checkout in a temporary folder, in which one module at a time is changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writes = 0
        self.broken: set[str] = set()
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True, text=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def run(self, tests: Sequence[str], *, limit_s: float) -> tuple[str, float]:
        """Run tests until the first failure; return "passed", "failed" or "timeout", and the seconds."""
        started = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=run_pytest, args=(self.folder, tests))
        process.start()
        try:
            process.join(limit_s)
            seconds = time.monotonic() - started
            if process.is_alive():
                return "timeout", seconds
        finally:  # also after Ctrl-C; the servers that tests started are in the same group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()
        return ("failed" if process.exitcode else "passed"), seconds

    def output(self) -> str:
        """Return the end of what the last tests printed."""
        return (self.folder / OUTPUT).read_text(errors="replace")[-1500:]

    def write(self, module: str, code: str) -> None:
        """Write a module, as of another second each time, so that Python sees that its compiled code is stale."""
        (self.folder / module).write_text(code)
        self.writes += 1
        os.utime(self.folder / module, (self.writes, self.writes))

    def baseline_s(self, module: str, session: Session) -> float:
        """Return the seconds that a module's tests take when nothing is changed; they must pass."""
        tests = tests_of(module)
        key = "baseline " + " ".join(tests)
        if key in self.broken:
            raise ChildProcessError("fail when nothing is changed, as said above")
        if key not in session:
            outcome, seconds = self.run(tests, limit_s=600)
            if outcome != "passed":
                self.broken.add(key)
                raise ChildProcessError(f"{outcome} when nothing was changed:\n{self.output()}")
            session.add(key=key, seconds=round(seconds, 1))
        return session[key]["seconds"]

    def try_mutant(self, mutant: Mutant, session: Session) -> None:
        """Change the module, run its tests, and put it back."""
        limit_s = max(MIN_LIMIT_S, LIMIT_PER_BASELINE * self.baseline_s(mutant.module, session))
        source = (self.folder / mutant.module).read_text()
        try:
            self.write(mutant.module, mutant.code)
            outcome, seconds = self.run(tests_of(mutant.module), limit_s=limit_s)
            if outcome == "timeout":
                outcome, seconds = self.run(tests_of(mutant.module), limit_s=2 * limit_s)
        finally:
            self.write(mutant.module, source)
        word = {"passed": "lived", "failed": "killed", "timeout": "hung"}[outcome]
        session.add(key=mutant.key, outcome=word, seconds=round(seconds, 1), place=mutant.name)


REASONS = {(entry["module"], entry["before"], entry["after"]): entry["reason"] for entry in TABLE["equivalent"]}


def reason_of(mutant: Mutant) -> str | None:
    """Return why nobody can see a change, as mutants.toml says it; None where it says nothing."""
    return REASONS.get((mutant.module.removeprefix("src/isplit/"), mutant.before, mutant.after))


def is_due(mutant: Mutant, session: Session, *, again: bool) -> bool:
    """Return whether a mutant is to be run: a new one and, if asked for, one that lived though it can be seen."""
    if mutant.key not in session:
        return True
    return again and session[mutant.key]["outcome"] == "lived" and reason_of(mutant) is None


def report(mutants: Sequence[Mutant], session: Session) -> dict[str, Any]:
    """Print what lived, and the counts of each room; return them for the results file."""
    done = [mutant for mutant in mutants if mutant.key in session]
    rooms: dict[str, Counter[str]] = {}
    survivors: list[dict[str, Any]] = []
    for mutant in done:
        outcome = session[mutant.key]["outcome"]
        reason = reason_of(mutant)
        if reason and outcome == "killed":
            print(f"mutants.toml says that a killed mutant changes nothing: {mutant.name} {mutant.after}")
        if outcome == "lived":
            outcome = "equivalent" if reason else "lived"
            survivors.append({"place": mutant.name, "before": mutant.before, "after": mutant.after, "reason": reason})
            print(f"\n{mutant.name}  {f'changes nothing: {reason}' if reason else 'NO TEST NOTICES'}")
            print(f"  - {mutant.before}\n  + {mutant.after}")
        room = next(room for room in TABLE["rooms"] if mutant.module.startswith(f"{room}/"))
        rooms.setdefault(room.removeprefix("src/isplit/"), Counter())[outcome] += 1
    columns = ("killed", "hung", "equivalent", "lived")
    total = sum(rooms.values(), Counter())
    print(f"\n{'':22}{''.join(f'{column:>12}' for column in (*columns, 'killed %'))}")
    for name, counts in [*rooms.items(), ("all", total)]:
        share = 100 * (counts["killed"] + counts["hung"]) / counts.total()
        print(f"{name:22}{''.join(f'{counts[column]:12}' for column in columns)}{share:12.1f}")
    hung = [f"{mutant.name} {mutant.after}" for mutant in done if session[mutant.key]["outcome"] == "hung"]
    figures = {name: {column: counts[column] for column in columns} for name, counts in rooms.items()}
    return {"tried": len(done), "all": dict(total), "rooms": figures, "hung": hung, "not_killed": survivors}


def main() -> None:
    """Try the mutants that were not tried yet, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="how many mutants to draw")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws others")
    parser.add_argument(
        "--only",
        default="",
        help="of those drawn, only the ones whose path holds this; the results file stays as it is",
    )
    parser.add_argument("--again", action="store_true", help="run those again that lived and can be seen")
    parser.add_argument("--list", action="store_true", help="print the drawn mutants, and run nothing")
    options = parser.parse_args()
    mutants = [mutant for mutant in drawn(count=options.count, seed=options.seed) if options.only in mutant.name]
    if options.list:
        print("\n".join(f"{mutant.name}\n  - {mutant.before}\n  + {mutant.after}" for mutant in mutants))
        return
    for name in TABLE["preload"]:
        importlib.import_module(name)
    session = Session()
    todo = [mutant for mutant in mutants if is_due(mutant, session, again=options.again)]
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT also where a shell let it be ignored
        signal.signal(number, signal.default_int_handler)
    started = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="isplit-mutants-") as folder:
        bench = Bench(Path(folder))
        for number, mutant in enumerate(todo, 1):
            try:
                bench.try_mutant(mutant, session)
            except ChildProcessError as error:
                print(f"{mutant.name} cannot be tried: its tests {error}")
                continue
            left_min = (time.monotonic() - started) / number * (len(todo) - number) / 60
            outcome = session[mutant.key]["outcome"]
            print(f"{number}/{len(todo)}  {outcome:7} {mutant.name}  (about {left_min:.0f} min left)", flush=True)
    result = report(mutants, session)
    if not options.only:
        RESULTS.write_text(json.dumps({"seed": options.seed, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
