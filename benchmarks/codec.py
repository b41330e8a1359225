"""The codec under a million hostile frames, and how close rans comes to what is possible.

    python benchmarks/codec.py [--fuzz 1000000] [--quick]

fuzz    Frames of every coder are mutated (header fields, flipped and copied bytes, cut, lengthened, spliced, random
        content; two in three are given the right length and CRC again, so that the coders are reached) and decoded
        through `Codec.decode`. A frame must give a latent of the codec's shape or a PayloadError: anything else is a
        failure and is printed with its seed. Chunks have fixed seeds and are kept in results/codec-fuzz.jsonl until all
        are done, so that an interrupted run goes on where it stopped. Time is this thread's CPU time.
sizes   Total bytes over 200 synthetic images, without frame headers, over the cross-entropy under the static tables
        (which come from other images); the same for constriction's ANS coder with the same tables, and zstd and rle.
        The latents are Laplacian with scales that fall off from channel to channel, as a linear bottleneck's do.
speed   Nanoseconds of this thread's CPU time per symbol, median over rounds in which the contenders take turns; and how
        many times less the compiled coder takes than the one in numpy, the median of the rounds' ratios. An editable
        installation has the compiled coder if there was a C compiler.

Results go to benchmarks/results/codec.json and docs/runtime-benchmarks.md. With --fuzz 0 the last fuzz figures stay.
"""

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray
from runtime_page import write_page

from isplit.codec.codec import Codec
from isplit.codec.coders import CODER_IDS, Coder, Zstd
from isplit.codec.frame import HEADER_BYTES, pack_frame
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import Rans, RansTables, count_symbols, normalise, rans_coder
from isplit.codec.rle import Rle
from isplit.errors import PayloadError

RESULTS = Path(__file__).parent / "results"
STREAM: Any = constriction.stream  # pyright: ignore[reportAttributeAccessIssue] # a Rust module, without types
FUZZ_STATE = RESULTS / "codec-fuzz.jsonl"
CHUNK = 20_000
LEVELS = 256

# Channels, positions, scale of the widest channel: from deep cuts of a few bytes to an uncompressed early map.
CASES = [
    (17, 16, 1.0),
    (64, 16, 0.7),
    (64, 16, 3.0),
    (200, 16, 1.0),
    (200, 16, 4.0),
    (48, 196, 2.0),
    (64, 1024, 3.0),
    (64, 1024, 6.0),
]


