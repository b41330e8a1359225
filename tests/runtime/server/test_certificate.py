"""Certificates that have expired or soon will are told at the start."""

import datetime

import pytest
from cryptography import x509

from isplit.runtime.server import ServerTls, serving
from isplit.runtime.server.certificate import check_certificate


@pytest.fixture
def issue(authority, monkeypatch):
    """Issue a certificate that is valid from so many days from now until so many."""

    def make(name, starts, ends):
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder(authority.certificate.subject, subject, key.public_key(), 7)
            .not_valid_before(now + datetime.timedelta(days=starts))
            .not_valid_after(now + datetime.timedelta(days=ends))
            .sign(authority.key, hashes.SHA256())
        )
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return ServerTls(
            certificate=certificate.public_bytes(pem) + authority.certificate.public_bytes(pem),
            key=key.private_bytes(pem, pkcs8, serialization.NoEncryption()),
            client_ca=authority.ca.read_bytes(),
        )

    return make


def test_valid(issue):
    """A certificate that is valid says for how long, whoever issued it and for whatever name."""
    state = check_certificate(issue("a", -1, 90))
    assert (True, None) == (state.valid, state.problem)
    assert 90.0 == pytest.approx(state.days_left, abs=0.2)


@pytest.mark.parametrize(("starts", "ends", "problem"), [(-9, -1, "it has expired"), (1, 9, "it is not valid yet")])
def test_not_valid(issue, starts, ends, problem):
    """One that has expired, or is not valid yet, is said to be."""
    state = check_certificate(issue("a", starts, ends))
    assert (False, problem, None) == (state.valid, state.problem, state.days_left)


@pytest.mark.parametrize(
    ("ends", "words"), [(90, None), (20, "the certificate expires soon"), (-1, "the certificate is not valid")]
)
def test_told_at_the_start(tiny, issue, caplog, ends, words):
    """The log tells it when the server starts; a certificate with time left is not worth a line."""
    caplog.set_level("INFO", logger="isplit.server")
    with serving(tiny.bundle, tls=issue("a", -9, ends)):
        pass
    lines = [record.getMessage() for record in caplog.records if "certificate" in record.getMessage()]
    assert (words is None) == (not lines)
    assert all(line.startswith(words) for line in lines)
