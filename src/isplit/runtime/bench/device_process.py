"""Run the device of a benchmark in a process of its own, so that its processor time and memory can be measured.

`python -m isplit.runtime.bench.device_process` reads its task as JSON from standard input and classifies the images
one by one. It prints one answer a line, without those of the first images, which warm everything up, and then one line
with the resources that the process used.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from isplit.errors import IsplitError, ServerError
from isplit.records import Answer
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.security import Tls
from isplit.runtime.profile.memory import peak_memory_bytes


@dataclass(frozen=True, kw_only=True)
class DeviceTask:
    """The task of the device.

    `images` are files, and `server` is HOST:PORT (None: none is needed). The first `warm_up` images are classified
    without being counted. `tls` holds files for TLS (None: plain text). The device waits `pause_ms` between two
    images, so that queues are empty and TCP is in the state that it has between two images of a slow camera.
    """

    bundle: str
    images: tuple[str, ...]
    placement: str
    server: str | None = None
    token: str | None = None
    tls: Tls | None = None
    insecure: bool = False
    threads: int = 1
    warm_up: int = 5
    pause_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DeviceResult:
    """The answers in the order of the images, processor time for one image, and the process's peak memory."""

    answers: tuple[Answer, ...]
    cpu_ms: float
    peak_bytes: int


def run_device(task: DeviceTask, *, prefix: Sequence[str] = (), timeout_s: float = 3600.0) -> DeviceResult:
    """Run a task in a process of its own; `prefix` goes before its command line, to put it into a namespace.

    Raises:
        ServerError: the server cannot be used, or stopped answering; the message says why.
        IsplitError: the process failed in another way.

    """
    command = [*prefix, sys.executable, "-m", __name__]
    text = write_task(task)
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"the device's process for {task.placement} failed: {error}"
        raise IsplitError(msg) from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        kind = ServerError if done.returncode == _SERVER_FAILED else IsplitError
        msg = f"{task.placement} cannot be measured: {reason}"
        raise kind(msg)
    *lines, last = done.stdout.splitlines()
    used = json.loads(last)
    answers = tuple(Answer.from_json(line) for line in lines)
    return DeviceResult(answers=answers, cpu_ms=used["cpu_ms"], peak_bytes=used["peak_bytes"])


_SERVER_FAILED = 3


def write_task(task: DeviceTask) -> str:
    """Return a task as JSON, with paths as text."""
    return json.dumps(asdict(task), default=str)


def read_task(text: str) -> DeviceTask:
    """Return the task that `write_task` wrote."""
    fields = json.loads(text)
    if fields["tls"] is not None:
        fields["tls"] = Tls(**{name: path and Path(path) for name, path in fields["tls"].items()})
    return replace(DeviceTask(**fields), images=tuple(fields["images"]))


def classify_here(task: DeviceTask) -> DeviceResult:
    """Run a task in this process."""
    needs_server = task.placement != "local"
    with EdgeClient(
        task.bundle,
        task.server if needs_server else None,
        placement=task.placement,
        fallback=False,
        token=task.token if needs_server else None,
        tls=task.tls if needs_server else None,
        insecure=task.insecure,
        threads=task.threads,
        provider="cpu",
        verify=False,
        attempt_timeout_ms=60_000.0,
    ) as client:
        client.warm_up()
        for image in task.images[: task.warm_up]:
            client.classify(image)
        answers: list[Answer] = []
        cpu_s = 0.0
        for image in task.images:
            if task.pause_ms:
                time.sleep(task.pause_ms / 1e3)
            before_s = time.process_time()
            answers.append(client.classify(image))
            cpu_s += time.process_time() - before_s
    return DeviceResult(
        answers=tuple(answers), cpu_ms=1e3 * cpu_s / max(len(answers), 1), peak_bytes=peak_memory_bytes()
    )


def _main() -> int:
    task = read_task(sys.stdin.read())
    try:
        result = classify_here(task)
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return _SERVER_FAILED
    except IsplitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for answer in result.answers:
        sys.stdout.write(answer.to_line(logits=False))
    sys.stdout.write(json.dumps({"cpu_ms": result.cpu_ms, "peak_bytes": result.peak_bytes}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
