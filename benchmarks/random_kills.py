"""Kill processes that write studies and bundles at random moments, and count what is torn or lost afterwards.

    python benchmarks/random_kills.py [--kills 2000] [--kills-before 300] [--directory DIR]

A child process writes one generation after another, always in the same places, with the functions that `predict`, `fit`
and `export --overwrite` write with: a split (weights, codec, split.json), predictions.json, and a bundle. It says when
each is written, and is killed (SIGKILL) after a random time. Half of the bundles are put in place by exchanging two
names in one step, half in two steps, as on file systems that cannot exchange names. After each kill is checked:

torn  a record or bundle does not open, or weights and codec are not those of the generation that the record names.
lost  there is an older generation than the last that the child had finished.

The same is counted for the way in which earlier versions wrote ("before": a split's files under fixed names, a bundle
in two steps that nobody recovers), which shows that the check sees what it should. Weights are random bytes, so no
torch is needed. A kill of a process is not a power failure: whether the disk keeps what it acknowledged is not tested.

Results go to benchmarks/results/random_kills.json.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from synthetic_bundle import write_bundle

from isplit.errors import IsplitError
from isplit.records import (
    Accuracy,
    BottleneckSpec,
    Budget,
    BundledFile,
    Measurement,
    Paired,
    PayloadBytes,
    PredictionsRecord,
    SplitRecord,
    directories,
    write_whole,
)
from isplit.records.directories import new_directory
from isplit.records.split_files import read_split_files, write_split_files
from isplit.runtime.bundle import Bundle

RESULTS = Path(__file__).with_name("results") / "random_kills.json"
WEIGHTS_BYTES = 400_000
CODEC_BYTES = 20_000


def content(generation: int, size: int) -> bytes:
    """Return the bytes of a generation's weights or codec."""
    return random.Random(f"{generation} {size}").randbytes(size)


def split_record(generation: int) -> SplitRecord:
    """Return a record whose seed is the generation."""
    accuracy = Accuracy.from_counts(9, 10)
    measurement = Measurement(
        part="test",
        accuracy=accuracy,
        whole=accuracy,
        against_whole=Paired(only_first=0, only_second=0, difference=0, stderr=0),
        per_class={f"class {number}": accuracy for number in range(100)},
        payload_bytes=PayloadBytes(mean=1, p95=1, max=1, images=10),
        elements=1,
        clipped_share=0,
        encoder_macs=0,
        encoder_parameters=0,
        decoder_macs=0,
        decoder_parameters=0,
        head_macs=0,
        head_mac_share=0,
    )
    return SplitRecord(
        isplit_version="0",
        versions={},
        model="m",
        cut="pool1",
        group="all classes",
        budget=Budget(payload_bytes=60),
        bottleneck=BottleneckSpec(design="linear", shape=(1, 1, 1), channel_axis=0),
        statistics_images=1,
        samples_per_dimension=None,
        shrinkage=0.0,
        training=None,
        seed=generation,
        measurement=measurement,
    )


class Places:
    """Where the child writes, and how each kind is written and read back."""

    def __init__(self, directory: Path, *, before: bool) -> None:
        self._before = before
        self.study, self.bundle, self.template = directory / "study", directory / "bundle", directory / "template"
        self.split = self.study / "splits" / "pool1@60B-linear-trained"
        self.study.mkdir(parents=True)
        self._template = write_bundle(self.template, payloads=(512,))

    def write_split(self, generation: int) -> None:
        """Write a split as `fit` and `predict` do, or as they did before."""
        record = split_record(generation)
        if self._before:
            self.split.mkdir(parents=True, exist_ok=True)
            write_whole(self.split / "weights.safetensors", content(generation, WEIGHTS_BYTES))
            write_whole(self.split / "codec.npz", content(generation, CODEC_BYTES))
            record.save(self.split)
            return
        write_split_files(
            self.split,
            record,
            weights=content(generation, WEIGHTS_BYTES),
            codec=content(generation, CODEC_BYTES),
        )

    def read_split(self) -> int | None:
        """Return the generation of the split on disk; None if its files are not those of its record."""
        files = read_split_files(self.split)
        generation = files.record.seed
        expected = content(generation, WEIGHTS_BYTES), content(generation, CODEC_BYTES)
        return generation if (files.weights, files.codec) == expected else None

    def write_predictions(self, generation: int) -> None:
        """Write predictions.json as `predict` does."""
        PredictionsRecord(
            calibration="x" * 10_000,
            statistics_images=1,
            images=generation,
            seconds=0.0,
            predictions=(),
            remote=(),
        ).save(self.study)

    def read_predictions(self) -> int:
        """Return the generation of predictions.json."""
        return PredictionsRecord.load(self.study).images

    def write_bundle(self, generation: int) -> None:
        """Write a bundle over the one that is there, as `export --overwrite` does."""
        if generation % 2:
            directories._exchanged = lambda first, second: False  # pyright: ignore[reportPrivateUsage]
        if self._before:
            making, old = (self.bundle.with_name(f".bundle.{word}-before") for word in ("new", "old"))
            for leftover in (making, old):
                shutil.rmtree(leftover, ignore_errors=True)
            making.mkdir()
            self._fill(making, generation)
            if self.bundle.exists():
                self.bundle.rename(old)
            making.rename(self.bundle)
            shutil.rmtree(old, ignore_errors=True)
            return
        with new_directory(self.bundle, overwrite=True) as making:
            self._fill(making, generation)

    def _fill(self, making: Path, generation: int) -> None:
        shutil.copytree(self.template, making, dirs_exist_ok=True)
        (making / "weights.bin").write_bytes(content(generation, WEIGHTS_BYTES))
        files = self._template.files | {"weights.bin": BundledFile.of(making / "weights.bin")}
        versions = {"generation": str(generation)}
        self._template.model_copy(update={"files": files, "versions": versions}).save(making)

    def read_bundle(self) -> int | None:
        """Return the generation of the bundle; None if its weights are of another."""
        bundle = Bundle.open(self.bundle)
        generation = int(bundle.record.versions["generation"])
        weights = (self.bundle / "weights.bin").read_bytes()
        return generation if weights == content(generation, WEIGHTS_BYTES) else None


