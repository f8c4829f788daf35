"""The boot loader's contract as the oracle knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.bootloader.grubenv import format_block
from scenarios.crash.oracle import Decision, Env, Memory, Oracle, Unbootable, decide

GRUB = Path(__file__).resolve().parents[3] / "images/boot/grub.cfg"


@pytest.mark.parametrize(
    ("env", "slot", "left", "rolled_back"),
    [
        (Env("A", 3, True), "A", Env("A", 3, True), False),
        (Env("B", 0, True), "B", Env("B", 0, True), False),
        (Env("B", 3, False), "B", Env("B", 2, False), False),
        (Env("B", 1, False), "B", Env("B", 0, False), False),
        (Env("B", 0, False), "A", Env("A", 0, True), True),
        (Env("A", 0, False), "B", Env("B", 0, True), True),
    ],
)
def test_what_grub_decides(env: Env, slot: str, left: Env, rolled_back: bool) -> None:
    assert decide(env) == Decision(slot, left, rolled_back)


def test_the_contract_is_still_that_of_grub() -> None:
    """Who changes these lines has to look at ``decide``."""
    text = GRUB.read_text()
    for line in (
        'if [ "$boot_success" = "1" ]; then\n        return',
        'if [ "$boot_counter" = "3" ]; then set boot_counter=2',
        "set active_slot=$other_slot\n        set boot_success=1\n        resolve\n",
    ):
        assert line in text


def _block(**values: str) -> bytes:
    return format_block(values, {})


def test_an_environment_is_read_as_grub_reads_it() -> None:
    block = _block(active_slot="B", boot_counter="2", boot_success="0", trial="token")
    assert Oracle._environment(block) == Env("B", 2, False, "token")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (None, "there is no boot environment"),
        (b"", "garbage"),
        (bytes(1024), "garbage"),
        (_block(active_slot="C", boot_counter="2", boot_success="0"), "says 'C'"),
        (_block(active_slot="A", boot_counter="4", boot_success="0"), "says 'A' '4'"),
        (_block(active_slot="A", boot_counter="3"), "says 'A' '3' ''"),
        (_block(active_slot="A", boot_counter="3", boot_success="1")[:512], "could not write"),
    ],
)
def test_an_environment_that_grub_cannot_use(block: bytes | None, said: str) -> None:
    with pytest.raises(Unbootable, match=said):
        Oracle._environment(block)


def test_a_judgement_is_made_once_whatever_it_is() -> None:
    memory = Memory()
    asked: list[str] = []

    def bad() -> str:
        asked.append("bad")
        raise Unbootable("torn")

    def good() -> str:
        asked.append("good")
        return "whole"

    for _ in range(3):
        with pytest.raises(Unbootable, match="torn"):
            memory.get("part", 1, bad)
        assert memory.get("part", 2, good) == "whole"
    assert asked == ["bad", "good"]
    assert memory.asked == {"part": 2}
