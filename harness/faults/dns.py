"""A name server for a machine, in place of its network's own, that fails on purpose."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import struct
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

from harness.abilities import Ability
from harness.faults.fault import Fault
from harness.faults.relay import Decision, Direction, Relay
from harness.qemu.machine import Machine

_PORT = 53
_IPV4, _UDP = 0x0800, 17
_ADDRESS_RECORD, _INTERNET = 1, 1
_NO_ERROR, _SERVER_FAILURE, _NO_NAME = 0, 2, 3
# Seconds that an answer may be kept: the next question is asked again.
_TTL = 0
# An address of QEMU's user network that nobody has.
NOBODY = "10.0.2.99"


class DnsFailure(enum.Enum):
    """What becomes of a question about a name."""

    SERVFAIL = "the server says that it failed"
    NXDOMAIN = "the server says that there is no such name"
    TIMEOUT = "the server does not answer"
    WRONG_ADDRESS = f"the server names {NOBODY}, which nobody has"


class Question(NamedTuple):
    """One question; ``kind`` is 1 for an IPv4 address. ``raw`` is its part of the packet."""

    name: str
    kind: int
    raw: bytes


class NameServer:
    """Answers all questions that the machine asks over UDP, from ``names``; a context manager.

    Names that it does not know do not exist. ``asked`` counts questions by name.
    """

    def __init__(self, machine: Machine, names: Mapping[str, str]) -> None:
        self.asked: Counter[str] = Counter()
        self._machine = machine
        self._names = {name.lower(): address for name, address in names.items()}
        self._relay = Relay(machine, self.decide)
        self._fault: DnsFault | None = None

    def __enter__(self) -> Self:
        self._relay.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._relay.__exit__(kind, error, trace)

    def failing(self, failure: DnsFailure) -> DnsFault:
        """The fault in which it answers every question about its names so."""
        return DnsFault(self._machine, self, failure)

    def set_fault(self, fault: DnsFault | None) -> None:
        """Let ``fault`` happen from now on, or none."""
        self._fault = fault

    def decide(self, direction: Direction, frame: bytes) -> Decision:
        """What becomes of a frame."""
        packet = _udp(frame) if direction is Direction.OUT else None
        question = None if packet is None else question_in(packet)
        if packet is None or question is None:
            return [0.0]
        self.asked[question.name] += 1
        answer = self._answer(packet, question)
        return [] if answer is None else [(Direction.IN, _reply(frame, answer))]

    def _answer(self, packet: bytes, question: Question) -> bytes | None:
        address = self._names.get(question.name)
        if address is None:
            return answer_to(packet, question, code=_NO_NAME)
        if (fault := self._fault) is not None:
            failure = fault.meet()
            if failure is DnsFailure.TIMEOUT:
                return None
            if failure is DnsFailure.SERVFAIL:
                return answer_to(packet, question, code=_SERVER_FAILURE)
            if failure is DnsFailure.NXDOMAIN:
                return answer_to(packet, question, code=_NO_NAME)
            address = NOBODY
        return answer_to(packet, question, address)


class DnsFault(Fault):
    """Questions about the server's names are answered so, or not at all."""

    ability = Ability.DNS_FAULTS

    def __init__(self, machine: Machine, server: NameServer, failure: DnsFailure) -> None:
        super().__init__(machine.journal, failure.value)
        self._server = server
        self._failure = failure
        self._met = 0

    def arm(self) -> None:
        """From now on."""
        self._met = 0
        self._server.set_fault(self)

    def lift(self) -> None:
        """Questions are answered as they should be."""
        self._server.set_fault(None)

    def look(self) -> tuple[int, str]:
        """Questions that met it."""
        return self._met, f"{self._met} questions were asked"

    def meet(self) -> DnsFailure:
        """Count a question that it is the answer to."""
        self._met += 1
        return self._failure


def _udp(frame: bytes) -> bytes | None:
    """What a frame sends to a name server over UDP and IPv4; None for any other."""
    if len(frame) < 42 or int.from_bytes(frame[12:14], "big") != _IPV4 or frame[23] != _UDP:
        return None
    begin = 14 + (frame[14] & 15) * 4
    if int.from_bytes(frame[begin + 2 : begin + 4], "big") != _PORT:
        return None
    length = int.from_bytes(frame[begin + 4 : begin + 6], "big")
    return frame[begin + 8 : begin + length]


def question_in(packet: bytes) -> Question | None:
    """The one question of a DNS query (RFC 1035, 4.1.2); None for anything else."""
    if len(packet) < 12 or packet[2] & 0x80 or packet[4:6] != b"\0\1":
        return None
    labels, at = [], 12
    with contextlib.suppress(IndexError, UnicodeDecodeError):
        while length := packet[at]:
            labels.append(packet[at + 1 : at + 1 + length].decode("ascii").lower())
            at += 1 + length
        (kind,) = struct.unpack(">H", packet[at + 1 : at + 3].ljust(2, b"\0"))
        return Question(".".join(labels), kind, packet[12 : at + 5])
    return None


def answer_to(
    packet: bytes, question: Question, address: str | None = None, *, code: int = _NO_ERROR
) -> bytes:
    """The response with this code, and with the address where one was asked for."""
    answers = b""
    if address is not None and question.kind == _ADDRESS_RECORD:
        # The name is that of the question, at byte 12.
        answers = struct.pack(">HHHIH", 0xC00C, _ADDRESS_RECORD, _INTERNET, _TTL, 4)
        answers += ipaddress.IPv4Address(address).packed
    # A response, with recursion as it was asked for and available.
    flags = 0x8080 | (packet[2] & 1) << 8 | code
    head = packet[:2] + struct.pack(">HHHHH", flags, 1, int(bool(answers)), 0, 0)
    return head + question.raw + answers


def _reply(frame: bytes, payload: bytes) -> bytes:
    """The frame that answers ``frame`` with this UDP payload."""
    begin = 14 + (frame[14] & 15) * 4
    source, destination = frame[26:30], frame[30:34]
    # No checksum: over IPv4 none is needed.
    udp = frame[begin + 2 : begin + 4] + frame[begin : begin + 2]
    udp += struct.pack(">HH", 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, _UDP, 0)
    head += destination + source
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    head = head[:10] + struct.pack(">H", checksum) + head[12:]
    return frame[6:12] + frame[:6] + frame[12:14] + head + udp
