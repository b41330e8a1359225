"""A million hostile or mutated requests to the server's service, and a share of them over the socket.

Right requests of every kind (payloads of all four coders, plain latents, images) are mutated: bits flipped, bytes cut,
added, copied or made up, anywhere in the protobuf message or in the tensor's content; frames sealed again with a right
CRC and length, so that the coders are reached; names, types, shapes, counts and lengths replaced; floods of fields.

Each must be refused with a status that says why, or be answered if it is still a right request. Of every answer it is
checked that the request was right, with nothing of the server's: protobuf, the codec and onnxruntime are asked again,
and must give the same logits. INTERNAL is a failure. Memory is this process's, server and all.
"""

import asyncio
import gc
import io
import os
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
from dense_bundle import CODERS, latents, write_bundle
from numpy.typing import NDArray
from PIL import Image
from tritonclient.grpc import service_pb2

from isplit.codec.codec import Codec
from isplit.codec.coders import CODER_IDS
from isplit.codec.frame import HEADER_BYTES, pack_frame
from isplit.errors import DataError, PayloadError
from isplit.runtime.bundle import Bundle
from isplit.runtime.memory import bound_arenas
from isplit.runtime.server import Server, serving
from isplit.runtime.server.pictures import decode_picture
from isplit.runtime.server.refusal import RefusedError
from isplit.runtime.session import Session

RIGHT = "answered, as the request was still right"
ALLOWED = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", RIGHT}
AT_ONCE = 64
CHUNK = 2_000
SOCKET_SHARE = 0.01
METHOD = "/inference.GRPCInferenceService/ModelInfer"
WORDS = ("", "payload", "latent", "image", "logits", "bench.rans", "bench.remote", "BYTES", "UINT8", "FP32", "x" * 300)
NUMBERS = (-1, 0, 1, 2, 3, 8, 32, 33, 255, 2**31, 2**62)

pb: Any = service_pb2


