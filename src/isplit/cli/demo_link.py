"""The last part of the demo: a server and a device as processes of their own, and a slow link between them."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from isplit.errors import IsplitError
from isplit.records import PlacementRun, RunsRecord, read_answers
from isplit.runtime.link import Link, open_link
from isplit.runtime.served import served

_PATIENCE_S = 120


def measure_placements(
    bundle: Path, images: Path, *, placements: Sequence[str], classes: Mapping[str, str], rate_bits_per_s: int
) -> RunsRecord:
    """Serve a bundle, run a device against it for every placement, and sum up what it was answered.

    Args:
        bundle: What `isplit export` wrote.
        images: A directory of image files.
        placements: "local", "remote" or cuts of the bundle.
        classes: The true class of each image by its name.
        rate_bits_per_s: Of the link in either direction, where one can be made.

    Raises:
        IsplitError: the server or the device failed.

    """
    runs: list[PlacementRun] = []
    with open_link(rate_bits_per_s=rate_bits_per_s) as link, served(bundle, host=link.host) as address:
        for number, placement in enumerate(placements):
            answers = bundle.parent / f"answers-{number}.jsonl"
            options = ["--server", address, "--placement", placement, "--output", str(answers), "--depth", "1"]
            # A device that is told to answer alone still exits 0; one image without an answer makes it exit 1.
            _check(subprocess.run(
                [*link.prefix, sys.executable, "-m", "isplit", "run", str(bundle), str(images), *options, "--quiet"],
                capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
            ))  # fmt: skip
            answered = list(read_answers(answers))
            runs.append(PlacementRun.from_answers(placement, answered, classes=classes))
    return RunsRecord(link=_words(link), link_bits_per_s=link.rate_bits_per_s, runs=tuple(runs))


def _check(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        msg = f"`isplit run` failed: {done.stderr.strip() or done.stdout.strip()}"
        raise IsplitError(msg)


def _words(link: Link) -> str:
    if link.rate_bits_per_s is None:
        return f"over loopback (no slow link could be made: {link.reason})"
    return f"over a link of {link.rate_bits_per_s / 1e6:g} Mbit/s"
