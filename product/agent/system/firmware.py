"""What the machine's firmware says of itself."""

from __future__ import annotations

import os

from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

ON, OFF, UNSUPPORTED = "on", "off", "unsupported"
_VARIABLE = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Attributes, then the value.
_BYTES = 5


def secure_boot(paths: Paths) -> str | None:
    """Whether the firmware enforces Secure Boot: on, off, or unsupported where it has none.

    None where its variables cannot be read. The variable is the UEFI specification's (3.3, Globally
    Defined Variables); the file's layout is that of the kernel's efivarfs.
    """
    try:
        if not os.path.isdir(paths.efi):
            return UNSUPPORTED
        # Empty where it is not mounted: every firmware has some variables.
        names = os.listdir(paths.efi_variables)
        if not names:
            return None
        if _VARIABLE not in names:
            return UNSUPPORTED
        value = read_bounded(f"{paths.efi_variables}/{_VARIABLE}", _BYTES)
    except (OSError, ValueError):
        return None
    return (ON if value[-1] == 1 else OFF) if len(value) == _BYTES else None
