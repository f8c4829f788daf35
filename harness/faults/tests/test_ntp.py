"""The time server that scenarios control."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineError
from harness.faults.ntp import TimeServer, answer_to

REQUEST = struct.pack("!BBbb3I4Q", 0o43, 0, 6, -20, 0, 0, 0, 0, 0, 0, 0x0123456789ABCDEF)


def _time_of(reply: bytes) -> float:
    stamp: int = struct.unpack_from("!Q", reply, 40)[0]
    return stamp / 2**32 - 2208988800


def _ask(server: TimeServer, seconds: float = 5.0) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.sendto(REQUEST, ("127.0.0.1", server.port))
        return client.recv(1024)


def test_a_reply_names_the_request_and_the_time() -> None:
    reply = answer_to(REQUEST, 1793491200.5)
    assert reply is not None
    assert len(reply) == 48
    assert reply[0] == 0o44
    assert reply[1] == 2
    assert reply[24:32] == REQUEST[40:48]
    assert _time_of(reply) == pytest.approx(1793491200.5)


@pytest.mark.parametrize("packet", [b"", b"x" * 47, bytes([0o44]) + bytes(47)])
def test_what_is_no_request_is_not_answered(packet: bytes) -> None:
    assert answer_to(packet, 0) is None


def test_it_is_silent_until_it_shall_answer() -> None:
    with TimeServer(offset=-3600) as server:
        with pytest.raises(TimeoutError):
            _ask(server, 0.1)
        server.wait_asked(Deadline.after(5))
        assert (server.asked, server.answered) == (1, 0)
        server.answer()
        assert _time_of(_ask(server)) == pytest.approx(time.time() - 3600, abs=5)
        server.fall_silent()
        with pytest.raises(TimeoutError):
            _ask(server, 0.1)


def test_a_wait_for_packets_has_a_deadline() -> None:
    with TimeServer() as server, pytest.raises(DeadlineError, match="0 of 2 packets"):
        server.wait_asked(Deadline.after(0.05), times=2)
