"""Find out until when a server's certificate is valid, by a handshake of the server with itself."""

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
    """Return the state of the first certificate of a chain. Its issuer and its name are not checked here."""
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