class Hostile:
    """Makes requests from right ones."""

    def __init__(self, bundle: Bundle) -> None:
        shape = list(bundle.record.cuts[0].latent_shape)
        self.right: list[Any] = []
        self.codecs = {f"bench.{coder}": bundle.codec(coder) for coder in CODERS}
        symbols = latents(bundle.record, 4)
        for latent in symbols:
            for coder in CODERS:
                self.add(
                    f"bench.{coder}", "payload", "BYTES", [1], prefixed(bundle.codec(coder).encode_symbols(latent))
                )
            self.add("bench.raw", "latent", "UINT8", [1, *shape], latent.tobytes())
        rng = np.random.default_rng(2)
        for form in ("JPEG", "PNG", "WEBP"):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(file, form)
            self.add("bench.remote", "image", "BYTES", [1], prefixed(file.getvalue()))

    def add(self, model: str, tensor: str, datatype: str, shape: list[int], raw: bytes) -> None:
        """Keep a right request."""
        request = pb.ModelInferRequest(model_name=model, id="7")
        request.inputs.add(name=tensor, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
        self.right.append(request)

    def make(self, rng: np.random.Generator) -> bytes:
        """Return a mutated request."""
        request = pb.ModelInferRequest()
        request.CopyFrom(self.right[int(rng.integers(len(self.right)))])
        kind = int(rng.integers(30))
        if kind < 9:
            return mutate(request.SerializeToString(), rng)
        if kind < 22:
            content = request.raw_input_contents[0]
            prefix = 4 if request.inputs[0].datatype == "BYTES" else 0
            element = mutate(content[prefix:], rng)
            if request.inputs[0].name == "payload" and rng.random() < 0.6:
                element = seal(element, self.codecs[request.model_name])
            request.raw_input_contents[0] = prefixed(element) if prefix and rng.random() < 0.9 else element
        elif kind < 25:
            self.replace_field(request, rng)
        elif kind < 28:
            request.inputs[0].shape[int(rng.integers(len(request.inputs[0].shape)))] = int(rng.choice(NUMBERS))
        else:
            return flood(request.SerializeToString(), rng)
        return request.SerializeToString()

    def replace_field(self, request: Any, rng: np.random.Generator) -> None:
        """Put another word or tensor where one of the request's is."""
        word = WORDS[int(rng.integers(len(WORDS)))]
        match int(rng.integers(6)):
            case 0:
                request.model_name = word
            case 1:
                request.inputs[0].name = word
            case 2:
                request.inputs[0].datatype = word
            case 3:
                request.outputs.add(name=word)
            case 4:
                request.raw_input_contents.append(word.encode())
            case _:
                request.inputs[0].contents.bytes_contents.append(request.raw_input_contents.pop())


def prefixed(element: bytes) -> bytes:
    """Return the raw content of a BYTES tensor of one element."""
    return len(element).to_bytes(4, "little") + element


def seal(frame: bytes, codec: Codec) -> bytes:
    """Give a frame the right check."""
    return pack_frame(frame[HEADER_BYTES:], coder=CODER_IDS[codec.coder], codec_id=codec.codec_id)


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, add, copy, fill or replace bytes."""
    changed = bytearray(content)
    at = int(rng.integers(len(changed) + 1))
    match int(rng.integers(6)):
        case 0:
            for place in rng.integers(len(changed), size=int(rng.integers(1, 5))) if changed else ():
                changed[place] ^= 1 << int(rng.integers(8))
        case 1:
            del changed[at:]
        case 2:
            changed[at:at] = rng.bytes(int(rng.integers(1, 40)))
        case 3:
            there = int(rng.integers(len(changed) + 1))
            changed[at : at + 16] = changed[there : there + 16]
        case 4:
            changed[at : at + 8] = bytes([int(rng.choice([0, 1, 127, 128, 255]))]) * int(rng.integers(9))
        case _:
            changed[at:] = rng.bytes(int(rng.integers(len(changed) + 8)))
    return bytes(changed)


def flood(message: bytes, rng: np.random.Generator) -> bytes:
    """Add many fields that are tiny on the wire."""
    field = [b"\x2a\x00", b"\x22\x00", b"\x32\x00", b"\x3a\x00", b"\x2a\x02\x22\x00"][int(rng.integers(5))]
    return message + field * int(rng.choice([1, 10, 1000, 5000]))


class Referee:
    """Says what a request's answer must be, without the server: None when it is not a right one."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.tail = Session(bundle.tail_path("raw"))
        assert bundle.remote_path
        self.whole = Session(bundle.remote_path)

    def logits(self, raw: bytes) -> NDArray[np.float32] | None:
        """Return the logits of a request."""
        request = pb.ModelInferRequest.FromString(raw)
        (tensor,) = request.inputs
        content = request.raw_input_contents[0] if request.raw_input_contents else None
        if tensor.name == "latent":
            values = content if content is not None else bytes(tensor.contents.uint_contents)
            return self.tail.run(np.frombuffer(values, np.uint8).reshape(tuple(tensor.shape)))
        elements = split(content) if content is not None else list(tensor.contents.bytes_contents)
        if list(tensor.shape) != [len(elements)]:
            return None
        try:
            if tensor.name == "image":
                assert self.bundle.record.remote
                remote, preprocessing = self.bundle.record.remote, self.bundle.record.preprocessing
                return self.whole.run(np.stack([decode_picture(file, remote, preprocessing) for file in elements]))
            codec = self.bundle.codec(request.model_name.partition(".")[2])
            return self.tail.run(np.stack([codec.decode_symbols(payload) for payload in elements]))
        except (PayloadError, DataError, RefusedError):
            return None


def split(raw: bytes) -> list[bytes]:
    """Cut raw content into its elements."""
    elements: list[bytes] = []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        elements.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return elements


def resident_mib() -> float:
    """Return the memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def is_right(referee: Referee, raw: bytes, response: Any) -> bool:
    """Say whether an answer is the one that the request must have."""
    expected = referee.logits(raw)
    got = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(tuple(response.outputs[0].shape))
    # A batch of other requests may move the last bits.
    return expected is not None and expected.shape == got.shape and np.allclose(expected, got, rtol=1e-4, atol=1e-3)


class InProcess:
    """A request as the front hands it to the service, without a connection."""

    deadline = inf
    peer = "here"
    is_lone = False

    def __init__(self, raw: bytes) -> None:
        self.message = memoryview(raw)

    def release(self) -> None:
        """Let go of the message."""
        self.message = memoryview(b"")

    def send(self, message: bytes) -> None:
        """Refuse: ModelInfer has one answer."""
        raise AssertionError(message)


async def ask_all(server: Server, requests: list[bytes]) -> list[Any]:
    """Give requests to the service, so many at once; return responses and status names in their order."""
    service = server._service  # pyright: ignore[reportPrivateUsage]
    assert service

    async def ask(raw: bytes) -> Any:
        try:
            return await service.infer(InProcess(raw))
        except RefusedError as error:
            return error.status

    outcomes: list[Any] = []
    for first in range(0, len(requests), AT_ONCE):
        outcomes += await asyncio.gather(*(ask(raw) for raw in requests[first : first + AT_ONCE]))
    return outcomes


class Socket:
    """Eight callers of a server, over one connection for the whole run."""

    def __init__(self, address: str) -> None:
        self.channel: Any = grpc.insecure_channel(address)
        self.call = self.channel.unary_unary(METHOD, response_deserializer=pb.ModelInferResponse.FromString)
        self.pool = ThreadPoolExecutor(8)

    def close(self) -> None:
        """End the connection."""
        self.pool.shutdown()
        self.channel.close()

    def ask_all(self, requests: list[bytes]) -> list[Any]:
        """Send requests as they are; return responses and status names in their order."""
        return list(self.pool.map(self.ask, requests))

    def ask(self, raw: bytes) -> Any:
        """Send a request; return the response or the status's name."""
        try:
            return self.call(raw, timeout=30)
        except grpc.RpcError as error:
            return error.code().name  # type: ignore[attr-defined]


def judge(referee: Referee, raw: bytes, outcome: Any) -> str:
    """Return what became of a request in a word: a status, or whether the answer was right."""
    if isinstance(outcome, str):
        return outcome
    return RIGHT if is_right(referee, raw, outcome) else "WRONG ANSWER"


def one_chunk(
    seed: int, count: int, hostile: Hostile, referee: Referee, server: Server, socket: Socket
) -> dict[str, Counter[str]]:
    """Make requests, ask them all, and count what became of them. Nothing of it is kept."""
    assert server.loop
    rng = np.random.default_rng(seed)
    requests = [hostile.make(rng) for _ in range(count)]
    there = requests[: round(count * SOCKET_SHARE)]
    here = asyncio.run_coroutine_threadsafe(ask_all(server, requests), server.loop).result()
    over_socket = socket.ask_all(there)
    outcomes: dict[str, Counter[str]] = {"in process": Counter(), "socket": Counter()}
    for way, sent, received in (("in process", requests, here), ("socket", there, over_socket)):
        for raw, outcome in zip(sent, received, strict=True):
            word = judge(referee, raw, outcome)
            outcomes[way][word] += 1
            if word not in ALLOWED:
                print(f"chunk {seed}, {way}: {word} for {raw[:400]!r}", flush=True)
    return outcomes


def measure_hostile(count: int) -> dict[str, Any]:
    """Return what became of so many requests, and of memory. Ctrl-C ends it with what was done until then."""
    bound_arenas()  # as `isplit serve` does; here the server runs in a thread
    outcomes: dict[str, Counter[str]] = {"in process": Counter(), "socket": Counter()}
    memory_mib: list[float] = []
    started = time.perf_counter()
    with TemporaryDirectory() as directory:
        path = Path(directory) / "bundle"
        write_bundle(path, channels=32, side=4, hidden=(64,))
        bundle = Bundle.open(path)
        hostile, referee = Hostile(bundle), Referee(bundle)
        with (
            serving(bundle, max_queue=1024) as server,
            closing(Socket(server.address)) as socket,
            suppress(KeyboardInterrupt),
        ):
            for chunk in range(max(1, count // CHUNK)):
                words = one_chunk(chunk, min(CHUNK, count), hostile, referee, server, socket)
                for way, counts in words.items():
                    outcomes[way] += counts
                memory_mib.append(resident_mib())
                if chunk % 10 == 9:
                    print(f"{chunk + 1} chunks, {memory_mib[-1]:.1f} MiB", file=sys.stderr, flush=True)
    # Medians of a twentieth each: single readings vary with what the allocator has given back. The first is warming up.
    span = max(1, len(memory_mib) // 20)
    warm, last = statistics.median(memory_mib[span : 2 * span] or memory_mib), statistics.median(memory_mib[-span:])
    return {
        "requests": sum(outcomes["in process"].values()),
        "outcomes": {way: dict(counts.most_common()) for way, counts in outcomes.items()},
        "failures": sum(n for counts in outcomes.values() for word, n in counts.items() if word not in ALLOWED),
        "seconds": round(time.perf_counter() - started, 1),
        "memory_mib": {"after 5 %": round(warm, 1), "at the end": round(last, 1)},
        "memory_growth": round(last / warm - 1, 4),
    }
