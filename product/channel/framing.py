"""Frames of the command channel: JSON text sequences (RFC 7464).

A frame is the byte 0x1e, one JSON object in ASCII without control characters, and 0x0a. Neither
byte occurs inside the object, so that a reader finds the next frame after any damage, and bytes
outside frames (kernel messages on a shared serial line, a boot loader's screen) are skipped.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # Type checkers take it for true; importing typing costs the node's boot.
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 1
PORT_NAME = "io.kubesolo.channel"

RECORD_SEPARATOR = b"\x1e"
LINE_FEED = b"\n"

# Raw bytes of one output chunk; as base64 in JSON it stays under 48 KiB.
CHUNK = 32 * 1024

# Room for a few MiB of standard input in base64; a longer frame is damage or an attack.
MAX_FRAME = 8 * 1024 * 1024

if TYPE_CHECKING:
    Message = dict[str, Any]
else:
    Message = dict


def encode(message: Message) -> bytes:
    """One frame. Non-ASCII text is escaped; NaN and infinities raise ValueError."""
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return RECORD_SEPARATOR + body.encode("ascii") + LINE_FEED


class Decoder:
    """Finds frames in a byte stream that arrives in arbitrary pieces.

    ``dropped`` counts frames that began and did not hold one JSON object.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._frame: list[bytes] | None = None
        self._size = 0
        self.dropped = 0

    def reset(self) -> None:
        """Forget a frame begun before the peer went away."""
        self._frame = None
        self._size = 0

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the messages that they complete, in order."""
        messages: list[Message] = []
        position = 0
        while position < len(data):
            if self._frame is None:
                start = data.find(RECORD_SEPARATOR, position)
                if start < 0:
                    break
                self._begin()
                position = start + 1
                continue
            end = data.find(LINE_FEED, position)
            stop = end if end >= 0 else len(data)
            # A separator inside a frame means that the frame's end was lost.
            restart = data.rfind(RECORD_SEPARATOR, position, stop)
            if restart >= 0:
                self.dropped += 1
                self._begin()
                position = restart + 1
            self._append(data[position:stop])
            position = stop
            if end >= 0:
                position += 1
                self._finish(messages)
        return messages

    def _begin(self) -> None:
        self._frame = []
        self._size = 0

    def _append(self, piece: bytes) -> None:
        if self._frame is None:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self.dropped += 1
            self.reset()
            return
        self._frame.append(piece)

    def _finish(self, messages: list[Message]) -> None:
        if self._frame is None:
            return
        body = b"".join(self._frame)
        self.reset()
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            messages.append(message)
        else:
            self.dropped += 1
