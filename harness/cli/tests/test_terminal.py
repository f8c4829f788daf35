"""The terminal's own end of a console."""

from __future__ import annotations

import os
import select

from harness.cli.terminal import _raw


def test_what_was_typed_before_is_not_lost() -> None:
    """A user types as soon as the hint is shown."""
    ours, terminal = os.openpty()
    try:
        os.write(ours, b"ls\r")
        assert select.select([terminal], [], [], 10.0)[0]
        with _raw(terminal):
            assert select.select([terminal], [], [], 10.0)[0], "the keys were thrown away"
            assert os.read(terminal, 64) == b"ls\n"
    finally:
        os.close(ours)
        os.close(terminal)