def write_generations(places: Places, first: int, pipe: int) -> None:
    """Write generations in a child process until it is killed; each line says what was begun or finished."""
    kinds: dict[str, Callable[[int], None]] = {
        "split": places.write_split,
        "predictions": places.write_predictions,
        "bundle": places.write_bundle,
    }
    generation = first
    while True:
        for kind, write in kinds.items():
            os.write(pipe, f"begun {kind} {generation}\n".encode())
            write(generation)
            os.write(pipe, f"finished {kind} {generation}\n".encode())
        generation += 1


def kill_once(places: Places, first: int, longest_s: float) -> list[tuple[str, str, int]]:
    """Start a child, kill it after a random time, and return what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            write_generations(places, first, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = [pipe.readline()]  # it has begun
        time.sleep(random.uniform(0, longest_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, "the child ended before it was killed"
        said += pipe.readlines()
    words = [line.decode().split() for line in said if line.endswith(b"\n")]
    return [(word, kind, int(generation)) for word, kind, generation in words]


def cycle_s(places: Places) -> float:
    """Return how long a generation takes, and leave a first one in place."""
    times: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        for write in (places.write_split, places.write_predictions, places.write_bundle):
            write(0)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def run(directory: Path, kills: int, *, before: bool) -> dict[str, object]:
    """Kill so many children one after the other, check after each, and return the counts."""
    places = Places(directory, before=before)
    longest_s = 1.5 * cycle_s(places)
    readers: dict[str, Callable[[], int | None]] = {
        "split": places.read_split,
        "predictions": places.read_predictions,
        "bundle": places.read_bundle,
    }
    known = dict.fromkeys(readers, 0)
    interrupted: Counter[str] = Counter()
    torn, lost = 0, 0
    for number in range(kills):
        said = kill_once(places, max(known.values()) + 1, longest_s)
        word, kind, _ = said[-1]
        interrupted[kind if word == "begun" else "between two"] += 1
        for word, kind, generation in said:
            if word == "finished":
                known[kind] = generation
        for kind, read in readers.items():
            try:
                generation = read()
            except (IsplitError, OSError, KeyError) as error:
                if not before:
                    print(f"kill {number}: {kind}: {error}")
                generation = None
            if generation is None:
                torn += 1
            elif generation < known[kind]:
                lost += 1
            known[kind] = max(known[kind], generation or 0)
        if (number + 1) % 200 == 0:
            print(f"{number + 1} kills: torn / lost: {torn} / {lost}", flush=True)
    # One undisturbed generation removes what the killed ones left.
    for write in (places.write_split, places.write_predictions, places.write_bundle):
        write(max(known.values()) + 1)
    left = [path.name for path in (*directory.iterdir(), *places.split.iterdir()) if path.name.startswith(".")]
    return {
        "kills": kills,
        "interrupted": dict(interrupted),
        "generations": max(known.values()),
        "torn": torn,
        "lost": lost,
        "left_over_files": len(left),
        "longest_wait_ms": round(1000 * longest_s, 1),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--kills-before", type=int, default=300)
    parser.add_argument("--directory", type=Path, help="where to write; its file system is the one that is tested")
    arguments = parser.parse_args()
    random.seed(0)
    start = time.perf_counter()
    results: dict[str, object] = {"machine": platform.platform()}
    for name, kills in (("now", arguments.kills), ("before", arguments.kills_before)):
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            result = results[name] = run(Path(directory), kills, before=name == "before")
        print(f"{name}: {kills} kills, torn / lost: {result['torn']} / {result['lost']}")
    results["seconds"] = round(time.perf_counter() - start)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
