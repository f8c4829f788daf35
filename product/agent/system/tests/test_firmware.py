"""What the firmware says of Secure Boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.system.firmware import secure_boot
from product.agent.system.paths import Paths

VARIABLE = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
OTHER = "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({VARIABLE: b"\6\0\0\0\1"}, "on"),
        ({VARIABLE: b"\6\0\0\0\0"}, "off"),
        ({OTHER: b"\7\0\0\0\0\0"}, "unsupported"),
        # Not mounted, or not what it should be.
        ({}, None),
        ({VARIABLE: b"\6\0\0\0"}, None),
        ({VARIABLE: b"\6\0\0\0\1\1"}, None),
    ],
)
def test_the_variable_says_whether_it_is_enforced(
    tmp_path: Path, variables: dict[str, bytes], expected: str | None
) -> None:
    folder = tmp_path / "sys/firmware/efi/efivars"
    folder.mkdir(parents=True)
    for name, content in variables.items():
        (folder / name).write_bytes(content)
    assert secure_boot(Paths(str(tmp_path))) == expected


def test_a_machine_with_bios_has_none(tmp_path: Path) -> None:
    (tmp_path / "sys/firmware").mkdir(parents=True)
    assert secure_boot(Paths(str(tmp_path))) == "unsupported"


def test_variables_that_no_folder_shows_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "sys/firmware/efi").mkdir(parents=True)
    assert secure_boot(Paths(str(tmp_path))) is None
