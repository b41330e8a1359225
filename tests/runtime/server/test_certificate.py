"""Certificates that have expired or soon will are told at the start."""

import dataclasses
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isplit.runtime.server import ServerTls, serving
from isplit.runtime.server.certificate import check_certificate, check_client_ca


@pytest.fixture
def issue(authority, monkeypatch):
    """Issue a certificate that is valid from so many days from now until so many."""

    def make(name, starts, ends, *, client_ca=None):
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
            client_ca=client_ca or authority.ca.read_bytes(),
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


def authority_pem(*spans):
    """Return certificates of authorities, each valid from so many days from now until so many."""
    pems = []
    for starts, ends in spans:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clients")])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=starts))
            .not_valid_after(now + datetime.timedelta(days=ends))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pems.append(certificate.public_bytes(serialization.Encoding.PEM))
    return b"".join(pems)


@pytest.mark.parametrize(
    ("spans", "valid", "problem", "days_left"),
    [
        ([(-1, 90)], True, None, 90.0),
        ([(-1, 90), (-1, 20)], True, None, 20.0),
        ([(-9, -1)], False, "it has expired", None),
        ([(1, 9)], False, "it is not valid yet", None),
    ],
)
def test_client_ca(issue, spans, valid, problem, days_left):
    """Of several certificates of the client CA, the one that ends first counts."""
    state = check_client_ca(issue("a", -1, 90, client_ca=authority_pem(*spans)))
    assert (valid, problem) == (state.valid, state.problem)
    assert days_left == (state.days_left if state.days_left is None else pytest.approx(state.days_left, abs=0.2))


def test_no_client_ca(issue):
    """Without a client CA there is nothing to check."""
    assert check_client_ca(dataclasses.replace(issue("a", -1, 90), client_ca=None)) is None


@pytest.mark.parametrize(
    ("ends", "line"), [(90, None), (20, "the client CA expires soon"), (-1, "the client CA is not")]
)
def test_client_ca_is_told_at_the_start(tiny, issue, caplog, ends, line):
    """The log tells at the start that the client CA has expired or soon will."""
    caplog.set_level("INFO", logger="isplit.server")
    with serving(tiny.bundle, tls=issue("a", -9, 90, client_ca=authority_pem((-9, ends)))):
        pass
    lines = [record.getMessage() for record in caplog.records if "client CA" in record.getMessage()]
    assert (line is None) == (not lines)
    assert all(each.startswith(line) for each in lines)
