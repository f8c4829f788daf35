"""The unified kernel image of a slot: kernel, initramfs and command line in one program for UEFI.

systemd-stub, which it begins with, uses its own command line alone where Secure Boot is on. ukify
of the locked packages puts the parts together; equal parts give equal bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from product.image.recipe import Arch
from product.image.tools import IMAGES, HostTools

TOOLS = IMAGES / "signing-tools.toml"
_STUB = "usr/lib/systemd/boot/efi/linux{}.efi.stub"
SUFFIX = {Arch.X86_64: "x64", Arch.AARCH64: "aa64"}


class Parts(NamedTuple):
    """Files and texts: ``packages`` are the unpacked boot packages, ``release`` is what uname -r
    will say, ``command_line`` the whole of it."""

    packages: Path
    kernel: Path
    initramfs: Path
    command_line: str
    release: str
    version: str


def build(parts: Parts, arch: Arch, tools: HostTools, work: Path) -> bytes:
    """The program, not signed yet; ``tools`` are those of TOOLS. Raises ToolError."""
    target = work / "linux.efi"
    system = f'ID=kubesolo-os\nNAME="KubeSolo OS"\nVERSION_ID={parts.version}\n'
    # By the generation, here 1, an owner can revoke images of before where a shim is in use.
    revocation = (
        "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
        f"kubesolo-os,1,KubeSolo OS,kubesolo-os,{parts.version},-\n"
    )
    tools.run(
        "python3.13", "-s", "-P", "-B", tools.path("usr/bin/ukify"), "build",
        "--efi-arch", SUFFIX[arch], "--stub", parts.packages / _STUB.format(SUFFIX[arch]),
        "--linux", parts.kernel, "--initrd", parts.initramfs, "--uname", parts.release,
        "--cmdline", parts.command_line, "--os-release", system, "--sbat", revocation,
        "--output", target, cwd=work, environment={"PYTHONHOME": str(tools.root / "usr")},
    )  # fmt: skip
    return target.read_bytes()
