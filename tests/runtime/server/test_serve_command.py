"""`isplit serve` as a process of its own: signals, its log, its metrics and its files."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from tests.runtime.server.conftest import SHAPE

MAIN = "from isplit.cli import main; main()"


def start(*arguments):
    """Start `isplit serve` and return the process with the address that it prints."""
    command = [sys.executable, "-W", "error", "-c", MAIN, "serve", *map(str, arguments), "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    line = process.stdout.readline()
    match = re.match(r"listening on (\S+?)[,:] ", line)
    if not match:
        process.kill()
        pytest.fail(f"{line!r} {process.communicate()}")
    return process, match[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command(tiny, wire, number):
    """`isplit serve` prints where it listens, answers, and on a signal drains and exits 0; its log is JSON lines."""
    process, address = start(tiny.directory, "--metrics-port", "0")
    with process:
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            raw = tiny.latents["stage.1"][:1].tobytes()
            reply = stub.ModelInfer(wire.infer_request("tiny.stage.1", "latent", "UINT8", SHAPE, raw))
            assert tiny.logits[:1].tobytes() == reply.raw_output_contents[0]
            process.send_signal(number)
            _, log = process.communicate(timeout=wire.limit_s)
        assert 0 == process.returncode
        assert ["listening", "draining", "stopped"] == [json.loads(line)["event"] for line in log.splitlines()]


def test_log_is_json(tiny, wire):
    """Whatever peers send, every line of the log is a JSON object: no library prints lines of its own between them."""
    process, address = start(tiny.directory, "--metrics-port", "0", "--log-level", "debug")
    host, _, port = address.rpartition(":")
    with process:
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 200, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 9):
            with socket.create_connection((host, int(port)), timeout=wire.limit_s) as raw:
                raw.sendall(nonsense)
                with contextlib.suppress(OSError):
                    while raw.recv(2**16):
                        pass
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff", timeout=wire.limit_s)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=wire.limit_s)
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"listening", "refused", "stopped"} <= {line["event"] for line in lines}
    assert {"protocol_error", "invalid"} <= {line.get("reason") for line in lines}


def test_reload(tiny, wire, tmp_path):
    """On SIGHUP the token file is read again; one that cannot be used changes nothing, and the log says so."""
    token, metadata = tmp_path / "token", [("authorization", "Bearer " + "n" * 16)]
    token.write_text("o" * 16)
    process, address = start(tiny.directory, "--token-file", token)
    with process, grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def is_answered():
            try:
                return stub.ServerReady(wire.ready_request(), metadata=metadata, timeout=wire.limit_s).ready
            except grpc.RpcError:
                return False

        assert not is_answered()
        token.write_text("short")
        process.send_signal(signal.SIGHUP)
        token.write_text("n" * 16)
        wire.until(lambda: process.send_signal(signal.SIGHUP) or is_answered())
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=wire.limit_s)
    assert 0 == process.returncode
    assert "reloaded" in {json.loads(line)["event"] for line in log.splitlines()}


def test_config_file(tiny, wire, tmp_path):
    """A file gives options under their own names, with paths from where it is; the command line goes first."""
    (tmp_path / "tiny").symlink_to(tiny.directory)
    (tmp_path / "token").write_text("0123456789abcdef")
    config = tmp_path / "serve.yaml"
    config.write_text("bundles: [tiny]\nport: 1\ntoken-file: token\nmax_batch: 2\nmetrics-port: 0\ninsecure: true\n")
    process, address = start("--config", config)
    with process, grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = [("authorization", "Bearer 0123456789abcdef")]
        raw = tiny.latents["stage.1"][:3].tobytes()
        request = wire.infer_request("tiny.stage.1", "latent", "UINT8", [3, 4, 4, 4], raw)
        with pytest.raises(grpc.RpcError, match="N from 1 to 2"):
            stub.ModelInfer(request, metadata=metadata, timeout=wire.limit_s)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=wire.limit_s)
    assert 0 == process.returncode
