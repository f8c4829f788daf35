"""Frames survive any way of being cut up, and damage costs no more than the damaged frame."""

from __future__ import annotations

import json

import pytest

from product.channel.framing import Decoder, Message, encode

MESSAGES: list[Message] = [
    {"id": 1, "op": "ping"},
    {"text": "line\n\x1e\x00 ä \u2028"},
    {"nested": {"a": [1]}},
]


def test_a_frame_is_one_ascii_line_after_a_record_separator() -> None:
    frame = encode(MESSAGES[1])
    assert frame[:1] == b"\x1e"
    assert frame[-1:] == b"\n"
    assert not set(frame[1:-1]) & (set(range(32)) | set(range(127, 256)))
    assert json.loads(frame[1:]) == MESSAGES[1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_pieces_of_any_size_give_the_same_messages(size: int) -> None:
    stream = b"".join(encode(message) for message in MESSAGES)
    decoder = Decoder()
    found = [
        message
        for start in range(0, len(stream), size)
        for message in decoder.feed(stream[start : start + size])
    ]
    assert found == MESSAGES
    assert decoder.dropped == 0


@pytest.mark.parametrize("size", [1, 5, 4096])
def test_bytes_outside_frames_are_ignored(size: int) -> None:
    noise = b"[    1.2] virtio: noise\r\n{}\n\xff\x00"
    stream = noise + encode(MESSAGES[0]) + noise + encode(MESSAGES[2]) + noise
    decoder = Decoder()
    found = [m for i in range(0, len(stream), size) for m in decoder.feed(stream[i : i + size])]
    assert found == [MESSAGES[0], MESSAGES[2]]


@pytest.mark.parametrize(
    "damage",
    [
        b"\x1e" + encode(MESSAGES[0])[1:10],  # the end lost, the next frame follows
        b"\x1e{not json}\n",
        b"\x1e[1]\n",  # JSON, not an object
        b"\x1e\xff\xfe\n",
        b"\x1e" + b"[" * 200_000 + b"\n",  # too deep for the parser
    ],
)
@pytest.mark.parametrize("size", [1, 4096])
def test_a_damaged_frame_is_counted_and_the_next_one_read(damage: bytes, size: int) -> None:
    stream = damage + encode(MESSAGES[2])
    decoder = Decoder()
    found = [m for i in range(0, len(stream), size) for m in decoder.feed(stream[i : i + size])]
    assert found == [MESSAGES[2]]
    assert decoder.dropped == 1


def test_a_serial_lines_carriage_return_is_white_space() -> None:
    assert Decoder().feed(encode(MESSAGES[0])[:-1] + b"\r\n") == [MESSAGES[0]]


def test_a_frame_over_the_limit_is_dropped_and_not_kept() -> None:
    decoder = Decoder(limit=100)
    assert decoder.feed(b"\x1e" + b"x" * 101) == []
    assert decoder.dropped == 1
    assert decoder.feed(b"tail\n" + encode(MESSAGES[0])) == [MESSAGES[0]]


def test_reset_forgets_half_a_frame() -> None:
    decoder = Decoder()
    decoder.feed(encode(MESSAGES[0])[:5])
    decoder.reset()
    assert decoder.feed(encode(MESSAGES[0])[5:] + encode(MESSAGES[2])) == [MESSAGES[2]]


def test_not_a_number_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"time": float("nan")})
