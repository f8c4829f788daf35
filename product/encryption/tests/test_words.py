"""What people write and type: the wish, the recovery key, lines at a console."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from product.cloudinit.sources import Where
from product.encryption import ask, recovery, wish
from product.encryption.errors import EncryptionError
from product.encryption.wish import Kind


@pytest.mark.parametrize("kind", Kind)
def test_what_flash_writes_is_read(kind: Kind) -> None:
    assert wish.parse(wish.write(kind)) is kind


def test_editors_and_unknown_keys() -> None:
    text = b"\xef\xbb\xbf# mine\r\nlater = x\r\n key = TPM # the machine's\r\n"
    assert wish.parse(text) is Kind.TPM


@pytest.mark.parametrize("text", [b"", b"key=", b"key=disk\n", b"tpm\n", b"#key=tpm\n"])
def test_a_wish_for_nothing_known_is_an_error(text: bytes) -> None:
    with pytest.raises(EncryptionError, match="says key="):
        wish.parse(text)


def test_a_recovery_key_survives_a_person() -> None:
    key = recovery.make()
    assert len(key) == 71
    assert key != recovery.make()
    assert recovery.parse(key) == key
    assert recovery.parse(f"  {key.upper().replace('-', ' ')}\n") == key


@pytest.mark.parametrize(
    ("typed", "message"), [("cb-de", "4 were typed"), ("x" * 64, "has no x"), ("", "0 were typed")]
)
def test_what_is_no_recovery_key(typed: str, message: str) -> None:
    with pytest.raises(EncryptionError, match=message):
        recovery.parse(typed)


def test_lines_of_two_consoles_until_the_time_is_over() -> None:
    ours, theirs = zip(*(os.openpty() for _ in range(2)), strict=True)
    names = [os.ttyname(end) for end in theirs]
    os.write(ours[1], b"first\r")
    lines = ask.typed_lines(names, 30.0)
    assert next(lines) == "first"
    os.write(ours[0], b"\rsec")
    os.write(ours[0], b"ond\r")
    assert next(lines) == "second"
    lines.close()  # type: ignore[attr-defined]
    assert list(ask.typed_lines(names, 0.1)) == []
    for end in (*ours, *theirs):
        os.close(end)


def test_who_sits_at_the_screen_is_asked_as_well(tmp_path: Path) -> None:
    active = tmp_path / "sys/class/tty/console/active"
    active.parent.mkdir(parents=True)
    where = Where(str(tmp_path))
    active.write_text("tty0 ttyS0\n")
    assert [Path(name).name for name in ask.consoles(where)] == ["console", "tty0"]
    active.write_text("tty0\n")
    assert [Path(name).name for name in ask.consoles(where)] == ["console"]
