"""The owner's own GRUB: the boot contract and the owner's keys are in it, under its signature.

Debian's signed GRUB reads its configuration from the disk, where nothing protects it, and starts
every kernel that Debian signed, with any initramfs. This one has no command that reads another
configuration or starts a kernel: it starts programs for UEFI alone, which its own verifier and the
firmware both must know. The modules are Debian's, unchanged.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from product.disk.pe import PeError, section
from product.image.errors import ImageError
from product.image.recipe import Arch
from product.image.secure_boot.keys import Signing
from product.image.tools import IMAGES, HostTools

# The recipe whose lock names the package of the modules.
RECIPE = IMAGES / "own-boot.toml"
FORMAT = {Arch.X86_64: "x86_64-efi", Arch.AARCH64: "arm64-efi"}
# What grub.cfg needs of it, and what checks signatures. No module that reads a configuration from a
# disk (configfile), starts a kernel (linux) or changes memory (mmap, iorw) belongs here.
MODULES = (
    "part_gpt", "fat", "ext2", "normal", "loadenv", "echo", "test", "regexp", "reboot", "sleep",
    "probe", "true", "minicmd", "chain", "memdisk", "tar", "pgp", "gcry_rsa",
    "gcry_sha1", "gcry_sha256",
)  # fmt: skip
# For GRUB's simplest reader. Its command line asks for a user, and there is none.
_FIRST = "set own_chain=1\nset superusers=nobody\nexport superusers\nnormal (memdisk)/grub.cfg\n"


def build(
    modules: Path, debian: Path, config: bytes, signing: Signing, arch: Arch, tools: HostTools,
    work: Path,
) -> bytes:  # fmt: skip
    """The signed program; ``modules`` and ``debian`` are the unpacked packages of GRUB's modules
    and of the boot loader, whose signed GRUB says which revocations concern it.

    Raises ImageError where they lack something.
    """
    folder = modules / "usr/lib/grub" / FORMAT[arch]
    absent = [name for name in MODULES if not (folder / f"{name}.mod").is_file()]
    if absent:
        raise ImageError(f"{RECIPE.name} gives no GRUB for {arch} with {', '.join(absent)}")
    files = {
        "first.cfg": _FIRST.encode(),
        "memdisk.tar": _archive("grub.cfg", config),
        "sbat.csv": _revocations(debian, arch),
    }
    for name, content in files.items():
        (work / name).write_bytes(content)
    keys: list[str | Path] = []
    for number, content in enumerate(signing.grub_keys()):
        (work / f"{number}.key").write_bytes(content)
        keys += ["--pubkey", work / f"{number}.key"]
    target = work / "own-grub.efi"
    tools.run(
        # The prefix comes after the memdisk, which would be the prefix else.
        "grub-mkimage", "-O", FORMAT[arch], "-d", folder, "-c", work / "first.cfg",
        "-m", work / "memdisk.tar", "-p", "/EFI/debian", "--sbat", work / "sbat.csv",
        "--disable-shim-lock", *keys, "-o", target, *MODULES,
    )  # fmt: skip
    return signing.program(target.read_bytes())


def _archive(name: str, content: bytes) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


def _revocations(debian: Path, arch: Arch) -> bytes:
    """The section .sbat of Debian's signed GRUB, of the same source as the modules."""
    found = sorted(
        (debian / "usr/lib/grub" / f"{FORMAT[arch]}-signed").glob("grub[xa]*.efi.signed")
    )
    try:
        text = section(found[0].read_bytes(), ".sbat") if found else None
    except PeError as error:
        raise ImageError(f"{found[0]} has no list of revocations: {error}") from None
    if text is None:
        raise ImageError("the boot packages hold no signed GRUB that says which revocations it has")
    return text.rstrip(b"\0")
