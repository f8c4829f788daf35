"""A key sealed by the machine's TPM 2.0, through tpm2-tools.

The TPM gives the key only while PCR 7 is what it was when the key was sealed: the firmware measures
into it whether Secure Boot is on, its keys, and which of them a boot loader was signed with (TCG PC
Client Platform Firmware Profile, section 3.3.4). Kernel, initramfs and command line are not part of
it, so updates and rollbacks change nothing. What the TPM answers is encrypted for a session that is
salted with the primary key: who listens on its bus learns nothing.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from product.encryption.errors import (
    EncryptionError,
    ForeignTpmError,
    NoTpmError,
    PolicyError,
    ProgramFailedError,
)
from product.encryption.programs import Run, run

# The kernel's resource manager: it forgets what a program leaves behind.
DEVICE = "/dev/tpmrm0"
PCRS = "sha256:7"
# Where contexts lie, in memory.
_WORK = "/run/kubesolo"
_WAIT_SECONDS = 5.0
# Nothing but what a policy allows may use it; wrong policies lock nothing out.
_ATTRIBUTES = "fixedtpm|fixedparent|noda"
# Response codes as tpm2-tools print them, the number of the parameter or session left out: TPM 2.0
# part 2, section 6.6.
_CODE = re.compile(r"\(?0x([0-9A-Fa-f]{3,8})\)?")
_INTEGRITY, _POLICY_FAIL = 0x9F, 0x9D
_FORMAT_ONE, _ERROR = 0x80, 0xBF


class Sealed(NamedTuple):
    """A sealed key, which only the TPM that made it can open; no secret by itself."""

    public: bytes
    private: bytes
    pcrs: str = PCRS

    def fields(self) -> dict[str, Any]:
        """As a token of the LUKS header keeps it."""
        return {
            "public": base64.b64encode(self.public).decode(),
            "private": base64.b64encode(self.private).decode(),
            "pcrs": self.pcrs,
        }

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Sealed:
        """Raises EncryptionError."""
        try:
            public, private = (base64.b64decode(fields[name]) for name in ("public", "private"))
            return cls(public, private, str(fields["pcrs"]))
        except (KeyError, ValueError, TypeError):
            raise EncryptionError("the sealed key in the LUKS header is damaged") from None


class Tpm:
    """The machine's TPM; every method raises EncryptionError."""

    def __init__(self, device: str = DEVICE, run: Run = run, work: str = _WORK) -> None:
        self._device = device
        self._run = run
        self._work = work

    def require(self, seconds: float = _WAIT_SECONDS) -> None:
        """Wait for the device. Raises NoTpmError."""
        with suppress(EncryptionError):
            self._run(["modprobe", "-q", "-a", "-b", "tpm_tis", "tpm_crb", "tpm_tis_spi"])
        end = time.monotonic() + seconds
        while not os.path.exists(self._device):
            if time.monotonic() > end:
                raise NoTpmError(
                    "this machine has no TPM 2.0",
                    hint="switch it on in the firmware's settings, or use key=usb",
                )
            time.sleep(0.1)

    def measured(self) -> str:
        """What PCR 7 has, in hex."""
        text = self._tool(["pcrread", PCRS]).decode(errors="replace")
        found = re.search(r"7\s*:\s*0x([0-9A-Fa-f]{64})", text)
        if not found:
            raise EncryptionError(f"the TPM has no {PCRS}")
        return found[1].lower()

    def seal(self, key: bytes) -> Sealed:
        """Seal ``key`` to what PCR 7 has now."""
        with tempfile.TemporaryDirectory(prefix="tpm-", dir=self._work) as folder:
            path = _paths(folder)
            self._primary(path("primary"))
            self._tool(["createpolicy", "-Q", "--policy-pcr", "-l", PCRS, "-L", path("policy")])
            argv = [
                "create", "-Q", "-C", path("primary"), "-L", path("policy"), "-a", _ATTRIBUTES,
                "-i", "-", "-u", path("public"), "-r", path("private"),
            ]  # fmt: skip
            self._tool(argv, stdin=key)
            return Sealed(_read(path("public")), _read(path("private")))

    def unseal(self, sealed: Sealed) -> bytes:
        """The key. Raises ForeignTpmError, PolicyError."""
        with tempfile.TemporaryDirectory(prefix="tpm-", dir=self._work) as folder:
            path = _paths(folder)
            for name, data in (("public", sealed.public), ("private", sealed.private)):
                with open(path(name), "wb") as stream:
                    stream.write(data)
            self._primary(path("primary"))
            argv = ["load", "-Q", "-C", path("primary"), "-u", path("public")]
            try:
                self._tool([*argv, "-r", path("private"), "-c", path("key")])
            except ProgramFailedError as error:
                if _error_of(error) != _INTEGRITY:
                    raise
                raise ForeignTpmError(
                    "this TPM did not seal the key: it is another machine's disk, or the TPM was "
                    "cleared"
                ) from None
            session = path("session")
            argv = ["startauthsession", "-Q", "--policy-session", "-S", session]
            self._tool([*argv, "--tpmkey-context", path("primary")])
            self._tool(["sessionconfig", "--enable-encrypt", session])
            self._tool(["policypcr", "-Q", "-S", session, "-l", sealed.pcrs])
            try:
                return self._tool(["unseal", "-Q", "-c", path("key"), "-p", f"session:{session}"])
            except ProgramFailedError as error:
                if _error_of(error) != _POLICY_FAIL:
                    raise
                raise PolicyError(
                    "the TPM keeps the key back: Secure Boot was switched, or the firmware's keys "
                    "or the boot loader's signature changed since (PCR 7)"
                ) from None

    def _primary(self, context: str) -> None:
        """The same key each time, derived from the TPM's seed of the owner's hierarchy."""
        self._tool(["createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", context])

    def _tool(self, words: Sequence[str], stdin: bytes = b"") -> bytes:
        environment = {"TPM2TOOLS_TCTI": f"device:{self._device}"}
        return self._run(["tpm2", *words], stdin=stdin, environment=environment)


def _paths(folder: str) -> Callable[[str], str]:
    return lambda name: os.path.join(folder, name)


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _error_of(error: ProgramFailedError) -> int | None:
    """The TPM's response code without the number of what it is about; None where there is none."""
    for found in _CODE.findall(error.words):
        code = int(found, 16)
        if code < 0x1000 and code & _FORMAT_ONE:
            return code & _ERROR
    return None
