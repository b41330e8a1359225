"""Who may ask over gRPC: tokens, TLS, and what is refused before a connection is opened."""

import grpc
import pytest

from isplit.errors import InputError
from isplit.runtime.edge.grpc_transport import GrpcTransport
from isplit.runtime.edge.security import Tls
from tests.runtime.edge.foreign_servers import REQUEST, TOKEN, demand_token, echo, refused


def test_token(listening, connect):
    """The token goes along with every request."""
    _, address = listening(demand_token)
    assert [1, 2, 3] == connect(address, token=TOKEN).infer(REQUEST, timeout_s=30).logits.tolist()
    refused(connect(address), "UNAUTHENTICATED")


def test_token_in_plain_text():
    """A token is not sent over a network without TLS: the transport is not even opened."""
    with pytest.raises(InputError, match="plain text"):
        GrpcTransport("192.0.2.1:8001", token=TOKEN)
    GrpcTransport("192.0.2.1:8001", token=TOKEN, insecure=True).close()


@pytest.mark.parametrize("client_shows", [False, True])
def test_tls(certificates, listening, connect, client_shows):
    """TLS trusts the given authority; a server that wants a certificate answers only who shows one."""
    ours = {"cert": certificates.client, "key": certificates.client_key} if client_shows else {}
    credentials = grpc.ssl_server_credentials(
        [(certificates.server_key.read_bytes(), certificates.server.read_bytes())],
        root_certificates=certificates.ca.read_bytes() if client_shows else None,
        require_client_auth=client_shows,
    )
    _, address = listening(demand_token, credentials=credentials)
    tls = Tls(ca=certificates.ca, **ours)
    assert [1, 2, 3] == connect(address, token=TOKEN, tls=tls).infer(REQUEST, timeout_s=30).logits.tolist()
    if client_shows:
        refused(connect(address, token=TOKEN, tls=Tls(ca=certificates.ca)), "UNAVAILABLE")


def test_tls_of_a_stranger(certificates, listening, connect):
    """A server whose certificate another authority signed is not believed, and never sees the token."""
    seen = []

    def note(request, context):
        seen.append(context.invocation_metadata())
        return echo(request, context)

    pair = (certificates.server_key.read_bytes(), certificates.server.read_bytes())
    _, address = listening(note, credentials=grpc.ssl_server_credentials([pair]))
    refused(connect(address, token=TOKEN, tls=Tls(ca=certificates.other_ca)), "UNAVAILABLE")
    assert [] == seen


@pytest.mark.parametrize("content", [None, b"no PEM"])
def test_bad_pem(tmp_path, content):
    """A file that is missing or no PEM is named."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"ca\.pem"):
        GrpcTransport("127.0.0.1:1", tls=Tls(ca=path))


def test_bad_address():
    """What is no address is refused before anything is sent."""
    with pytest.raises(InputError, match="HOST:PORT"):
        GrpcTransport("127.0.0.1")
