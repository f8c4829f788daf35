"""What is read of other processes."""

from __future__ import annotations

import os
import time

from harness.qemu.process import alive, cpu_seconds, start_time


def test_a_process_processors_are_those_that_it_says_itself() -> None:
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    before = time.process_time()
    used = cpu_seconds(os.getpid())
    # The kernel counts whole ticks of each of the two.
    assert before - 0.03 <= used <= time.process_time() + 0.03
    assert alive(os.getpid())
    assert start_time(os.getpid())
