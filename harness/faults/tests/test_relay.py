"""The frame relay and what is built on it, with QEMU's user network and no guest."""

from __future__ import annotations

import queue
import random
from collections import Counter

import pytest

from harness.errors import HarnessError
from harness.faults.dns import NOBODY, DnsFailure, NameServer, answer_to, question_in
from harness.faults.fault import NeverFiredError
from harness.faults.network import BadLine, Line
from harness.faults.relay import Decision, Direction, Relay
from harness.qemu.machine import Machine

LIMIT = 30.0
GUEST = bytes.fromhex("525400123456")
# Who has 10.0.2.2? Tell 10.0.2.15.
ARP = (
    b"\xff" * 6 + GUEST
    + bytes.fromhex("0806" "0001" "0800" "06" "04" "0001")
    + GUEST + bytes([10, 0, 2, 15]) + bytes(6) + bytes([10, 0, 2, 2])
)  # fmt: skip
NAME = b"\7updates\4test\0"
QUERY = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + NAME + b"\0\1\0\1"


def test_frames_go_out_and_come_back_through_the_relay(machine: Machine) -> None:
    seen: queue.Queue[tuple[Direction, bytes]] = queue.Queue()

    def note(direction: Direction, frame: bytes) -> Decision:
        seen.put((direction, frame))
        return [0.0]

    with Relay(machine, note) as relay:
        relay.send(Direction.OUT, ARP)
        direction, frame = seen.get(timeout=LIMIT)
        assert direction is Direction.IN
        assert frame[12:14] == b"\x08\x06"
        assert frame[28:32] == bytes([10, 0, 2, 2])
    # Another one can take its place.
    with Relay(machine, note) as relay:
        relay.send(Direction.OUT, ARP)
        assert seen.get(timeout=LIMIT)[0] is Direction.IN


def test_a_rule_that_fails_is_an_error_and_stops_nothing(machine: Machine) -> None:
    failed = queue.Queue[bytes]()

    def broken(direction: Direction, frame: bytes) -> Decision:
        failed.put(frame)
        raise ValueError("no such rule")

    def use() -> None:
        with Relay(machine, broken) as relay:
            for _ in range(2):
                relay.send(Direction.OUT, ARP)
                failed.get(timeout=LIMIT)

    with pytest.raises(HarnessError, match="the frame relay failed: no such rule"):
        use()


def test_a_relay_of_a_machine_that_is_switched_off_ends(machine: Machine) -> None:
    with Relay(machine, lambda direction, frame: [0.0]):
        machine.power_cut()


def test_a_line_that_nobody_used_is_an_error(machine: Machine) -> None:
    said = "network-faults: frames are 10% lost never fired: of 0 frames 0 lost"
    with pytest.raises(NeverFiredError, match=said), BadLine(machine, Line(loss=0.1)):
        pass


def test_each_part_of_a_line_has_to_meet_a_frame(machine: Machine) -> None:
    line = BadLine(machine, Line(latency=0.01, loss=0.2, duplicate=0.2, reorder=0.2), seed=7)
    sent: Counter[int] = Counter()
    for number in range(200):
        sent[len(list(line.decide(Direction.OUT, bytes([number]))))] += 1
    lost, doubled = sent[0], sent[2]
    count, said = line.look()
    assert said.startswith(f"of 200 frames {lost} lost, {doubled} doubled, ")
    assert said.endswith(f" overtaken, {200 - lost} late")
    assert 0 < count <= min(lost, doubled)
    assert 20 < lost < 60
    assert 20 < doubled < 60


def test_a_line_draws_alike_from_the_same_seed(machine: Machine) -> None:
    def drawn(seed: int) -> list[int]:
        line = BadLine(machine, Line(loss=0.5), seed=seed)
        return [len(list(line.decide(Direction.IN, b""))) for _ in range(50)]

    assert drawn(3) == drawn(3) != drawn(4)


def test_a_line_without_a_fault_is_none(machine: Machine) -> None:
    with pytest.raises(HarnessError, match="is no fault"):
        BadLine(machine, Line())


def test_a_question_is_read_and_answered() -> None:
    question = question_in(QUERY)
    assert question is not None
    assert (question.name, question.kind) == ("updates.test", 1)
    said = answer_to(QUERY, question, "10.0.2.2")
    assert said[:4] == b"\x12\x34\x81\x80"
    assert said[4:12] == b"\0\1\0\1\0\0\0\0"
    assert said.endswith(b"\0\4" + bytes([10, 0, 2, 2]))
    assert answer_to(QUERY, question, code=2)[3] & 15 == 2


@pytest.mark.parametrize("length", range(len(QUERY)))
def test_a_question_that_is_cut_off_is_none(length: int) -> None:
    found = question_in(QUERY[:length])
    assert found is None or found.name == "updates.test"


def test_garbage_is_no_question() -> None:
    draw = random.Random(5)
    for _ in range(2000):
        question_in(draw.randbytes(draw.randrange(40)))


def _ask(server: NameServer) -> list[float | tuple[Direction, bytes]]:
    """What becomes of a question in a frame of the guest's."""
    udp = b"\x30\x39\0\x35" + (8 + len(QUERY)).to_bytes(2, "big") + b"\0\0" + QUERY
    head = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + bytes(5) + b"\x11\0\0"
    ethernet = b"\x52\x55\x0a\0\2\3" + GUEST + b"\x08\0"
    ip = head + bytes([10, 0, 2, 15]) + bytes([10, 0, 2, 3])
    return list(server.decide(Direction.OUT, ethernet + ip + udp))


def _code_and_address(decided: list[float | tuple[Direction, bytes]]) -> tuple[int, str]:
    (answer,) = decided
    assert isinstance(answer, tuple)
    direction, frame = answer
    assert direction is Direction.IN
    assert frame[:6] == GUEST
    assert frame[26:34] == bytes([10, 0, 2, 3, 10, 0, 2, 15])
    assert frame[34:38] == b"\0\x35\x30\x39"
    payload = frame[42:]
    return payload[3] & 15, ".".join(str(part) for part in payload[-4:])


def test_the_name_server_fails_as_it_is_told_to(machine: Machine) -> None:
    server = NameServer(machine, {"Updates.test": "10.0.2.2"})
    assert _code_and_address(_ask(server)) == (0, "10.0.2.2")
    with server.failing(DnsFailure.WRONG_ADDRESS):
        assert _code_and_address(_ask(server)) == (0, NOBODY)
    with server.failing(DnsFailure.SERVFAIL):
        assert _code_and_address(_ask(server))[0] == 2
    with server.failing(DnsFailure.NXDOMAIN) as fault:
        assert _code_and_address(_ask(server))[0] == 3
        assert _code_and_address(_ask(server))[0] == 3
    assert fault.count == 2
    with server.failing(DnsFailure.TIMEOUT):
        assert _ask(server) == []
    assert _code_and_address(_ask(server)) == (0, "10.0.2.2")
    assert server.asked["updates.test"] == 7
    # What is no question goes on.
    assert list(server.decide(Direction.OUT, ARP)) == [0.0]


def test_a_name_that_nobody_asked_for_is_an_error(machine: Machine) -> None:
    server = NameServer(machine, {"updates.test": "10.0.2.2"})
    said = "dns-faults: the server says that it failed never fired: 0 questions were asked"
    with pytest.raises(NeverFiredError, match=said), server.failing(DnsFailure.SERVFAIL):
        pass
