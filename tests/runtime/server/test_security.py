"""Who gets an answer: tokens, TLS, mutual TLS, and the refusal to listen unprotected."""

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from isplit.errors import InputError
from isplit.runtime.server import ServerSettings, ServerTls, serving

TOKEN = "correct-horse-battery-staple"


def credentials(ca, pair=None):
    certificate, key = (path.read_bytes() for path in pair) if pair else (None, None)
    return grpc.ssl_channel_credentials(ca.read_bytes(), key, certificate)


def ask(channel, *, token=None, metadata=None):
    """The status of a question that needs no model, asked without waiting for a better connection."""
    metadata = metadata or ([("authorization", f"Bearer {token}")] if token else None)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    try:
        return stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=20, metadata=metadata).live
    except grpc.RpcError as error:
        return error.code().name


@pytest.fixture(scope="module")
def with_token(tiny):
    with serving(tiny.bundle, token=TOKEN) as server, grpc.insecure_channel(server.address) as channel:
        yield channel


def test_token(with_token):
    """The right token gets an answer."""
    assert ask(with_token, token=TOKEN) is True


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", TOKEN)],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"bearer {TOKEN}")],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", "Bearer wrong"), ("authorization", f"Bearer {TOKEN}")],
        [("authorization-bin", f"Bearer {TOKEN}".encode())],
        [("token", TOKEN)],
    ],
)
def test_wrong_token(with_token, metadata):
    """No token, another, twice, or in another place: UNAUTHENTICATED."""
    assert "UNAUTHENTICATED" == ask(with_token, metadata=metadata)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "Nonsense"])
def test_token_for_every_method(with_token, method):
    """Without the token not even the names of methods or models can be tried out."""
    call = with_token.unary_unary(f"/inference.GRPCInferenceService/{method}")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff", timeout=20)
    assert grpc.StatusCode.UNAUTHENTICATED == caught.value.code()


def test_health_needs_no_token(with_token):
    """An orchestrator's probe, which can send none, learns whether the server serves; watching takes the token."""
    stub = health_pb2_grpc.HealthStub(with_token)
    assert health_pb2.HealthCheckResponse.SERVING == stub.Check(health_pb2.HealthCheckRequest()).status
    with pytest.raises(grpc.RpcError) as caught:
        next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=20))
    assert grpc.StatusCode.UNAUTHENTICATED == caught.value.code()


def test_token_is_not_shown(tiny):
    """Settings can be printed or logged without giving the token away."""
    assert TOKEN not in repr(ServerSettings(token=TOKEN))


def test_tls_and_token(tiny, authority, make_authority, server_pair, tmp_path):
    """Over TLS with the token there is an answer; without TLS, or trusting another authority, no connection."""
    tls = ServerTls.from_files(*server_pair, None)
    other = make_authority(tmp_path / "other", "other")
    with serving(tiny.bundle, tls=tls, token=TOKEN) as server:
        with grpc.secure_channel(server.address, credentials(authority.ca)) as channel:
            assert ask(channel, token=TOKEN) is True
            assert "UNAUTHENTICATED" == ask(channel)
        with grpc.insecure_channel(server.address) as channel:
            assert "UNAVAILABLE" == ask(channel, token=TOKEN)
        with grpc.secure_channel(server.address, credentials(other.ca)) as channel:
            assert "UNAVAILABLE" == ask(channel, token=TOKEN)


def test_mutual_tls(tiny, authority, make_authority, server_pair, tmp_path):
    """A client certificate of our authority is enough; none, or another authority's, gets no connection."""
    tls = ServerTls.from_files(*server_pair, authority.ca)
    other = make_authority(tmp_path / "other", "other")
    with serving(tiny.bundle, tls=tls) as server:
        for pair, expected in (
            (authority.issue("device"), True),
            (None, "UNAVAILABLE"),
            (other.issue("stranger"), "UNAVAILABLE"),
        ):
            with grpc.secure_channel(server.address, credentials(authority.ca, pair)) as channel:
                assert expected == ask(channel)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", "", "localhost.example.org"])
@pytest.mark.parametrize("half", ["nothing", "token", "tls"])
def test_refuses_to_be_exposed(authority, server_pair, host, half):
    """Beyond this machine, a token without TLS or TLS without a token is refused, and the way out is named."""
    given = {"nothing": {}, "token": {"token": TOKEN}, "tls": {"tls": ServerTls.from_files(*server_pair, None)}}[half]
    with pytest.raises(InputError, match="insecure=True"):
        ServerSettings(host=host, **given)


def test_exposed_when_protected(authority, server_pair):
    """TLS with a token, mutual TLS, or the user's word are enough."""
    tls, mutual = (ServerTls.from_files(*server_pair, ca) for ca in (None, authority.ca))
    for given in ({"tls": tls, "token": TOKEN}, {"tls": mutual}, {"insecure": True}):
        assert "0.0.0.0" == ServerSettings(host="0.0.0.0", **given).host


def test_tls_files(authority, server_pair, tmp_path):
    """A certificate without its key, a file that is missing or not PEM are named."""
    certificate, key = server_pair
    assert ServerTls.from_files(None, None, None) is None
    for files in ((certificate, None, None), (None, key, None), (None, None, authority.ca)):
        with pytest.raises(InputError, match="tls_key=FILE"):
            ServerTls.from_files(*files)
    with pytest.raises(InputError, match="cannot read"):
        ServerTls.from_files(tmp_path / "missing.pem", key, None)
    (tmp_path / "not.pem").write_bytes(b"\x30\x82")
    with pytest.raises(InputError, match="PEM"):
        ServerTls.from_files(tmp_path / "not.pem", key, None)


def test_tls_that_does_not_fit(authority, server_pair, tmp_path):
    """The key of another certificate, or one that needs a password, is refused with a word on it."""
    certificate, _ = server_pair
    locked = tmp_path / "locked.key"
    private = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    locked.write_bytes(private)
    for key in (authority.issue("another")[1], locked):
        with pytest.raises(InputError, match="its own key"):
            ServerTls.from_files(certificate, key, None)
