"""TLS over a timed socket; a module of its own, because ``ssl`` costs a node half a CPU second."""

from __future__ import annotations

import ssl
from time import monotonic

from product.agent.net.sockets import Timed, TimedSocket


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
