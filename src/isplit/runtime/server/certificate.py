"""Find out until when a server's certificate and its client CA are valid."""

import ssl
import time
from dataclasses import dataclass

from isplit.runtime.server.security import ServerTls

_EXPIRED, _NOT_YET_VALID = 10, 9  # OpenSSL's codes for faults of a certificate
SOON_DAYS = 30.0
_SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class CertificateState:
    """Whether a certificate is `valid` now, and until when, in seconds since 1970; None if that is not known."""

    valid: bool
    problem: str | None = None
    ends_at_s: float | None = None

    @property
    def days_left(self) -> float | None:
        """Days until the certificate expires, rounded to a tenth."""
        return None if self.ends_at_s is None else round((self.ends_at_s - time.time()) / _SECONDS_PER_DAY, 1)


def check_certificate(tls: ServerTls) -> CertificateState:
    """Return the state of the first certificate of a chain, from a handshake of the server with itself.

    The issuer and the name are not checked here.
    """
    server = ServerTls(certificate=tls.certificate, key=tls.key).context()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate is its own authority here, so that only its dates can be wrong.
    client.load_verify_locations(cadata=tls.certificate.decode("latin-1"))
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_side=False)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (asking, answering, asking):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return CertificateState(valid=False, problem="it has expired")
        if error.verify_code == _NOT_YET_VALID:
            return CertificateState(valid=False, problem="it is not valid yet")
        return CertificateState(valid=False, problem=error.verify_message)
    except ssl.SSLError as error:
        return CertificateState(valid=False, problem=error.reason)
    details = asking.getpeercert() or {}
    ends = details.get("notAfter")
    return CertificateState(valid=True, ends_at_s=ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None)


def check_client_ca(tls: ServerTls) -> CertificateState | None:
    """Return the state of the client CA's certificate that ends first; None without a client CA."""
    if tls.client_ca is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata=tls.client_ca.decode("ascii"))
    # A certificate that is no authority is not listed: it is pinned, and has no other dates than a client's own.
    spans = [
        (ssl.cert_time_to_seconds(str(details["notBefore"])), ssl.cert_time_to_seconds(str(details["notAfter"])))
        for details in context.get_ca_certs()
    ]
    if not spans:
        return CertificateState(valid=True)
    starts_at_s, ends_at_s = min(spans, key=lambda span: span[1])
    if ends_at_s <= time.time():
        return CertificateState(valid=False, problem="it has expired")
    if starts_at_s > time.time():
        return CertificateState(valid=False, problem="it is not valid yet")
    return CertificateState(valid=True, ends_at_s=ends_at_s)
