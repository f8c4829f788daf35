"""TLS over a timed socket; a module of its own, because ``ssl`` costs a node half a CPU second.

Codes of the errors: ``certificate-untrusted``, ``certificate-expired``, ``certificate-wrong-name``,
``client-certificate-required``, ``client-certificate-refused``, ``tls-failed``,
``certificate-unreadable`` (a file of the node's).
"""

from __future__ import annotations

import ssl
import time
from time import monotonic

from product.agent.errors import AgentError
from product.agent.net.access import Access
from product.agent.net.sockets import Timed, TimedSocket

# Of OpenSSL: certificate not yet valid, expired; host name mismatch, IP address mismatch.
_TIME = (9, 10)
_NAME = (62, 64)
# What a server says of the certificate that it got, or did not get.
_WANTED = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "PEER_DID_NOT_RETURN_A_CERTIFICATE")
_REFUSED = (
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    "TLSV1_ALERT_ACCESS_DENIED",
    "TLSV1_ALERT_UNKNOWN_CA",
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_CLOCK = "%Y-%m-%dT%H:%M:%SZ"


class TimedTlsSocket(Timed, ssl.SSLSocket):
    """A TLS connection."""

    def shake_hands(self) -> None:
        """The handshake. Raises OSError, ssl.SSLError among them."""
        since = monotonic()
        while True:
            self.settimeout(self.patience.slice(since))
            try:
                self.do_handshake()
                return
            except TimeoutError:
                continue


def secure(raw: TimedSocket, context: ssl.SSLContext, host: str) -> TimedTlsSocket:
    """``raw`` with TLS, its server proved to be ``host``. Raises OSError."""
    context.sslsocket_class = TimedTlsSocket
    wrapped = context.wrap_socket(
        raw, server_hostname=host.partition("%")[0], do_handshake_on_connect=False
    )
    assert isinstance(wrapped, TimedTlsSocket)
    wrapped.patience = raw.patience
    try:
        wrapped.shake_hands()
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def new_context(access: Access | None, *, proves: bool) -> ssl.SSLContext:
    """What trusts the system's authorities and those of ``access``.

    It shows the client certificate only if it ``proves`` who the node is. Raises AgentError
    ``certificate-unreadable``.
    """
    context = ssl.create_default_context()
    if access is None:
        return context
    if access.authorities:
        try:
            context.load_verify_locations(access.authorities)
            # Python 3.13 wants extensions of RFC 5280 that authorities of sites often lack, as do
            # those that openssl req -x509 makes. Who signed is proved without them.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        except (OSError, ValueError) as error:
            raise _unreadable("ca_certificates", access.authorities, error) from None
    if proves and access.certificate and access.key:
        try:
            context.load_cert_chain(access.certificate, access.key, _no_passphrase)
        except _PassphraseError:
            raise AgentError(
                f"client_key {access.key} has a passphrase, which nobody can type here",
                code="certificate-unreadable",
                hint="store the key without it, mode 0600: openssl pkey -in KEY -out NEW",
            ) from None
        except (OSError, ValueError) as error:
            path = f"{access.certificate} with client_key {access.key}"
            raise _unreadable("client_certificate", path, error) from None
    return context


class _PassphraseError(Exception):
    """Somebody would have to type one."""


def _no_passphrase() -> str:
    raise _PassphraseError


def _unreadable(key: str, path: str, error: Exception) -> AgentError:
    reason = "they do not belong together" if _reason(error) == "KEY_VALUES_MISMATCH" else None
    if reason is None:
        known = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        reason = (getattr(error, "strerror", None) if known else None) or "no PEM of that kind"
    return AgentError(
        f"{key} {path} cannot be used: {reason}",
        code="certificate-unreadable",
        hint=f"{key}= in update.conf must name a PEM file on the node that root can read",
    )


def explain(error: Exception, place: str, *, proved: bool = False) -> AgentError | None:
    """``error`` of a connection to ``place``, named; None where the connection just broke off.

    ``proved``: whether the client certificate was shown.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, place)
    reason = _reason(error)
    if reason in _WANTED or (reason in _REFUSED and not proved):
        return AgentError(
            f"{place} wants a client certificate, and got none ({reason})",
            code="client-certificate-required",
            hint="set client_certificate= and client_key= in update.conf; the server that "
            "update.conf names gets them, and no other",
        )
    if reason in _REFUSED:
        return AgentError(
            f"{place} refuses this node's client certificate ({reason})",
            code="client-certificate-refused",
            hint="check client_certificate= in update.conf: is it of the authority that the "
            "server knows, and not expired?",
        )
    if reason in _NO_TLS:
        return AgentError(
            f"{place} does not speak TLS",
            code="tls-failed",
            hint="is it an http:// address? check server= and proxy= in update.conf",
        )
    return None


def _untrusted(error: ssl.SSLCertVerificationError, place: str) -> AgentError:
    code, said = error.verify_code, error.verify_message
    if code in _TIME:
        now = time.strftime(_CLOCK, time.gmtime())
        return AgentError(
            f"the certificate of {place} is not valid now: {said} (this node's clock: {now})",
            code="certificate-expired",
            hint="check the node's clock; if it is right, the server needs a new certificate",
        )
    if code in _NAME:
        return AgentError(
            f"the certificate of {place} is for another name: {said}",
            code="certificate-wrong-name",
            hint="update.conf must name the server as its certificate does",
        )
    return AgentError(
        f"the certificate of {place} is of no authority that this node trusts: {said}",
        code="certificate-untrusted",
        hint="ca_certificates= in update.conf must hold the authority that signed it, if it is "
        "your own; else somebody is in between",
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or "")
