"""Signed images: what is in them, and that the tools of others find the signatures good."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from product.disk.boot_files import kernel_arguments
from product.disk.loader import IN_ROOT
from product.disk.pe import PeError, is_signed, section, signatures
from product.image.build import Builder
from product.image.cache import Cache
from product.image.errors import RecipeError, ToolError
from product.image.recipe import Arch
from product.image.secure_boot import authenticode, keys, own_grub, unified
from product.image.secure_boot.keys import LoaderKind, Signer, Signing
from product.image.tools import IMAGES, HostTools
from product.manifest import UNIFIED_NAME, UNIFIED_SIGNATURE_NAME

STARTED = {Arch.X86_64: "BOOTX64.EFI", Arch.AARCH64: "BOOTAA64.EFI"}


@pytest.fixture(scope="module")
def signers() -> tuple[Signer, Signer]:
    return keys.make("old"), keys.make("new")


@pytest.fixture(scope="module")
def signing_tools() -> HostTools:
    return HostTools.prepare(Cache(), unified.TOOLS)


@pytest.fixture(params=list(Arch))
def arch(request: pytest.FixtureRequest) -> Arch:
    return Arch(request.param)


def verify(tools: HostTools, program: bytes, signer: Signer, folder: Path) -> None:
    """Raises ToolError where sbverify does not take the program for one that ``signer`` signed."""
    (folder / "program.efi").write_bytes(program)
    (folder / "certificate.crt").write_bytes(signer.certificate.public_bytes(Encoding.PEM))
    tools.run("sbverify", "--cert", folder / "certificate.crt", folder / "program.efi")


def test_a_slot_has_one_signed_file_for_all_that_starts(
    cache: Cache,
    arch: Arch,
    signers: tuple[Signer, Signer],
    signing_tools: HostTools,
    tmp_path: Path,
) -> None:
    old, new = signers
    signing = Signing((old, new))
    builder = Builder(arch, cache=cache, recipe=IMAGES / "appliance.toml", signing=signing)
    slot = builder.slot("0.1.0")
    names = [artifact.name for artifact in slot.manifest.artifacts]
    assert names[-2:] == [UNIFIED_NAME, UNIFIED_SIGNATURE_NAME]
    program = (slot.folder / UNIFIED_NAME).read_bytes()
    for signer in signers:
        verify(signing_tools, program, signer, tmp_path)
    with pytest.raises(ToolError):
        verify(signing_tools, program, keys.make("stranger"), tmp_path)
    # A byte of the command line, which nothing reads but by the signature.
    line = kernel_arguments((slot.folder / "kernel.env").read_bytes(), "it")
    assert section(program, ".cmdline") == line.encode()
    changed = program.replace(line.encode(), line.encode().replace(b"panic=1", b"panic=2"))
    assert changed != program
    with pytest.raises(ToolError):
        verify(signing_tools, changed, old, tmp_path)
    for name, file in ((".linux", "vmlinuz"), (".initrd", "initramfs.img")):
        assert section(program, name) == (slot.folder / file).read_bytes()
    assert b"VERSION_ID=0.1.0" in (section(program, ".osrel") or b"")
    date = builder.recipe.source_date
    assert (slot.folder / UNIFIED_SIGNATURE_NAME).read_bytes() == signing.detached(program, date)


def test_what_the_firmware_starts_is_the_owners_alone(
    cache: Cache,
    arch: Arch,
    signers: tuple[Signer, Signer],
    signing_tools: HostTools,
    tmp_path: Path,
) -> None:
    signing = Signing(signers)
    loader = Builder(
        arch, cache=cache, recipe=IMAGES / "appliance.toml", signing=signing
    ).loader() / IN_ROOT  # fmt: skip
    # Neither shim nor Debian's GRUB, which would start every kernel of Debian's.
    programs = sorted(path.name for path in (loader / "EFI/BOOT").iterdir())
    assert programs == [STARTED[arch]]
    program = (loader / "EFI/BOOT" / STARTED[arch]).read_bytes()
    for signer in signers:
        verify(signing_tools, program, signer, tmp_path)
    for key in signing.grub_keys():
        assert key in program
    # The contract is in it, to the byte, under the signature.
    assert (IMAGES / "boot/grub.cfg").read_bytes() in program
    assert b"grub.debian" in (section(program, ".sbat") or b"")
    # No command that starts a kernel by itself or reads another configuration.
    for command in ("initrd", "configfile", "smbios", "multiboot", "xen_module"):
        assert b"\0" + command.encode() + b"\0" not in program, command


def test_by_way_of_the_shim_what_starts_is_debians(
    cache: Cache, signers: tuple[Signer, Signer]
) -> None:
    """The certificate is then enrolled as MOK; the boot loader is that of every image."""
    plain = Builder(Arch.X86_64, cache=cache, recipe=IMAGES / "appliance.toml")
    signed = Builder(
        Arch.X86_64,
        cache=cache,
        recipe=IMAGES / "appliance.toml",
        signing=Signing(signers, LoaderKind.SHIM),
    )
    files = sorted(path for path in (plain.loader() / IN_ROOT).rglob("*") if path.is_file())
    for path in files:
        other = signed.loader() / IN_ROOT / path.relative_to(plain.loader() / IN_ROOT)
        assert other.read_bytes() == path.read_bytes()


def test_equal_parts_give_equal_bytes(signers: tuple[Signer, Signer], packages: Path) -> None:
    stub = (packages / "usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()
    signing = Signing(signers)
    once, again = signing.program(stub), signing.program(stub)
    assert once == again
    assert signing.program(once) == once
    assert len(signatures(once)) == 2
    assert not is_signed(authenticode.strip(once))


def test_what_is_no_program_is_not_signed(signers: tuple[Signer, Signer]) -> None:
    for content in (b"", b"MZ", b"MZ" + bytes(4096)):
        with pytest.raises(PeError):
            Signing(signers).program(content)


@pytest.fixture
def packages(cache: Cache, tmp_path: Path) -> Path:
    """The unpacked boot packages of x86_64."""
    from product.image.locks import Lock
    from product.image.packages import fetch, unpack_all
    from product.image.recipe import Recipe

    lock = Lock.load(Recipe.load(IMAGES / "appliance.toml").lock_path(Arch.X86_64))
    unpack_all(list(fetch(lock.group("boot"), cache).values()), tmp_path / "packages")
    return tmp_path / "packages"


def test_a_board_without_uefi_has_no_owners_keys(signers: tuple[Signer, Signer]) -> None:
    with pytest.raises(RecipeError, match="rpi-tryboot has no Secure Boot"):
        Builder(
            Arch.AARCH64,
            recipe=IMAGES / "appliance.toml",
            hardware="rpi-tryboot",
            signing=Signing(signers),
        )


def test_the_modules_come_from_the_source_of_the_signed_grub() -> None:
    """Else the list of revocations, which is copied, would be another's."""
    from product.image.locks import Lock
    from product.image.recipe import Recipe

    for arch in Arch:
        modules = Lock.load(Recipe.load(own_grub.RECIPE).lock_path(arch)).packages[0].version
        boot = Lock.load(Recipe.load(IMAGES / "appliance.toml").lock_path(arch)).group("boot")
        [signed] = [one.version for one in boot if one.name.startswith("grub-efi-")]
        assert signed == "1+" + modules.replace("-", "+", 1)
