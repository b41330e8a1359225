"""Rightful clients of a server that is under attack: their latency, and the server's memory.

    python benchmarks/hostile_clients.py [--seconds 60] [--only WORDS] [--undisturbed] [--same-address] [--before SRC]

Attacks, each by strangers (no token) and by clumsy clients (with the token), over plain text, TLS, and TLS with client
certificates (where strangers have one, but no token):

half-open    700 calls that send headers and nothing else.
health       The same of Health/Check, which needs no token.
stalled      100 messages of 31 MiB that stop one byte short of their end, on ten connections.
connections  1,000 connections that say hello and nothing else.
mixed        All of them together.

The attacker runs only when a processor has nothing else to do, because on its own machine it would take no processor
time from the server. With `--undisturbed`, which needs the right to it, the server and the rightful clients have
real-time priority. The attacker connects from another address than rightful clients do, unless `--same-address` is
given. What the server ends is begun again at once. Meanwhile rightful clients ask over a connection of their own: small
payloads all the time, a compressed image of 300 KiB twice a second, and a payload over a new connection and a health
check each second. `isplit serve` runs in a process of its own. Every round first measures at rest, with the same
rightful clients, and then under the attack; memory is the server's resident set, and its growth the peak under attack
above the median at rest.

With `--before`, the server of another checkout (its src directory) is measured too. Where its bundles are of another
format, copy this file and attacks.py into the benchmarks of that checkout, and run them there.

Results go to benchmarks/results/hostile_clients.json, and from there to docs/server-attacks.md.
"""

import argparse
import datetime
import io
import ipaddress
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
from attacks import HEALTH, Attack
from attacks_page import write_page
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dense_bundle import latents, write_bundle
from grpc_health.v1 import health_pb2
from PIL import Image
from tritonclient.grpc import service_pb2

from isplit.runtime.bundle import Bundle

RESULTS = Path(__file__).parent / "results" / "hostile_clients.json"
TOKEN = "0123456789abcdef0123456789abcdef"
LINKS = ("plain", "tls", "mtls")
MIB = 2**20
PAUSE_S = 0.02
ADDRESS, ANOTHER_ADDRESS = "127.0.0.1", "127.0.0.2"
pb: Any = service_pb2
health: Any = health_pb2


@dataclass(frozen=True)
class Keys:
    """Files of a certificate authority, a server and a client."""

    directory: Path

    def __getattr__(self, name: str) -> str:
        return str(self.directory / f"{name}.pem")

    @classmethod
    def make(cls, directory: Path) -> "Keys":
        """Make them."""
        directory.mkdir()
        ca_key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
        for name in ("ca", "server", "client"):
            key = ca_key if name == "ca" else ec.generate_private_key(ec.SECP256R1())
            hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            subject = issuer if name == "ca" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            certificate = (
                x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=90))
                .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
                .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
                .sign(ca_key, hashes.SHA256())
            )
            (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            (directory / f"{name}_key.pem").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        return cls(directory)


def attacks(kind: str, *, token: str | None, link: str, keys: Keys, source: str) -> list[Attack]:
    """Return the attacks of a kind, from an address."""
    common: dict[str, Any] = {"token": token, "source": source}
    if link != "plain":
        common["ca"] = keys.ca
    if link == "mtls":
        common |= {"certificate": keys.client, "key": keys.client_key}
    kinds = {
        "half-open": Attack(kind="half-open", connections=7, calls=700, **common),
        "health": Attack(kind="health", connections=7, calls=700, method=HEALTH, **common),
        "stalled": Attack(kind="stalled", connections=10, calls=100, size=31 * MIB, held_back=1, **common),
        "connections": Attack(kind="connections", connections=1000, **common),
    }
    return list(kinds.values()) if kind == "mixed" else [kinds[kind]]


class Serving:
    """`isplit serve` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], address: str, metrics_port: int) -> None:
        self.process = process
        self.address = address
        self.metrics_port = metrics_port

    def memory_mib(self) -> float:
        """Return the resident set."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@contextmanager
def serve(bundle: Path, link: str, keys: Keys, *, source: Path | None, log: Path) -> Generator[Serving]:
    """Run the server; `source` is the src directory of another checkout."""
    token = keys.directory / "token"
    token.write_text(TOKEN)
    # With a queue so short, gRPC's own server (--before) took fewer calls at a time than the attack opens.
    options = ["--token-file", str(token), "--metrics-port", "0", "--port", "0", "--max-queue", "64"]
    if link != "plain":
        options += ["--tls-cert", keys.server, "--tls-key", keys.server_key]
    if link == "mtls":
        options += ["--tls-client-ca", keys.ca]
    command = [sys.executable, "-c", "from isplit.cli import main; main()", "serve", str(bundle), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(source)} if source else {})
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        assert process.stdout
        line = process.stdout.readline()
        match = re.match(r"listening on (\S+), metrics on port (\d+)", line)
        assert match, f"the server did not start: {line!r} {log.read_text()[-400:]}"
        try:
            yield Serving(process, match[1], int(match[2]))
        finally:
            process.send_signal(signal.SIGKILL)


