"""The server under attack, by strangers and by clumsy clients, over every kind of link: rightful clients are answered.

What it costs in time and memory is measured by benchmarks/hostile_clients.py.
"""

import socket
import ssl
import threading
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from tritonclient.grpc import service_pb2_grpc

from isplit.runtime.server import ServerTls, serving

TOKEN = "correct-horse-battery-staple"
INFER = "/inference.GRPCInferenceService/ModelInfer"
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture(params=["plain", "tls", "mtls"])
def link(request, authority, server_pair):
    """What the server and its clients need for a link: the server's settings, a context, gRPC's credentials."""
    if request.param == "plain":
        return {"token": TOKEN}, None, None
    device = authority.issue("attack-device") if request.param == "mtls" else None
    tls = ServerTls.from_files(*server_pair, authority.ca if device else None)
    context = ssl.create_default_context(cafile=authority.ca)
    context.set_alpn_protocols(["h2"])
    if device:
        context.load_cert_chain(*device)
    pair = [path.read_bytes() for path in reversed(device)] if device else []
    return {"token": TOKEN, "tls": tls}, context, grpc.ssl_channel_credentials(authority.ca.read_bytes(), *pair)


class Attacker:
    """Connections that keep calls open for as long as they live; whatever the server ends is begun again."""

    def __init__(self, port, context, *, calls, path, token, length):
        self.port, self.context, self.calls, self.path, self.token, self.length = (
            port,
            context,
            calls,
            path,
            token,
            length,
        )
        self.rounds = 0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.attack, daemon=True) for _ in range(4)]

    def attack(self):
        while not self.ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as raw:
                    if self.context:
                        with self.context.wrap_socket(raw, server_hostname="localhost") as secure:
                            self.hold(secure)
                    else:
                        self.hold(raw)
            except OSError:
                pass
            self.rounds += 1
            self.ended.wait(0.01)

    def hold(self, connection):
        http2 = H2Connection(H2Configuration(client_side=True))
        http2.initiate_connection()
        connection.sendall(http2.data_to_send())
        lines = [(":method", "POST"), (":scheme", "http"), (":path", self.path), (":authority", "localhost")]
        lines.append(("content-type", "application/grpc"))
        if self.token:
            lines.append(("authorization", f"Bearer {self.token}"))
        for _ in range(self.calls):
            stream = http2.get_next_available_stream_id()
            http2.send_headers(stream, lines)
            if self.length:
                http2.send_data(stream, b"\0" + self.length.to_bytes(4, "big") + bytes(200))
        connection.sendall(http2.data_to_send())
        connection.settimeout(0.2)
        for _ in range(10):
            if self.ended.is_set():
                return
            try:
                if not connection.recv(2**16):
                    return
            except TimeoutError:
                pass

    @contextmanager
    def attacking(self):
        for thread in self.threads:
            thread.start()
        try:
            yield
        finally:
            self.ended.set()
            for thread in self.threads:
                thread.join()


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize(("path", "length"), [(INFER, 0), (INFER, 600_000), (HEALTH, 0), (HEALTH, 600)])
def test_rightful_clients_are_answered(tiny, wire, link, token, path, length):
    """Half-open calls and messages that stop short, with and without the token, keep nobody else from an answer."""
    settings, context, credentials = link
    request = wire.infer_request("tiny.stage.1", "latent", "UINT8", [1, 4, 4, 4], tiny.latents["stage.1"][0].tobytes())
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    with serving(tiny.bundle, **settings) as server:
        attacker = Attacker(server.port, context, calls=90, path=path, token=token, length=length)

        def ask():
            address = f"localhost:{server.port}"
            options = (("grpc.use_local_subchannel_pool", 1),)
            channel = (
                grpc.secure_channel(address, credentials, options)
                if credentials
                else grpc.insecure_channel(address, options)
            )
            with channel:
                check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
                assert health_pb2.HealthCheckResponse.SERVING == check.status
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                reply = stub.ModelInfer(request, timeout=30, metadata=metadata)
                assert tiny.logits[:1].tobytes() == reply.raw_output_contents[0]

        with attacker.attacking():
            wire.until(lambda: server.receiving_calls > 0 if token or path == HEALTH else attacker.rounds > 4)
            for _ in range(3):
                ask()
            assert server.message_bytes <= server.limits.max_message_memory