def laplacian(images: int, channels: int, positions: int, scale: float, seed: int) -> NDArray[np.uint8]:
    """Return symbols, (images, channels, positions), centred on the middle level."""
    scales = scale * np.exp(-2 * np.arange(channels) / channels)[:, None]
    noise = np.random.default_rng(seed).laplace(size=(images, channels, positions)) * scales
    return np.clip(np.rint(noise) + LEVELS // 2, 0, LEVELS - 1).astype(np.uint8)


def histograms(symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each symbol comes up in each channel."""
    return np.stack([np.bincount(symbols[:, c].ravel(), minlength=LEVELS) for c in range(symbols.shape[1])])


# --- fuzz


@cache
def targets() -> list[tuple[Codec, list[bytes]]]:
    """Return codecs of every coder, small and large, each with frames of its own."""
    rng = np.random.default_rng(0)
    low, high = np.full(16, -4.0), np.linspace(1, 4, 16)
    per_channel = Quantiser.per_channel(low=low, high=high, levels=16)
    plain = [
        Codec(model="m", cut="a", shape=(16, 4, 5), quantiser=Quantiser.common(0.25, levels=60)),
        Codec(model="m", cut="b", shape=(9, 16), quantiser=per_channel, channel_axis=1),
        Codec(model="m", cut="c", shape=(1,), quantiser=Quantiser.common(1.0, levels=2)),
        Codec(model="m", cut="d", shape=(16, 16, 16), quantiser=Quantiser.common(0.1)),
    ]
    frames: list[tuple[Codec, list[bytes]]] = []
    for codec in plain:
        latents = [rng.laplace(size=codec.shape).astype(np.float32) * scale for scale in (0.0, 0.3, 1.0, 3.0)]
        symbols = np.stack([codec.quantiser.quantise(latent, channel_axis=codec.channel_axis) for latent in latents])
        counts = count_symbols(symbols, channel_axis=codec.channel_axis, levels=codec.quantiser.levels)
        rans = codec.with_rans(counts, images=len(latents))
        tables = RansTables(frequencies=normalise(counts), lanes=64)
        family = [replace(codec, coder=coder) for coder in ("raw", "zstd", "rle")]
        family += [rans, replace(rans, tables=tables)]
        frames += [(member, [member.encode(latent) for latent in latents]) for member in family]
    return frames


def seal(frame: bytearray, codec: Codec) -> bytes:
    """Give a frame the right check."""
    return pack_frame(bytes(frame[HEADER_BYTES:]), coder=CODER_IDS[codec.coder], codec_id=codec.codec_id)


def mutate(frame: bytearray, frames: list[bytes], rng: np.random.Generator) -> None:
    """Change a frame in one of seven ways."""
    at = int(rng.integers(len(frame) + 1))
    body = max(at, HEADER_BYTES)
    match int(rng.integers(8)):
        case 0:
            frame[at % HEADER_BYTES : at % HEADER_BYTES + 1] = rng.bytes(1)
        case 1 | 2:
            for place in rng.integers(len(frame), size=int(rng.integers(1, 5))) if frame else ():
                frame[place] ^= 1 << int(rng.integers(8))
        case 3:
            del frame[at:]
        case 4:
            frame += rng.bytes(int(rng.integers(1, 40)))
        case 5:
            frame[body:] = frames[int(rng.integers(len(frames)))][body:]
        case 6:
            frame[body : body + 8] = bytes([int(rng.choice([0, 1, 127, 128, 255]))]) * int(rng.integers(9))
        case _:
            frame[HEADER_BYTES:] = rng.bytes(int(rng.integers(max(len(frame), 1) + 8)))


def hostile(chunk: int) -> Iterator[tuple[Codec, bytes]]:
    """Yield a chunk's frames, each with the codec that is to decode it."""
    rng = np.random.default_rng([chunk, 20_24])
    for (codec, frames), _ in zip(cycle(targets()), range(CHUNK), strict=False):
        frame = bytearray(frames[int(rng.integers(len(frames)))])
        for _ in range(int(rng.integers(1, 4))):
            mutate(frame, frames, rng)
        yield codec, seal(frame, codec) if len(frame) >= HEADER_BYTES and rng.random() < 2 / 3 else bytes(frame)


def fuzz_chunk(chunk: int) -> dict[str, Any]:
    """Decode a chunk of hostile frames and count what came of them."""
    errors, valid, failures, slowest_ms = 0, 0, list[str](), 0.0
    by_coder = dict.fromkeys(CODER_IDS, 0)
    for i, (codec, frame) in enumerate(hostile(chunk)):
        begin = time.thread_time_ns()
        try:
            latent = codec.decode(frame)
            if latent.shape == codec.shape and latent.dtype == np.float32 and np.isfinite(latent).all():
                valid += 1
                by_coder[codec.coder] += 1
            else:
                failures.append(f"chunk {chunk} frame {i}: {latent.shape} {latent.dtype}")
        except PayloadError:
            errors += 1
        except Exception as error:  # noqa: BLE001 this is what the fuzzer looks for
            failures.append(f"chunk {chunk} frame {i}: {error!r}")
        slowest_ms = max(slowest_ms, (time.thread_time_ns() - begin) / 1e6)
    return {"chunk": chunk, "errors": errors, "valid": valid, "valid_by_coder": by_coder, "failures": failures,
            "slowest_ms": slowest_ms}  # fmt: skip


def fuzz(frames: int, *, keep: bool) -> dict[str, Any]:
    """Decode at least so many hostile frames, chunk after chunk, going on where an earlier run stopped."""
    lines = FUZZ_STATE.read_text().splitlines() if keep and FUZZ_STATE.exists() else []
    done: dict[int, dict[str, Any]] = {record["chunk"]: record for record in map(json.loads, lines)}
    chunks = range(-(-frames // CHUNK))
    for codec, good in targets():
        for frame in good:
            codec.decode(frame)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for chunk in chunks:
        if chunk not in done:
            done[chunk] = fuzz_chunk(chunk)
            growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            done[chunk]["memory_growth_kib"] = growth
            if keep:
                with FUZZ_STATE.open("a") as file:
                    file.write(json.dumps(done[chunk]) + "\n")
            print(f"fuzz {(chunk + 1) * CHUNK:>9,} of {frames:,}", end="\r", flush=True)
    records = [done[chunk] for chunk in chunks]
    failures = [failure for record in records for failure in record["failures"]]
    return {
        "frames": CHUNK * len(records),
        "errors": sum(record["errors"] for record in records),
        "valid": sum(record["valid"] for record in records),
        "valid_by_coder": {name: sum(record["valid_by_coder"][name] for record in records) for name in CODER_IDS},
        "anything_else": len(failures),
        "failures": failures[:20],
        "slowest_ms": max(record["slowest_ms"] for record in records),
        "memory_growth_kib": max(record["memory_growth_kib"] for record in records),
    }


# --- sizes and speed


class Constriction:
    """constriction's ANS coder (one lane, 64-bit state, 32-bit words) with our tables."""

    def __init__(self, tables: RansTables) -> None:
        """Make its models, one per channel."""
        frequencies = tables.frequencies.astype(np.float32) / 65536
        self.models = [STREAM.model.Categorical(table, perfect=False) for table in frequencies]

    def encode(self, symbols: NDArray[np.uint8]) -> bytes:
        """Encode the last channel first."""
        coder = STREAM.stack.AnsCoder()
        rows = symbols.reshape(len(self.models), -1).astype(np.int32)
        for row, model in zip(rows[::-1], self.models[::-1], strict=True):
            coder.encode_reverse(row, model)
        return coder.get_compressed().tobytes()

    def decode(self, payload: bytes, count: int) -> NDArray[np.uint8]:
        """Decode the first channel first."""
        coder = STREAM.stack.AnsCoder(np.frombuffer(payload, np.uint32))
        rows = [coder.decode(model, count // len(self.models)) for model in self.models]
        return np.concatenate(rows).astype(np.uint8)

    def max_bytes(self, count: int) -> int:
        """Return nothing useful; the contract asks for it."""
        return 4 * count + 8


def measure(channels: int, positions: int, scale: float, *, images: int, rounds: int) -> dict[str, Any]:
    """Compare sizes over images, and speed."""
    large = channels * positions > 10_000
    seen = laplacian(64 if large else 640, channels, positions, scale, seed=1)
    fresh = [
        image.ravel() for image in laplacian(images // 10 if large else images, channels, positions, scale, seed=2)
    ]
    tables = RansTables.from_counts(histograms(seen), images=len(seen))
    ideal = sum(float(tables.symbol_bits.ravel()[tables.entries(image)].sum()) for image in fresh) / 8
    coders: dict[str, Coder] = {
        "rans": Rans(tables, compiled=False),
        "constriction": Constriction(tables),
        "zstd": Zstd(LEVELS),
        "rle": Rle(LEVELS),
    }
    if rans_coder() == "compiled":
        coders["compiled"] = Rans(tables, compiled=True)
    count = channels * positions
    row: dict[str, Any] = {
        "channels": channels,
        "positions": positions,
        "bits_per_symbol": 8 * ideal / len(fresh) / count,
        "ideal_bytes": ideal / len(fresh),
        "lanes": tables.lanes,
    }
    payloads = {name: [coder.encode(image) for image in fresh] for name, coder in coders.items()}
    for name, coder in coders.items():
        for image, payload in zip(fresh, payloads[name], strict=True):
            assert np.array_equal(image, coder.decode(payload, count)), name
        row[f"{name}_over_ideal"] = sum(map(len, payloads[name])) / ideal
    some = range(min(len(fresh), 10))
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, coder in coders.items():
            encode = [partial(coder.encode, fresh[i]) for i in some]
            decode = [partial(coder.decode, payloads[name][i], count) for i in some]
            times.setdefault(f"{name}_encode_ns", []).append(ns_per_call(encode) / count)
            times.setdefault(f"{name}_decode_ns", []).append(ns_per_call(decode) / count)
    for way in ("encode", "decode") if "compiled" in coders else ():
        pairs = zip(times[f"rans_{way}_ns"], times[f"compiled_{way}_ns"], strict=True)
        row[f"numpy_over_compiled_{way}"] = statistics.median(numpy_ns / compiled_ns for numpy_ns, compiled_ns in pairs)
    return row | {name: statistics.median(values) for name, values in times.items()}


def ns_per_call(calls: Sequence[Callable[[], object]]) -> float:
    """Return the mean CPU time of some calls."""
    begin = time.thread_time_ns()
    for call in calls:
        call()
    return (time.thread_time_ns() - begin) / len(calls)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print sizes, then speeds."""
    print("\nbytes over the cross-entropy, then encode/decode in ns per symbol (rans: numpy), then numpy over compiled")
    print(f"{'channels x positions':>21} {'bits':>5} {'ideal B':>8} {'lanes':>5} |"
          f"{'rans':>8} {'constr.':>7} {'zstd':>7} {'rle':>7} | {'rans':>9} {'constr.':>10} {'zstd':>10}")  # fmt: skip
    for row in rows:
        sizes = " ".join(f"{row[f'{name}_over_ideal']:7.3f}" for name in ("rans", "constriction", "zstd", "rle"))
        speeds = "  ".join(
            f"{row[f'{name}_encode_ns']:4.0f}/{row[f'{name}_decode_ns']:4.0f}"
            for name in ("rans", "constriction", "zstd")
        )
        ratios = "/".join(
            f"{row[name]:.1f}" for way in ("encode", "decode") if (name := f"numpy_over_compiled_{way}") in row
        )
        shape = f"{row['channels']} x {row['positions']}"
        print(f"{shape:>21} {row['bits_per_symbol']:5.2f} {row['ideal_bytes']:8.1f} {row['lanes']:5} | "
              f"{sizes} | {speeds} | {ratios}")  # fmt: skip


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, default=1_000_000, metavar="N", help="hostile frames (0: none)")
    parser.add_argument("--quick", action="store_true", help="20,000 frames, fewer images and rounds, nothing kept")
    arguments = parser.parse_args()
    images, rounds = (20, 3) if arguments.quick else (200, 15)
    RESULTS.mkdir(exist_ok=True)
    rows = [measure(*case, images=images, rounds=rounds) for case in CASES]
    print_rows(rows)
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
        "rans_coder": rans_coder(),
        "versions": {name: version(name) for name in ("numpy", "zstandard", "constriction")},
        "coders": rows,
    }
    if frames := min(arguments.fuzz, CHUNK) if arguments.quick else arguments.fuzz:
        result["fuzz"] = fuzz(frames, keep=not arguments.quick)
        print()
        for name, value in result["fuzz"].items():
            print(f"fuzz {name}: {value}")
    if not arguments.quick:
        path = RESULTS / "codec.json"
        last = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(last | result, indent=1) + "\n")
        write_page()
        FUZZ_STATE.unlink(missing_ok=True)
        print(f"written to {path}")


if __name__ == "__main__":
    main()
