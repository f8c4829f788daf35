"""TLS to a server inside of TLS to a proxy, which a socket cannot do."""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from product.agent.net.tls import TimedTlsSocket

T = TypeVar("T")
_CHUNK = 64 * 1024


class TunnelledTls:
    """What http.client needs of a socket, over ``outer``, whose patience counts."""

    def __init__(self, outer: TimedTlsSocket, context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._come, self._gone = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._come, self._gone, server_hostname=host.partition("%")[0]
        )  # fmt: skip
        self._readers = 0
        self._closed = False

    def shake_hands(self) -> None:
        """The handshake. Raises OSError, ssl.SSLError among them."""
        self._until_done(self._tls.do_handshake)

    def recv_into(self, buffer: WriteableBuffer) -> int:
        """As a socket's; 0 at the end, however that was said."""
        view = memoryview(buffer)
        try:
            return self._until_done(lambda: int(self._tls.read(len(view), view)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0

    def sendall(self, data: ReadableBuffer) -> None:
        """As a socket's."""
        view = memoryview(data).cast("B")
        while view:
            rest = view
            view = view[self._until_done(lambda: self._tls.write(rest)) :]  # noqa: B023

    def makefile(self, mode: str) -> io.BufferedReader:
        """A reader, which keeps the connection open until it is closed."""
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def release(self) -> None:
        """A reader is closed."""
        self._readers -= 1
        if self._closed and not self._readers:
            self._outer.close()

    def close(self) -> None:
        """Close it once nobody reads any more."""
        self._closed = True
        if not self._readers:
            self._outer.close()

    def _until_done(self, step: Callable[[], T]) -> T:
        buffer = bytearray(_CHUNK)
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                if count := self._outer.recv_into(buffer):
                    self._come.write(memoryview(buffer)[:count])
                else:
                    self._come.write_eof()
                continue
            except ssl.SSLError:
                # The other end hears why.
                self._flush()
                raise
            self._flush()
            return done

    def _flush(self) -> None:
        if self._gone.pending:
            self._outer.sendall(self._gone.read())


class _Reader(io.RawIOBase):
    """The connection as a file."""

    def __init__(self, connection: TunnelledTls) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return self._connection.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._connection.release()
        super().close()
