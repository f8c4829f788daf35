"""Asking containerd whether it serves, by gRPC's health protocol on its socket.

One call in plain frames of HTTP/2 (RFC 9113): the image has no gRPC, and a program that has one
takes longer to start than containerd to answer.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from product.agent.errors import AgentError

if TYPE_CHECKING:
    import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
ACK = END_STREAM = 1
END_HEADERS = 4
STREAM = 1
# What an answer to this call may be; RFC 9113's default limit is 16 KiB a frame.
MAX_FRAME = 16384
MAX_FRAMES = 64
SERVING = b"\x08\x01"
CLOSED = "containerd closed the connection"

REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/grpc.health.v1.Health/Check"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


class ContainerdError(AgentError):
    """Nothing that could run containers answers at the socket."""

    code = "containerd-unreachable"


def ask_health(path: str, seconds: float) -> str:
    """What was answered, in words. Raises ContainerdError where it does not serve.

    ``seconds`` limit every single wait.
    """
    if not os.path.exists(path):
        raise ContainerdError(f"there is no socket {path}")
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(path)
            return _check(connection)
        except (BrokenPipeError, ConnectionResetError):
            raise ContainerdError(CLOSED) from None
        except TimeoutError:
            raise ContainerdError(f"{path} did not answer within {seconds:g} s") from None
        except OSError as error:
            raise ContainerdError(f"{path}: {error.strerror or error}") from None


def _check(connection: socket.socket) -> str:
    """Send the call, read frames up to its answer."""
    connection.sendall(PREFACE + _frame(SETTINGS))
    block = b"".join(_header(name, value) for name, value in REQUEST)
    # An empty message of gRPC: not compressed, no bytes.
    message = struct.pack(">BI", 0, 0)
    connection.sendall(
        _frame(HEADERS, END_HEADERS, STREAM, block) + _frame(DATA, END_STREAM, STREAM, message)
    )
    body = b""
    for _ in range(MAX_FRAMES):
        length, kind, flags, stream = _head(_receive(connection, 9))
        if length > MAX_FRAME:
            raise ContainerdError("the socket's owner does not speak HTTP/2")
        payload = _receive(connection, length)
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(_frame(SETTINGS, ACK))
        elif kind == PING and not flags & ACK:
            connection.sendall(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise ContainerdError("containerd ended the connection: it is stopping")
        elif stream == STREAM and kind == DATA:
            body += payload
        if stream == STREAM and flags & END_STREAM:
            return _verdict(body)
        if len(body) >= 5 and len(body) >= 5 + struct.unpack(">I", body[1:5])[0]:
            return _verdict(body)
    raise ContainerdError("containerd answered everything but the question")


def _verdict(body: bytes) -> str:
    if not body:
        # An error of gRPC has headers only; this one is that the service is not known.
        return "containerd answers; it has no health service"
    if body[5:] != SERVING:
        raise ContainerdError(f"containerd says that it does not serve ({body[5:].hex()})")
    return "containerd serves"


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _head(head: bytes) -> tuple[int, int, int, int]:
    """Length, kind, flags, stream."""
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return int.from_bytes(head[:3], "big"), kind, flags, stream & 0x7FFFFFFF


def _header(name: str, value: str) -> bytes:
    """HPACK's literal without indexing, not compressed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ContainerdError(CLOSED)
        data += chunk
    return data