@dataclass
class Samples:
    """Seconds of every kind of rightful call, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    failures: dict[str, int] = field(default_factory=dict[str, int])
    memory_mib: list[float] = field(default_factory=list[float])


class Rightful:
    """Clients that do as they should."""

    def __init__(self, serving: Serving, bundle: Bundle, link: str, keys: Keys) -> None:
        self.serving = serving
        self.samples = Samples()
        self.ended = threading.Event()
        self.credentials = None
        if link != "plain":
            pair = (
                [Path(name).read_bytes() for name in (keys.client_key, keys.client)] if link == "mtls" else [None] * 2
            )
            self.credentials = grpc.ssl_channel_credentials(Path(keys.ca).read_bytes(), pair[0], pair[1])
        codec = bundle.codec("zstd")
        payload = codec.encode_symbols(latents(bundle.record, 1)[0])
        self.payload = infer_request(f"{bundle.name}.zstd", "payload", payload)
        file = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        self.image = infer_request(f"{bundle.name}.remote", "image", file.getvalue())

    def channel(self) -> Any:
        """Return a new connection."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        if self.credentials is None:
            return grpc.insecure_channel(self.serving.address, options=options)
        return grpc.secure_channel(self.serving.address, self.credentials, options=options)

    def ask(self, kind: str, channel: Any, path: str, request: bytes) -> None:
        """Make a call, and note what it took."""
        started = time.perf_counter()
        try:
            channel.unary_unary(path)(request, timeout=10, metadata=(("authorization", f"Bearer {TOKEN}"),))
        except grpc.RpcError as error:
            word = f"{kind}: {error.code().name}"  # type: ignore[attr-defined]
            self.samples.failures[word] = self.samples.failures.get(word, 0) + 1
        self.samples.seconds.setdefault(kind, []).append(time.perf_counter() - started)

    def repeat(self, kind: str, pause_s: float, path: str, request: bytes, *, fresh: bool = False) -> None:
        """Make such calls until the end."""
        channel = self.channel()
        while not self.ended.wait(pause_s):
            if fresh:
                with self.channel() as once:
                    self.ask(kind, once, path, request)
            else:
                self.ask(kind, channel, path, request)
        channel.close()

    @contextmanager
    def asking(self) -> Generator[None]:
        """Ask while the block runs."""
        path = "/inference.GRPCInferenceService/ModelInfer"
        check = health.HealthCheckRequest().SerializeToString()
        kinds: tuple[tuple[str, float, str, bytes, bool], ...] = (
            ("payload", PAUSE_S, path, self.payload, False),
            ("image", 0.5, path, self.image, False),
            ("new connection", 1.0, path, self.payload, True),
            ("health", 1.0, HEALTH, check, False),
        )
        threads = [
            threading.Thread(target=self.repeat, args=kind[:4], kwargs={"fresh": kind[4]}, daemon=True)
            for kind in kinds
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.ended.set()
            for thread in threads:
                thread.join()
            self.ended.clear()

    def measure(self, seconds: float) -> Samples:
        """Return what was seen in so many seconds."""
        self.samples = Samples()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            with suppress(OSError):
                self.samples.memory_mib.append(self.serving.memory_mib())
            time.sleep(0.05)
        return self.samples


def use_idle_processors() -> None:
    """Let this process run only when a processor has nothing else to do.

    Real strangers use processors of their own. Here they get what the server and its clients leave.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def infer_request(model: str, tensor: str, element: bytes) -> bytes:
    """Return a request with one element."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name=tensor, datatype="BYTES", shape=[1])
    request.raw_input_contents.append(len(element).to_bytes(4, "little") + element)
    serialized: bytes = request.SerializeToString()
    return serialized


def measure_round(
    kind: str, who: str, link: str, *, seconds: float, checkout: Path | None, address: str
) -> dict[str, Any]:
    """Return what one attack does that comes from an address."""
    with TemporaryDirectory() as directory:
        root = Path(directory)
        record = write_bundle(root / "bundle", channels=32, side=8, hidden=(256,))
        assert record.remote
        # As exported bundles have it, so that messages of up to 32 MiB are rightful.
        remote = record.remote.model_copy(update={"max_image_bytes": 2 * MIB})
        record.model_copy(update={"remote": remote}).save(root / "bundle")
        keys = Keys.make(root / "keys")
        bundle, log = Bundle.open(root / "bundle"), root / "log"
        token = TOKEN if who == "clumsy" else None
        with serve(root / "bundle", link, keys, source=checkout, log=log) as serving:
            rightful = Rightful(serving, bundle, link, keys)
            with rightful.asking():
                rightful.measure(2)  # what is loaded when first needed
                rest = rightful.measure(min(10.0, seconds))
                chosen = attacks(kind, token=token, link=link, keys=keys, source=address)
                texts = [json.dumps(asdict(attack)) for attack in chosen]
                command = [sys.executable, str(Path(__file__).parent / "attacks.py"), serving.address, *texts]
                with subprocess.Popen(command, preexec_fn=use_idle_processors) as attacker:
                    attacked = rightful.measure(seconds)
                    alive = attacker.poll() is None
                    attacker.kill()
            refusals = read_refusals(serving.metrics_port)
        lines = log.read_text().count('"refused"')
    assert alive, "the attack ended by itself"
    named = {"attack": kind, "by": who, "link": link, "address": "same" if address == ADDRESS else "another"}
    return named | compare(rest, attacked) | {"refusals": refusals, "log": lines}


def compare(rest: Samples, attacked: Samples) -> dict[str, Any]:
    """Return latencies and memory at rest and under attack."""
    rest_mib, peak_mib = statistics.median(rest.memory_mib), max(attacked.memory_mib)
    result: dict[str, Any] = {
        "memory_mib": {"rest": round(rest_mib, 1), "peak": round(peak_mib, 1), "growth": round(peak_mib - rest_mib, 1)},
        "failures": attacked.failures,
    }
    for kind in ("payload", "image", "new connection", "health"):
        quiet, busy = rest.seconds.get(kind, []), attacked.seconds.get(kind, [])
        if not quiet or not busy:
            continue
        rest_ms, attacked_ms = (float(np.percentile(times, 95)) * 1e3 for times in (quiet, busy))
        result[kind] = {
            "calls": len(busy),
            "p95_rest_ms": round(rest_ms, 2),
            "p95_ms": round(attacked_ms, 2),
            "ratio": round(attacked_ms / rest_ms, 2),
        }
    return result


def read_refusals(port: int) -> dict[str, float]:
    """Return the server's own count of refusals, by reason."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    counts = re.findall(r'^isplit_refusals_total\{reason="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {reason: float(count) for reason, count in counts if float(count)}


def main() -> None:
    """Measure every attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of each attack")
    parser.add_argument("--before", type=Path, help="src directory of another checkout, to compare with")
    parser.add_argument("--only", default="", help="rounds whose name holds this, e.g. 'stalled stranger tls'")
    parser.add_argument("--same-address", action="store_true", help="attack from the address of the rightful clients")
    parser.add_argument(
        "--undisturbed",
        action="store_true",
        help="give the server and its rightful clients real-time priority, so that other programs do not disturb them",
    )
    options = parser.parse_args()
    if options.undisturbed:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    address = ADDRESS if options.same_address else ANOTHER_ADDRESS
    for version, checkout in (("before", options.before), ("after", None)):
        if version == "before" and checkout is None:
            continue
        for link in LINKS:
            for who in ("stranger", "clumsy"):
                for kind in ("half-open", "health", "stalled", "connections", "mixed"):
                    if set(options.only.split()) <= {version, link, who, kind}:
                        measured = measure_round(
                            kind, who, link, seconds=options.seconds, checkout=checkout, address=address
                        )
                        keep(version, measured)


def keep(version: str, result: dict[str, Any]) -> None:
    """Print a round's result and write it beside the others'."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {"cpu": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    rounds = results.setdefault(version, {})
    result = result | {"measured": datetime.datetime.now(datetime.UTC).date().isoformat()}
    name = f"{result['attack']}, {result['by']}, {result['link']}"
    rounds[name + (", same address" if result["address"] == "same" else "")] = result
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page()
    print(version, json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
